import numpy as np
import pandas as pd

from jaxrank import baselines
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.data.synthetic import NUM_SERIES, simulate
from jaxrank.evaluation.evaluator import baseline_metrics, make_evaluator


def test_the_embedded_data_have_the_real_sets_size_and_known_truth() -> None:
    simulated = simulate()
    dataset = align(simulated.pairs, simulated.features)
    assert len(dataset.series_ids) == NUM_SERIES == 4300
    assert 11_700 < len(dataset.table) < 12_300
    assert 11_300 < len(dataset.photos) < 11_700
    assert {name: len(c) for name, c in dataset.block_columns.items()} == {
        "clip": 512,
        "cnn": 1024,
        "iqa": 4,
    }
    evaluator = make_evaluator(
        SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table, folds=3))
    )
    rules = baselines.heuristic_scores(dataset)
    sharpness = baseline_metrics(rules["sharpness"], evaluator)
    assert 0.53 < sharpness["test_accuracy"] < 0.59
    possible = simulated.best_score[dataset.photos].to_numpy()
    ceiling = baseline_metrics(possible, evaluator)["test_accuracy"]
    appeal = simulated.appeal[dataset.photos].to_numpy()
    best = baseline_metrics(appeal, evaluator)["test_accuracy"]
    assert sharpness["test_accuracy"] < 0.65 < ceiling < 0.69 < best < 0.9


def test_the_seed_decides_everything() -> None:
    first, again, other = simulate(3, 30), simulate(3, 30), simulate(4, 30)
    pd.testing.assert_frame_equal(first.pairs.table, again.pairs.table)
    for name, block in first.features.items():
        np.testing.assert_array_equal(block.values, again.features[name].values)
    assert not np.array_equal(
        first.pairs.table["preference"][:20], other.pairs.table["preference"][:20]
    )


def test_all_pairs_of_a_series_are_compared_and_photos_stay_in_one_series() -> None:
    table = simulate(0, 50).pairs.table
    for _, rows in table.groupby("series_id"):
        size = len(set(rows["image_a"]) | set(rows["image_b"]))
        assert len(rows) == size * (size - 1) / 2
        assert rows["image_a"].str[:6].nunique() == 1
    assert table["preference"].between(0, 1).all()
