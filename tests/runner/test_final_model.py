"""The final model: the selected configuration on all series, the same bits on every way."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from jaxrank import load_model, rank_photos, search, train
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.evaluation import ensembles
from jaxrank.evaluation.hits import Pooled
from jaxrank.evaluation.selection import Chosen
from jaxrank.inference.saved_model import Model
from jaxrank.runner import final_model, final_training
from jaxrank.runner.prepare import prepare
from jaxrank.runner.search_result import SearchResult
from jaxrank.training.checkpoint import Checkpoint
from jaxrank.training.checkpointing import Saver

Data = tuple[Preferences, dict[str, Block]]
CHANGES = {"mlp_hidden_dims": "4", "max_epochs": 6, "batch_size": 16, "learning_rate": 5e-3}
OPTIONS: dict[str, Any] = {
    "experiments": "tiny_mlp",
    "overrides": CHANGES,
    "folds": 3,
    "num_seeds": 2,
    "audit": "off",
}


def searched(data: Data, folder: Path, **options: Any) -> SearchResult:
    return search(*data, workdir=folder, **OPTIONS | options)


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.fixture(scope="module")
def workdir(small_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("final") / "search"
    searched(small_data, folder, final="tiny_mlp")
    return folder


@pytest.fixture(scope="module")
def final(workdir: Path) -> Model:
    return load_model(workdir)


def test_it_is_the_mean_of_all_seeds_trained_on_all_series(
    final: Model, workdir: Path, small_data: Data
) -> None:
    card, trials = final.card, pd.read_csv(workdir / "trials.csv")
    mine = trials[trials["experiment_name"] == "tiny_mlp"]
    assert (card.fold, card.seeds, len(final.members)) == (None, (0, 1), 2)
    assert set(card.epochs) == {int(mine["best_epoch"].median())}
    photos = {*small_data[0].table["image_a"], *small_data[0].table["image_b"]}
    assert final.seen["train"] == photos
    assert not final.seen["val"]
    scores = final.score(small_data[1])
    members = [
        final._replace(
            members=(member,), combination=load_model(workdir / "tiny_mlp/model").combination
        )
        for member in final.members
    ]
    alone = np.stack([member.score(small_data[1]).to_numpy() for member in members])
    by_hand, _ = ensembles.combine(alone, np.arange(alone.shape[1]))
    np.testing.assert_allclose(scores, by_hand, atol=1e-4)
    assert np.abs(alone[0] - alone[1]).max() > 0.01  # the seeds differ


def test_its_card_has_the_accuracy_of_the_folds_models(final: Model, workdir: Path) -> None:
    summary = pd.read_csv(workdir / "summary.csv").set_index("experiment_name")
    row, evidence = summary.loc["tiny_mlp (mean of 2 seeds)"], final.card.evidence
    assert evidence.accuracy == pytest.approx(row["test_accuracy"])
    assert (evidence.low, evidence.high) == pytest.approx((row["test_ci_low"], row["test_ci_high"]))
    assert evidence.measured_on == "test pairs of 3 folds, of models of the same configuration"
    assert evidence.baselines["ridge"] == pytest.approx(summary.loc["ridge", "test_accuracy"])
    found = final.card.calibration
    assert 0 < found.slope_low < found.slope < found.slope_high
    assert found.num_series == 60
    assert found.source == "test pairs of 3 folds"
    assert found.beats_chance
    assert 1 <= found.keep_size < 3.5


def test_rank_takes_the_folder_of_the_search(final: Model, workdir: Path, small_data: Data) -> None:
    found = rank_photos(workdir, small_data[1], small_data[0].table)
    scores = final.score(small_data[1])
    table = found.table.set_index("image")
    np.testing.assert_allclose(table["score"].astype(float), scores[table.index], atol=1e-6)
    for _, rows in table.groupby("series_id"):
        odds = np.exp(final.card.calibration.pick_slope * (rows["score"] - rows["score"].max()))
        np.testing.assert_allclose(rows["p_best"].astype(float), odds / odds.sum(), rtol=1e-5)
        kept = rows["score"] >= rows["score"].max() - final.card.calibration.keep_gap
        assert rows["keep"].astype(bool).tolist() == kept.tolist()


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_search_that_is_killed_at_its_final_model_ends_with_the_same_bits(
    small_data: Data, workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def killed(saver: Saver, number: int, checkpoint: Checkpoint) -> None:
        if checkpoint.epoch < 3:
            saver.save(number, checkpoint)
        else:
            raise Killed

    def never(*arguments: Any) -> None:
        raise Killed

    folder = tmp_path / "search"
    with monkeypatch.context() as patch:
        if moment == "before":
            patch.setattr(final_training, "_train", never)
        else:
            patch.setattr(Saver, "claim", lambda saver, number, size: number <= 0)
            patch.setattr(Saver, "begin_save", killed)
            patch.setattr(final_training, "_largest_divisor", lambda number, most: 1)
        with pytest.raises(Killed):
            searched(small_data, folder, final="tiny_mlp")
    assert not (folder / "final").exists()
    begun = list((folder / "checkpoints").glob("0/*"))
    assert bool(begun) == (moment == "within")
    trained, real = [], train.fit

    def counted(*arguments: Any, **options: Any) -> Any:
        trained.append(1)
        return real(*arguments, **options)

    dropped: list[int] = []
    drop = Saver.drop

    def counted_drop(saver: Saver, number: int) -> None:
        dropped.append(number)
        drop(saver, number)

    monkeypatch.setattr(train, "fit", counted)
    monkeypatch.setattr(Saver, "drop", counted_drop)
    searched(small_data, folder, resume=True)
    assert trained == [1]  # nothing but the final model
    assert set(dropped) >= {0}
    assert min(dropped) == 0  # both seeds are in one cohort
    assert files_of(folder / "final") == files_of(workdir / "final")
    assert not list((folder / "checkpoints").glob("0/*"))


def test_files_that_are_lost_are_written_again_without_training(
    small_data: Data, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(workdir / "final")
    for path in (workdir / "final").iterdir():
        path.unlink()
    monkeypatch.setattr(train, "fit", None)
    searched(small_data, workdir, resume=True, final="tiny_mlp")
    assert files_of(workdir / "final") == before


def test_an_extension_and_another_wish_update_it(small_data: Data, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    searched(small_data, folder, num_seeds=1, final="tiny_mlp")
    assert load_model(folder).card.seeds == (0,)
    search(*small_data, workdir=folder, extend=True, num_seeds=2)
    assert load_model(folder).card.seeds == (0, 1)
    search(*small_data, workdir=folder, resume=True, final="signed_sum")
    assert load_model(folder).card.experiment.name == "signed_sum"
    result = search(*small_data, workdir=folder, resume=True)
    assert result.nothing_to_do


@pytest.fixture(scope="module")
def quick(small_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of one epoch and one seed."""
    folder = tmp_path_factory.mktemp("quick") / "search"
    changes = CHANGES | {"max_epochs": 1}
    searched(small_data, folder, num_seeds=1, overrides=changes, final="tiny_mlp")
    return folder


