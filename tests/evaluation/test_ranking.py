from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from jaxrank.data.dataset import Dataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences, read_preferences
from jaxrank.evaluation.ranking import ground_truth_strength, kendall_tau, series_photos, top1_hit


def make_dataset(table: pd.DataFrame) -> Dataset:
    photos = pd.unique(pd.concat([table["image_a"], table["image_b"]]))
    block = Block(list(photos), ["x"], np.arange(len(photos))[:, None])
    return align(Preferences(table), {"iqa": block})


def of_rows(rows: Sequence[tuple[Any, ...]], *further: str) -> Dataset:
    columns = ["series_id", "image_a", "image_b", "preference", *further]
    return make_dataset(pd.DataFrame(rows, columns=columns))


def of_sizes(sizes: Sequence[int]) -> Dataset:
    """Series of so many photos, each compared with the next one only."""
    return of_rows(
        [
            (str(s), f"{s}-{i}", f"{s}-{i + 1}", 0.5)
            for s, n in enumerate(sizes)
            for i in range(n - 1)
        ]
    )


def by_name(dataset: Dataset, values: Mapping[str, float]) -> np.ndarray:
    return np.array([values[photo] for photo in dataset.photos], float)


def all_pairs(dataset: Dataset) -> np.ndarray:
    return np.arange(len(dataset.table))


def odds(difference: float) -> float:
    return float(1 / (1 + np.exp(-difference)))


def test_strengths_of_two_photos_are_their_log_odds() -> None:
    dataset = of_rows([("1", "a", "b", 0.9), ("2", "c", "d", 0.5), ("3", "e", "f", 0.0)])
    worth, source = ground_truth_strength(dataset)
    assert source == "Bradley-Terry strengths fitted to the preferences"
    strength = dict(zip(dataset.photos, worth, strict=True))
    # The ridge takes 1e-4 * d / (0.9 * 0.1) = 0.0024 of it.
    assert strength["a"] - strength["b"] == pytest.approx(np.log(9) - 0.0024, abs=0.0015)
    assert strength["a"] == -strength["b"]
    assert strength["c"] == strength["d"] == 0
    # Always preferred: 1 - s(d) = 1e-4 d at d = 7.23.
    assert strength["f"] - strength["e"] == pytest.approx(7.23, abs=0.01)
    assert 1 - odds(7.23) == pytest.approx(1e-4 * 7.23, rel=0.01)


def test_strengths_of_consistent_preferences_are_those_that_made_them() -> None:
    dataset = of_rows(
        [("1", "a", "b", odds(1)), ("1", "c", "b", odds(-0.5)), ("1", "a", "c", odds(1.5))]
    )
    expected = {"a": 2.5 / 3, "b": -0.5 / 3, "c": -2 / 3}  # mean zero, differences 1, 0.5
    np.testing.assert_allclose(
        ground_truth_strength(dataset)[0], by_name(dataset, expected), atol=0.002
    )


def test_photos_with_equal_records_are_of_equal_strength() -> None:
    circle = [("1", "a", "b", 0.7), ("1", "b", "c", 0.7), ("1", "c", "a", 0.7)]
    # In a complete series the sum of preferences decides: d and e have 1.1 of two, f has 0.8.
    sums = [("2", "d", "e", 0.6), ("2", "d", "f", 0.5), ("2", "e", "f", 0.7)]
    # A chain, h and i equal: the strong g may not tell them apart.
    chain = [("3", "g", "h", 1.0), ("3", "h", "i", 0.5)]
    # Others, to be fitted at the same time, keep the minimiser from ending at equal numbers.
    votes = np.random.default_rng(0).integers(0, 6, (200, 3)) / 5
    others = [
        (f"other {s}", f"{s}{a}", f"{s}{b}", votes[s, k])
        for s in range(200)
        for k, (a, b) in enumerate([("a", "b"), ("b", "c"), ("a", "c")])
    ]
    dataset = of_rows(circle + sums + chain + others)
    worth = dict(zip(dataset.photos, ground_truth_strength(dataset)[0], strict=True))
    assert worth["a"] == worth["b"] == worth["c"]
    assert worth["d"] == worth["e"] > worth["f"]
    assert worth["g"] > worth["h"] == worth["i"]


