"""Trials that have nothing to learn: they ride in cohorts, and find leaks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import experiment, inputs_of

import jaxrank
from jaxrank import train
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align, permutation_control
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.evaluation.cohort_results import evaluate_cohort
from jaxrank.evaluation.evaluator import make_evaluator, position_metrics
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.planning import planner
from jaxrank.planning.trials import Trial
from jaxrank.reporting.table_notes import LEAKING
from jaxrank.training import arrays

SmallData = tuple[Preferences, dict[str, Block]]


def test_renumbered_photos_stay_in_their_series(dataset: Dataset) -> None:
    moved = permutation_control(dataset)
    series_of = dict(zip(dataset.table["image_a"], dataset.table["series_id"], strict=True))
    series_of |= dict(zip(dataset.table["image_b"], dataset.table["series_id"], strict=True))
    for column in ("image_a", "image_b"):
        assert [series_of[photo] for photo in moved.table[column]] == list(
            dataset.table["series_id"]
        )
    np.testing.assert_array_equal(
        dataset.photos[moved.pair_rows_M2], moved.table[["image_a", "image_b"]]
    )
    # Each photo takes the place of one photo, everywhere.
    place: dict[int, int] = {}
    for old, new in zip(dataset.pair_rows_M2.ravel(), moved.pair_rows_M2.ravel(), strict=True):
        assert place.setdefault(old, new) == new
    assert sorted(place.values()) == sorted(place)
    assert 0.3 < np.mean([old != new for old, new in place.items()]) < 0.95
    again = permutation_control(dataset)
    np.testing.assert_array_equal(moved.pair_rows_M2, again.pair_rows_M2)


def test_of_two_photos_half_are_swapped() -> None:
    names = [f"{s}-{i}.jpg" for s in range(400) for i in range(2)]
    rows = [(str(s), f"{s}-0.jpg", f"{s}-1.jpg", 1.0) for s in range(400)]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    block = Block(names, ["x"], np.arange(800.0, dtype=np.float32)[:, None])
    dataset = align(Preferences(table), {"iqa": block})
    swapped = permutation_control(dataset).pair_rows_M2[:, 0] != dataset.pair_rows_M2[:, 0]
    assert 140 < swapped.sum() < 260  # 200 with a standard deviation of 10


def test_the_control_is_a_search_on_renumbered_pairs(dataset: Dataset, parts: np.ndarray) -> None:
    """In a cohort with others, it gives what its experiment would give on such a table."""
    honest = Trial(experiment("a", max_epochs=3), 0, 0)
    control = Trial(experiment("shuffled", max_epochs=3), 1, 0)
    (cohort,) = planner.make_cohorts(
        [honest, control], SplitDataset(dataset=dataset, splits_FM=parts), 2**40
    )
    fitted = train.fit(cohort, SplitDataset(dataset=dataset, splits_FM=parts))
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    rows = [result.metrics.as_row() for result in evaluate_cohort(cohort, fitted, evaluator)]

    moved = permutation_control(dataset)
    # The same identity, hence the same random numbers, but no control of that table.
    plain = control._replace(experiment=NotRenumbered(**vars(control.experiment)))
    (alone,) = planner.make_cohorts([plain], SplitDataset(dataset=moved, splits_FM=parts), 2**40)
    expected = train.fit(alone, SplitDataset(dataset=moved, splits_FM=parts))
    np.testing.assert_allclose(fitted.scores_PN[1], expected.scores_PN[0], atol=1e-5)
    (row,) = (
        result.metrics.as_row()
        for result in evaluate_cohort(
            alone, expected, make_evaluator(SplitDataset(dataset=moved, splits_FM=parts))
        )
    )
    for name in ("train_accuracy", "val_accuracy", "test_accuracy", "test_kendall_tau"):
        assert rows[1][name] == pytest.approx(row[name], abs=1e-6)
    assert rows[0]["val_accuracy"] != rows[1]["val_accuracy"]


class NotRenumbered(Experiment):
    """An experiment that is no control, whatever its name."""

    @property
    def is_control(self) -> bool:
        return False


def test_a_control_reads_the_second_half_of_the_pairs(dataset: Dataset, parts: np.ndarray) -> None:
    trials = [Trial(experiment(name), 0, 0) for name in ("a", "shuffled")]
    (cohort,) = planner.make_cohorts(trials, SplitDataset(dataset=dataset, splits_FM=parts), 2**40)
    num_pairs = len(dataset.preference_M)
    rows = arrays.cohort_rows(cohort, SplitDataset(dataset=dataset, splits_FM=parts), 0)
    filled = rows[0] >= 0
    np.testing.assert_array_equal(rows[0][filled] + num_pairs, rows[1][filled])
    data, scaling = inputs_of(cohort, dataset, parts)
    assert data.pairs_M2.shape == (2 * num_pairs, 2)
    val = arrays.make_trial_arrays(
        cohort, SplitDataset(dataset=dataset, splits_FM=parts), scaling
    ).val_rows_CB
    assert val[0].max() < num_pairs <= val[1].max()


def leaky_data() -> SmallData:
    """Photos that are known by their features, and series large enough to be learned by heart."""
    rng = np.random.default_rng(3)
    rows, photos, values = [], [], []
    for s in range(100):
        names = [f"s{s}-{i}.jpg" for i in range(8)]
        appeal = rng.standard_normal(8)
        photos += names
        values += list(rng.standard_normal((8, 48)))
        rows += [
            (str(s), names[i], names[j], float(appeal[i] > appeal[j]))
            for i in range(8)
            for j in range(i + 1, 8)
        ]
    table = pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    columns = [f"clip_{i}" for i in range(48)]
    return Preferences(table), {"clip": Block(photos, columns, np.array(values, np.float32))}


@pytest.mark.parametrize("split", [splits.SERIES, splits.RANDOM])
def test_the_control_flags_a_split_that_leaks_and_no_other(tmp_path: Path, split: str) -> None:
    overrides: dict[str, Any] = {"max_epochs": 1, "shuffled.learning_rate": 3e-3}
    result = jaxrank.search(
        *leaky_data(), experiments=["tiny_mlp"], overrides=overrides, split=split,
        workdir=tmp_path / "w", audit="off",
    )  # fmt: skip
    flagged = [line for line in result.notes if line.startswith(LEAKING)]
    assert bool(flagged) == (split == splits.RANDOM)
    assert bool(flagged) != any("No leak found" in line for line in result.notes)


def test_the_rule_position_is_the_share_of_first_photos(
    dataset: Dataset, parts: np.ndarray
) -> None:
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=parts))
    found = position_metrics(evaluator, [0])
    tested = (parts[0] == splits.TEST) & (dataset.preference_M != 0.5)
    assert found["test_accuracy"] == pytest.approx((dataset.preference_M[tested] > 0.5).mean())