@pytest.mark.parametrize("name", ["ridge", "sharpness", "signed_sum", "best_heuristic"])
def test_a_baseline_is_saved_in_the_same_way(small_data: Data, quick: Path, name: str) -> None:
    folder = quick
    result = search(*small_data, workdir=folder, resume=True, final=name)
    model, summary = load_model(folder), result.summary.set_index("experiment_name")
    assert model.card.experiment.name == name
    assert model.card.evidence.accuracy == pytest.approx(summary.loc[name, "test_accuracy"])
    scores = model.score(small_data[1])
    assert scores.mean() == pytest.approx(0, abs=0.05)
    assert scores.std() == pytest.approx(1, abs=0.05)
    assert any(f"the baseline {name}" in note for note in result.notes)


def test_without_folds_it_is_the_model_of_the_search_and_leaves_the_test_series_out(
    small_data: Data, tmp_path: Path
) -> None:
    folder = tmp_path / "search"
    searched(small_data, folder, folds=0, final="tiny_mlp")
    final, own = load_model(folder), load_model(folder / "tiny_mlp" / "model")
    assert (final.card.fold, final.seen) == (0, own.seen)
    scores, plain = final.score(small_data[1]), own.score(small_data[1])
    assert np.corrcoef(scores, plain)[0, 1] == pytest.approx(1)
    search(*small_data, workdir=folder, resume=True, final_on="all")
    everything = load_model(folder)
    assert everything.card.fold is None
    assert len(everything.seen["train"]) > len(final.seen["train"]) + len(final.seen["val"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"final": "tiny_mpl"}, "--final=tiny_mpl: neither an experiment.*Did you mean 'tiny_mlp'"),
        ({"final": "chance"}, "--final=chance: neither"),
        ({"final": "shuffled"}, "--final=shuffled: neither"),
        ({"final_on": "some"}, "--final_on=some: unknown"),
    ],
)
def test_wishes_that_nothing_can_fulfil_are_refused_at_once(
    small_data: Data, tmp_path: Path, wrong: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        searched(small_data, tmp_path / "search", **wrong)
    assert not (tmp_path / "search").exists()


def test_the_strongest_baseline_is_final_where_it_is_as_good(workdir: Path) -> None:
    @dataclasses.dataclass
    class Table:
        mean: np.ndarray

    @dataclasses.dataclass
    class Entries:
        validation: Table

    @dataclasses.dataclass
    class Ranked:
        entries: Entries
        names: tuple[str, ...]
        by_test: Table
        chosen: Chosen | None
        yardstick_label: str

    def selected(
        mlp: float, ridge: float, label: str = "ridge", wanted: str = "", one_split: bool = False
    ) -> str | None:
        table, other = Table(np.array([mlp, ridge])), Table(np.array([0.0, 0.0]))
        by = (other, table) if one_split else (table, other)
        chosen = Chosen(0, (0,), not one_split, mlp, mlp)
        entries = Entries(by[1])
        ranked: Any = Ranked(entries, ("mlp", label), by[0], chosen, label)
        return final_model.selected_entry(ranked, wanted)

    assert selected(0.61, 0.60) == "mlp"
    assert selected(0.60, 0.60) == selected(0.59, 0.60) == "ridge"
    assert selected(0.49, 0.50, "chance") == "mlp"
    assert selected(0.59, 0.60, wanted="mlp") == "mlp"
    # The test pairs of one split only measure.
    assert selected(0.61, 0.60, one_split=True) == "mlp"
    assert selected(0.60, 0.60, one_split=True) == "ridge"


def test_without_a_fold_what_it_alone_speaks_for_is_not_selected() -> None:
    """Three series, each the test series of one fold; ridge is the best by the first one alone."""
    hits_XS = np.array([[1.0, 3.0, 3.0], [9.0, 2.0, 2.0]])
    selecting = Pooled(hits_XS, np.array([[9.0, 4.0, 4.0]]), np.zeros(2, int), np.ones(2))
    ranking: Any = SimpleNamespace(
        names=("mlp", "ridge"),
        selecting=selecting,
        chosen=Chosen(0, (0,), out_of_fold=True, raw=7 / 17, accuracy=7 / 17),
        strongest_without_F=("ridge", "ridge", "chance"),
    )
    prepared: Any = SimpleNamespace(
        trained_folds=[0, 1, 2],
        split_data=SimpleNamespace(
            dataset=SimpleNamespace(series_ids=["s", "t", "u"], series_M=np.arange(3)),
            rows=lambda fold, split: np.array([fold]),
        ),
    )
    found = final_model.selected_without_fold(ranking, prepared)
    # Of the third one chance is the strongest baseline, which is no model.
    assert found == ["mlp", "ridge", "mlp"]


def test_a_checkpoint_of_a_cohort_with_a_free_slot_is_restored(
    small_data: Data, tmp_path: Path
) -> None:
    """As of two cohorts of a confirmation that share a program, the smaller one."""
    ready = prepare(*small_data, **{k: v for k, v in OPTIONS.items() if k != "audit"})
    cohort = ready.cohorts[0]._replace(num_slots=len(ready.cohorts[0].trials) + 1)
    saver = Saver(tmp_path, 1.0)
    save, restore = final_training.checkpoints_of(saver, 1, len(cohort.trials))
    whole = train.fit(cohort, ready.split_data, on_dispatch=save)
    saver.wait()
    found = restore(jax.eval_shape(train.compile_cohort(cohort, ready.split_data).init))
    assert found is not None
    assert (len(found.state.status), found.num_trials) == (cohort.num_slots, len(cohort.trials))
    again = train.fit(cohort, ready.split_data, restore=restore)
    np.testing.assert_array_equal(again.scores_PN, whole.scores_PN)