RANKED = [("1", "a", "b", 0.9, "2", "1"), ("1", "c", "b", 0.1, "3.0", "1")]


def test_ranks_are_used_where_they_are_given() -> None:
    for rows in (RANKED, [(*row[:4], float(row[4]), float(row[5])) for row in RANKED]):
        dataset = of_rows(rows, "rank_a", "rank_b")
        worth, source = ground_truth_strength(dataset)
        np.testing.assert_array_equal(worth, by_name(dataset, {"a": -2, "b": -1, "c": -3}))
        assert source.startswith("the ranks in the pair table")


@pytest.mark.parametrize(
    ("rows", "columns", "reason"),
    [
        ([RANKED[0], (*RANKED[1][:5], "2")], ("rank_a", "rank_b"), "photo 'b' has the ranks"),
        ([RANKED[0], (*RANKED[1][:4], "", "1")], ("rank_a", "rank_b"), "rank '' of photo 'c'"),
        ([RANKED[0], (*RANKED[1][:4], "inf", "1")], ("rank_a", "rank_b"), "rank 'inf' of photo"),
        ([row[:5] for row in RANKED], ("rank_a",), "column 'rank_b' is missing"),
    ],
)
def test_unusable_ranks_are_said_and_strengths_are_used(
    rows: list[tuple[Any, ...]], columns: tuple[str, ...], reason: str
) -> None:
    dataset = of_rows(rows, *columns)
    worth, source = ground_truth_strength(dataset)
    assert source.startswith("Bradley-Terry strengths")
    assert reason in source
    np.testing.assert_array_equal(
        worth, ground_truth_strength(of_rows([row[:4] for row in rows]))[0]
    )


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[3, 2, 1], [2, 1]], (1 + 1) / 2),
        ([[1, 2, 3], [2, 1]], (0 + 1) / 2),
        ([[3, 3, 1], [1, 1]], (1 / 2 + 1 / 2) / 2),  # the best is one of two chosen
        ([[1, 1, 1], [1, 2]], (1 / 3 + 0) / 2),
        ([[1, 3, 3], [1, 2]], (0 + 0) / 2),
    ],
)
def test_top1_by_hand(scores: list[list[float]], expected: float) -> None:
    dataset = of_sizes([3, 2, 2])
    names = ["0-0", "0-1", "0-2", "1-0", "1-1", "2-0", "2-1"]
    worth = by_name(dataset, dict(zip(names, [3, 2, 1, 9, 8, 5, 5], strict=True)))
    flat = by_name(dataset, dict(zip(names, [*scores[0], *scores[1], 0, 1], strict=True)))
    group = series_photos(dataset, worth, all_pairs(dataset))  # the last series does not count
    assert top1_hit(flat, group) == pytest.approx(expected)


def test_of_several_best_photos_any_is_right() -> None:
    dataset = of_sizes([4])
    worth = by_name(dataset, {"0-0": 1, "0-1": 3, "0-2": 3, "0-3": 2})
    group = series_photos(dataset, worth, all_pairs(dataset))
    for scores, expected in [([0, 0, 5, 0], 1), ([0, 5, 5, 5], 2 / 3), ([5, 1, 1, 1], 0)]:
        values = by_name(dataset, {f"0-{i}": score for i, score in enumerate(scores)})
        assert top1_hit(values, group) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3, 2, 1], 1),
        ([1, 2, 3], -1),
        ([3, 1, 2], (2 - 1) / 3),
        ([2, 2, 1], 2 / np.sqrt(3 * 2)),  # one pair tied by score
        ([7, 7, 7], 0),
    ],
)
def test_kendall_by_hand(scores: list[float], expected: float) -> None:
    dataset = of_sizes([3, 2, 3])  # the pair is no order, and the last three are of equal worth
    worth = by_name(dataset, dict.fromkeys(dataset.photos, 1) | {"0-0": 3, "0-1": 2, "1-0": 2})
    values = dict(zip(["0-0", "0-1", "0-2"], scores, strict=True))
    flat = by_name(dataset, dict.fromkeys(dataset.photos, 4) | values)
    group = series_photos(dataset, worth, all_pairs(dataset))
    assert kendall_tau(flat, group) == pytest.approx(expected)


levels = st.integers(0, 4)
photos_of_series = st.lists(st.tuples(levels, levels), min_size=2, max_size=9)


