"""The README's picture: series in the order of a ranker, and the leaderboard of its search.

    make example && .venv/bin/python docs/pictures/picks.py

Reads `outputs/example/` and writes `docs/pictures/picks.jpg`. Each series is of a photograph that
the model had not seen. The photographs are real, the preferences SYNTHETIC. These three photographs
are in the public domain (CC0), by Stéfan van der Walt, Rachel Michetti and SpaceX.
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

import jaxrank

EXAMPLE = Path("outputs/example")
OUT = Path(__file__).with_name("picks.jpg")
# A scene and the group of photographs that its photograph is held out with.
SERIES = {"chelsea-00": 3, "coffee-00": 0, "rocket-00": 1}
ENTRIES = ("tiny_mlp", "ridge", "linear", "signed_sum", "sharpness", "shuffled")
NAMES = {"tiny_mlp": "tiny_mlp (small network)", "shuffled": "shuffled (control)"}
GREEN = "#2a7f3f"


def main() -> None:
    figure = plt.figure(figsize=(12, 5), layout="constrained")
    subfigures: Any = figure.subfigures(1, 2, width_ratios=(1.9, 1))
    photos, board = subfigures
    axes = photos.subplots(len(SERIES), 6)
    for row, (series, group) in zip(axes, SERIES.items(), strict=True):
        draw_series(row, series, group)
    photos.suptitle("Photos of unseen series, best first by the ranker", fontsize=11)
    draw_leaderboard(board.subplots(), pd.read_csv(EXAMPLE / "search_0" / "summary.csv"))
    board.suptitle("Leaderboard: test accuracy with 95% intervals", fontsize=11)
    figure.supxlabel("Real photographs, SYNTHETIC preferences (make example)", fontsize=8)
    figure.savefig(OUT, dpi=110, pil_kwargs={"quality": 82, "optimize": True})


def draw_series(axes: Any, series: str, group: int) -> None:
    features = EXAMPLE / "features"
    ranked = jaxrank.rank_photos(EXAMPLE / f"search_{group}", features, features / "series.csv")
    table = ranked.table[ranked.table["series_id"] == series]
    done = what_was_done(pd.read_csv(EXAMPLE / f"group_{group}.csv", keep_default_na=False))
    for axis, photo in zip(axes, table.itertuples(), strict=True):
        with Image.open(EXAMPLE / "photos" / str(photo.image)) as image:
            axis.imshow(image.resize((150, 150)))
        axis.set_title(
            f"{'PICK: ' if photo.pick else ''}{done[str(photo.image)]}\n{photo.p_best:.0%} best",
            fontsize=7,
            color=GREEN if photo.pick else "black",
        )
        axis.set(xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set(color=GREEN if photo.pick else "lightgrey", linewidth=3)


def what_was_done(pairs: pd.DataFrame) -> dict[str, str]:
    """By photo, how it was made worse; the original is the better photo of these pairs."""
    against = pairs[pairs["degradation"] != ""]
    done: dict[str, str] = {}
    for pair in against.itertuples():
        worse, better = pair.image_b, pair.image_a
        if pair.worse == "a":
            worse, better = better, worse
        done |= {str(worse): str(pair.degradation), str(better): "original"}
    return done


def draw_leaderboard(axis: Any, summary: pd.DataFrame) -> None:
    rows = summary.set_index("experiment_name").loc[list(ENTRIES)].sort_values("test_accuracy")
    for place, (name, row) in enumerate(rows.iterrows()):
        accuracy, low, high = 100 * row[["test_accuracy", "test_ci_low", "test_ci_high"]]
        color = GREEN if name == "tiny_mlp" else "#4a5a70"
        axis.plot([low, high], [place, place], color=color, linewidth=2)
        axis.plot(accuracy, place, "o", color=color)
        axis.text(accuracy, place + 0.15, f"{accuracy:.1f}%", ha="center", color=color, fontsize=8)
    axis.set_yticks(range(len(rows)), [NAMES.get(str(name), str(name)) for name in rows.index])
    axis.axvline(50, color="black", linewidth=0.8, linestyle=":")
    axis.set(xlim=(40, 100), ylim=(-0.5, len(rows) - 0.4))
    axis.set_xlabel("percent of test pairs; dotted: chance", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
