"""Series that are set aside: no fold sees them, and what is tied for best is measured on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import make_data

import jaxrank
from jaxrank.data import splits
from jaxrank.errors import UserError
from jaxrank.runner.confirmation import CONFIRMATION_CSV, _confirming, _with_new_seed
from jaxrank.runner.prepare import prepare
from jaxrank.runner.splitting import aside_pairs
from jaxrank.training.checkpointing import Saver

DATA = make_data(150)
SMALL: dict[str, Any] = {
    "space": {"learning_rate": [1e-2, 1.1e-2, 1e-5]},
    "overrides": {"max_epochs": 4, "batch_size": 32, "mlp_hidden_dims": ""},
    "folds": 3, "confirm_share": 0.2, "confirm": 2, "audit": "off",
}  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return jaxrank.search(*DATA, workdir=tmp_path_factory.mktemp("confirmed") / "w", **SMALL)


def test_no_fold_uses_series_that_are_set_aside() -> None:
    options = {"folds": 3, "experiments": ["tiny_mlp"]}
    whole = prepare(*DATA, **options).split_data  # type: ignore[arg-type]
    data = prepare(*DATA, **options, confirm_share=0.2).split_data  # type: ignore[arg-type]
    aside = aside_pairs(data)
    series = set(data.dataset.series_M[aside])
    assert len(series) == round(0.2 * len(data.dataset.series_ids))
    others = np.delete(np.arange(len(data.dataset.series_M)), aside)
    assert not series & set(data.dataset.series_M[others])
    np.testing.assert_array_equal(data.splits_FM[:, others], whole.splits_FM[:, others])
    confirming = _confirming(data)
    for fold in range(3):
        assert set(confirming.rows(fold, splits.TEST)) == set(aside)
        for split in (splits.TRAIN, splits.VALIDATION):
            np.testing.assert_array_equal(confirming.rows(fold, split), data.rows(fold, split))
        # Every part loses about its share.
        assert 0 < len(data.rows(fold, splits.TEST)) < len(whole.rows(fold, splits.TEST))


def test_new_seeds_are_none_of_the_search() -> None:
    launched = prepare(*DATA, experiments=["tiny_mlp"], num_seeds=2, seed=3)
    mine = [trial for trial in launched.trials if trial.experiment.name == "tiny_mlp"]
    assert [_with_new_seed(trial, mine).seed for trial in mine] == [5, 6]


def test_what_is_tied_is_confirmed(searched: Any) -> None:
    table = pd.read_csv(searched.workdir / CONFIRMATION_CSV)
    summary = searched.summary.set_index("experiment_name")
    (selected,) = summary.index[summary["outcome"] == "selected"]
    assert table.loc[0, "experiment_name"] == selected
    assert len(table) == 2
    assert summary.loc[table.loc[1, "experiment_name"], "outcome"].startswith("tied")
    assert table.loc[0, "diff_to_selected"] == 0
    assert (table["ci_low"] < table["accuracy"]).all()
    difference = table["accuracy"] - table.loc[0, "accuracy"]
    np.testing.assert_allclose(table["diff_to_selected"], difference, atol=1e-12)
    (note,) = (note for note in searched.notes if note.startswith("Confirmed on 30 series"))
    assert (
        f"{selected}, selected by the search, has accuracy {100 * table.loc[0, 'accuracy']:.1f}%"
        in note
    )
    assert (table["accuracy"] > 0.6).all()  # it has learned, and is measured on its own photos
    trials = pd.read_csv(searched.workdir / "trials.csv")
    assert set(trials["seed"]) == {0}  # the search's own


def test_the_final_model_leaves_them_out(searched: Any) -> None:
    photos = set(jaxrank.load_model(searched.workdir / "final").seen["train"])
    launched = prepare(*DATA, experiments=["tiny_mlp"], folds=3, confirm_share=0.2)
    dataset = launched.dataset
    aside = set(dataset.photos[dataset.pair_rows_M2[aside_pairs(launched.split_data)].ravel()])
    assert aside
    assert not photos & aside
    assert photos | aside == set(dataset.photos)
    # Asked for, all series train it: it is another model, and not read from the archive.
    jaxrank.search(*DATA, workdir=searched.workdir, resume=True, final_on="all")
    photos = set(jaxrank.load_model(searched.workdir / "final").seen["train"])
    assert photos == set(dataset.photos)


def test_a_confirmation_is_not_repeated(
    searched: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from jaxrank.runner import confirmation

    def trained(*args: Any) -> None:
        raise AssertionError("the confirmation is trained again")

    monkeypatch.setattr(confirmation, "_train", trained)
    before = (searched.workdir / CONFIRMATION_CSV).read_bytes()
    (searched.workdir / CONFIRMATION_CSV).unlink()
    jaxrank.search(*DATA, workdir=searched.workdir, resume=True)
    assert (searched.workdir / CONFIRMATION_CSV).read_bytes() == before


def test_its_saver_is_closed(searched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Saver] = []
    closed: list[Saver] = []
    of, close = Saver.of, Saver.close

    def opening(saver: Saver, key: str) -> Saver:
        opened.append(of(saver, key))
        return opened[-1]

    def closing(saver: Saver) -> None:
        closed.append(saver)
        close(saver)

    monkeypatch.setattr(Saver, "of", opening)
    monkeypatch.setattr(Saver, "close", closing)
    (searched.workdir / CONFIRMATION_CSV).unlink()
    (searched.workdir / "checkpoints" / "-1000.npz").unlink()
    jaxrank.search(*DATA, workdir=searched.workdir, resume=True)
    assert opened
    assert all(saver in closed for saver in opened)


def test_another_number_is_confirmed_afterwards(searched: Any) -> None:
    again = jaxrank.search(*DATA, workdir=searched.workdir, resume=True, confirm=1)
    assert not again.nothing_to_do
    assert len(pd.read_csv(searched.workdir / CONFIRMATION_CSV)) == 1
    with pytest.raises(UserError, match=r"another split \(.*, --confirm_share\)"):
        jaxrank.search(*DATA, workdir=searched.workdir, resume=True, confirm_share=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confirm_share": 0.6}, "--confirm_share=0.6 is not a share from 0 to 0.5"),
        ({"confirm_share": 0.2, "split": "random"}, "needs whole series"),
        ({"confirm_share": 1e-4}, "no series with a preference would be set aside"),
    ],
)
def test_impossible_shares_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(*DATA, experiments=["tiny_mlp"], **options)