@given(st.lists(photos_of_series, min_size=1, max_size=8))
def test_all_series_at_once_give_what_series_by_series_gives(
    all_series: list[list[tuple[int, int]]],
) -> None:
    dataset = of_sizes([len(photos) for photos in all_series])
    names = [f"{s}-{i}" for s, photos in enumerate(all_series) for i in range(len(photos))]
    given_worth = [worth for photos in all_series for worth, _ in photos]
    given_scores = [score for photos in all_series for _, score in photos]
    worth = by_name(dataset, dict(zip(names, given_worth, strict=True)))
    scores = by_name(dataset, dict(zip(names, given_scores, strict=True)))
    taus, hits = [], []
    for photos in all_series:
        w, s = np.array(photos).T
        if (w == w[0]).all():
            continue
        hits.append((w[s == s.max()] == w.max()).mean())
        if len(w) >= 3:
            taus.append(0.0 if (s == s[0]).all() else scipy.stats.kendalltau(w, s).statistic)
    group = series_photos(dataset, worth, all_pairs(dataset))
    for found, expected in [(top1_hit(scores, group), hits), (kendall_tau(scores, group), taus)]:
        if expected:
            assert found == pytest.approx(np.mean(expected))
        else:
            assert np.isnan(found)


def test_only_photos_of_the_given_pairs_count() -> None:
    """A split by pair: the best photo, a, stands in no pair of this part."""
    rows = [("1", "a", "b", 0.9), ("1", "b", "c", 0.8), ("1", "c", "d", 0.7), ("2", "e", "f", 0.6)]
    dataset = of_rows(rows)
    worth = by_name(dataset, {"a": 4, "b": 3, "c": 2, "d": 1, "e": 2, "f": 1})
    scores = by_name(dataset, {"a": 9, "b": 3, "c": 1, "d": 2, "e": 1, "f": 2})
    group = series_photos(dataset, worth, np.array([2, 1]))
    assert sorted(dataset.photos[group.photos_G]) == ["b", "c", "d"]
    assert top1_hit(scores, group) == 1
    assert kendall_tau(scores, group) == pytest.approx((2 - 1) / 3)
    empty = series_photos(dataset, worth, np.zeros(0, int))
    assert np.isnan(top1_hit(scores, empty))
    assert np.isnan(kendall_tau(scores, empty))


def test_a_large_series_takes_no_more_than_its_pairs_of_photos() -> None:
    dataset = of_sizes([2000, *[2] * 2000])
    worth = np.random.default_rng(0).permutation(len(dataset.photos)).astype(float)
    group = series_photos(dataset, worth, all_pairs(dataset))
    assert len(group.first_K) == 2000 * 1999 // 2
    assert sum(array.nbytes for array in group) < 10 * len(group.first_K)
    assert kendall_tau(worth, group) == pytest.approx(1)
    assert kendall_tau(-worth, group) == pytest.approx(-1)
    assert top1_hit(worth, group) == 1


def test_strengths_order_the_real_series_as_the_given_ranks_do(photo_triage: Path) -> None:
    table = read_preferences(photo_triage / "pairs.csv").table
    dataset = make_dataset(table)
    ranks, source = ground_truth_strength(dataset)
    assert source.startswith("the ranks")
    unranked = make_dataset(table.drop(columns=["rank_a", "rank_b"]))
    strengths, source = ground_truth_strength(unranked)
    assert source.startswith("Bradley-Terry")
    sizes = np.bincount(
        dataset.series_M[np.unique(dataset.pair_rows_M2, return_index=True)[1] // 2]
    )
    by_rank = series_photos(dataset, ranks, all_pairs(dataset))
    chance = np.zeros(len(dataset.photos))
    assert top1_hit(chance, by_rank) == pytest.approx((1 / sizes).mean())
    assert top1_hit(chance, by_rank) == pytest.approx(0.42008, abs=1e-5)
    assert kendall_tau(chance, by_rank) == 0
    # No order is reversed; preferences of one half leave ties, where the ranks have none.
    better, worse = (by_rank.photos_G[k] for k in (by_rank.first_K, by_rank.second_K))
    assert (ranks[better] > ranks[worse]).all()
    assert (strengths[better] >= strengths[worse]).mean() > 0.99
