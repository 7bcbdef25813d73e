"""Learning curves: one figure is used again for all experiments."""

from pathlib import Path

import numpy as np
import pandas as pd

from jaxrank.reporting import figures


def history(num_trials: int, num_epochs: int, scale: float) -> pd.DataFrame:
    rows = [(0, seed, epoch) for seed in range(num_trials) for epoch in range(num_epochs)]
    table = pd.DataFrame(rows, columns=["fold", "seed", "epoch"])
    for place, name in enumerate(("running_train", "val")):
        for metric in ("loss", "accuracy"):
            table[f"{name}_{metric}"] = scale * (place + 1) / (1 + table["epoch"] + table["seed"])
    return table


def test_curves_do_not_depend_on_those_drawn_before(tmp_path: Path) -> None:
    small, large = history(1, 3, 0.4), history(3, 30, 9.0)
    large.loc[4, "val_loss"] = np.nan  # a trial that failed
    figures._curves_figure.cache_clear()
    figures.draw_curves(tmp_path / "alone.png", "small $a_b$", small)
    figures.draw_curves(tmp_path / "large.png", "large", large)
    figures.draw_curves(tmp_path / "nothing.png", "nothing", large[:0])
    huge = small.assign(running_train_loss=1e30, val_loss=1e30)
    figures.draw_curves(tmp_path / "huge.png", "a huge loss", huge)
    figures.draw_curves(tmp_path / "after.png", "small $a_b$", small)
    alone = (tmp_path / "alone.png").read_bytes()
    assert (tmp_path / "after.png").read_bytes() == alone
    assert (tmp_path / "large.png").read_bytes() != alone
