"""Leaks of a split, and circular triads: planted ones are seen, clean data are left alone."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_data import make_data

from jaxrank.audit import leakage, transitivity
from jaxrank.audit.case import UNVERIFIED, AuditCase
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences

TRAIN, VALIDATION, TEST, UNUSED = splits.TRAIN, splits.VALIDATION, splits.TEST, splits.UNUSED


def line_of_photos(
    series_sizes: list[int], values: Sequence[float], preferences: list[float]
) -> Dataset:
    """All pairs of series of photos with one number each."""
    names = [f"{s}-{i}.jpg" for s, size in enumerate(series_sizes) for i in range(size)]
    table, start = [], 0
    for s, size in enumerate(series_sizes):
        for i, j in itertools.combinations(range(size), 2):
            table.append((str(s), names[start + i], names[start + j]))
        start += size
    frame = pd.DataFrame(table, columns=["series_id", "image_a", "image_b"])
    frame["preference"] = preferences
    block = Block(names, ["x"], np.array(values, np.float32)[:, None])
    return align(Preferences(frame), {"one": block})


def case_of(dataset: Dataset, parts: np.ndarray) -> AuditCase:
    data = SplitDataset(dataset=dataset, splits_FM=parts)
    return AuditCase(table=dataset.table, data=data, compared=None, deadline=np.inf)


def leaks_of(dataset: Dataset, parts: np.ndarray, seed: int = 0) -> leakage.Leaks:
    case = case_of(dataset, parts)
    return leakage.find_leaks(case.data, case.inputs_NK, seed=seed)


def test_shared_series_are_counted_once_over_folds() -> None:
    # Series 0 has three pairs, series 1 and 2 one each.
    dataset = line_of_photos([3, 2, 2], list(range(7)), [0.9] * 5)
    parts = np.array(
        [
            [TRAIN, TEST, TEST, VALIDATION, TRAIN],  # series 0 on two sides
            [TEST, TEST, VALIDATION, TRAIN, TRAIN],  # again, but it does not train
            [TRAIN, UNUSED, UNUSED, TEST, VALIDATION],  # unused pairs are on no side
        ],
        np.int8,
    )
    shared = leakage.shared_series(SplitDataset(dataset=dataset, splits_FM=parts))
    assert shared.num_series == 1
    assert shared.examples == ("0",)
    # Test pairs: 2, 2 and 1; those of a series that trains: 2, 0 and 0.
    assert shared.tested_share == pytest.approx(2 / 5)


def test_a_split_by_series_shares_none() -> None:
    dataset = align(*make_data(40))
    parts = splits.split_pairs(dataset.table, folds=4)
    assert leakage.shared_series(SplitDataset(dataset=dataset, splits_FM=parts)) == (0, 0.0, ())


def test_the_record_of_the_nearest_training_photo_predicts() -> None:
    # Two photos of each of 12 training series stand at 0 and 100; the one at 100 always wins.
    # The test series' photos stand at 1 and 99, whichever is which.
    values = [0, 100] * 12 + [1, 99] * 12
    dataset = line_of_photos([2] * 24, values, [0.1] * 24)
    parts = np.array([[TRAIN] * 12 + [TEST] * 12], np.int8)

    class Unmoved(np.random.Generator):
        """Renumbers nothing: ranks by a constant keep the order."""

        def random(self, shape: Any) -> np.ndarray:  # type: ignore[override]
            return np.zeros(shape)

    inputs = dataset.features_ND
    found = leakage.behaviour(
        SplitDataset(dataset=dataset, splits_FM=parts), inputs, Unmoved(np.random.PCG64())
    )
    assert (found.num_pairs, found.num_series, found.accuracy) == (12, 12, 1.0)
    turned = align(
        Preferences(dataset.table.assign(preference=[0.1] * 12 + [0.9] * 12)),
        {"one": Block(list(dataset.photos), ["x"], inputs)},
    )
    assert (
        leakage.behaviour(
            SplitDataset(dataset=turned, splits_FM=parts), inputs, Unmoved(np.random.PCG64())
        ).accuracy
        == 0.0
    )
    # Renumbered, the record belongs to other photos.
    renumbered = leakage.behaviour(
        SplitDataset(dataset=dataset, splits_FM=parts), inputs, np.random.default_rng(0)
    )
    assert 0.0 < renumbered.accuracy < 1.0
    assert not renumbered.leaks


def test_training_records_are_mean_preferences() -> None:
    dataset = line_of_photos([3, 2], [0, 1, 2, 3, 4], [0.9, 0.6, 0.2, 0.7])
    records = leakage._records(dataset, np.array([True, True, True, False]))
    # Photo 0: 0.9 and 0.6; photo 1: 0.1 and 0.2; photo 2: 0.4 and 0.8.
    expected = {
        "0-0.jpg": 0.75,
        "0-1.jpg": 0.15,
        "0-2.jpg": 0.6,
        "1-0.jpg": np.nan,
        "1-1.jpg": np.nan,
    }
    np.testing.assert_allclose(records, [expected[name] for name in dataset.photos], atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_split_by_pair_leaks_and_one_by_series_does_not(seed: int) -> None:
    dataset = align(*make_data(500, seed))
    by_pair = splits.split_pairs(dataset.table, splits.RANDOM, folds=3, split_seed=seed)
    by_series = splits.split_pairs(dataset.table, splits.SERIES, folds=3, split_seed=seed)
    leaky = leaks_of(dataset, by_pair, seed)
    clean = leaks_of(dataset, by_series, seed)
    assert leaky.behaviour.leaks
    assert leaky.shared.num_series > 100
    assert not clean.behaviour.leaks
    assert clean.shared.num_series == 0
    assert abs(clean.behaviour.z) < leakage.LEAK_Z
    # Every test pair with a direction is asked, once.
    directed = int((dataset.preference_M != 0.5).sum())
    assert leaky.behaviour.num_pairs == clean.behaviour.num_pairs == directed


def test_validation_pairs_are_asked_as_test_pairs_are() -> None:
    dataset = align(*make_data(60))
    parts = splits.split_pairs(dataset.table)
    held_out = np.isin(parts[0], (VALIDATION, TEST)) & (dataset.preference_M != 0.5)
    assert 0 < (parts[0] == VALIDATION).sum() < held_out.sum()
    assert leaks_of(dataset, parts).behaviour.num_pairs == held_out.sum()


def test_a_split_without_test_pairs_says_nothing() -> None:
    dataset = align(*make_data(12))
    parts = np.full((1, len(dataset.table)), TRAIN, np.int8)
    found = leaks_of(dataset, parts)
    assert found.behaviour.num_pairs == 0
    assert not found.behaviour.leaks
    # That is not to be called a pass.
    assert leakage.check(case_of(dataset, parts), {}).verdict == UNVERIFIED


def triad_table(*directions: tuple[str, str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(directions, columns=["series_id", "image_a", "image_b", "preference"])


def test_circular_triads_by_hand() -> None:
    table = triad_table(
        # a beats b, b beats c, c beats a: circular, with one pair the other way round.
        ("1", "a", "b", 0.9),
        ("1", "c", "b", 0.1),
        ("1", "a", "c", 0.3),
        # d beats e and f, e beats f: not circular.
        ("2", "d", "e", 0.9),
        ("2", "d", "f", 0.8),
        ("2", "e", "f", 0.6),
        # A tie, and a pair that was not compared: no triples.
        ("3", "g", "h", 0.9),
        ("3", "h", "i", 0.8),
        ("3", "g", "i", 0.5),
        ("4", "j", "k", 1.0),
        ("4", "k", "l", 1.0),
    )
    triads = transitivity.circular_triads(table)
    assert (triads.num_triples, triads.num_series) == (2, 2)
    assert triads.circular_share == 0.5
    assert triads.coherent is None  # two series show nothing


def test_circular_triads_of_a_series_of_five_are_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows, beats = [], {}
    for i, j in itertools.combinations("abcde", 2):
        preference = float(rng.choice([0.2, 0.8]))
        rows.append(("1", i, j, preference))
        beats[i, j], beats[j, i] = preference > 0.5, preference < 0.5
    circular = sum(
        beats[i, j] == beats[j, k] == beats[k, i] for i, j, k in itertools.combinations("abcde", 3)
    )
    assert 0 < circular < 10
    triads = transitivity.circular_triads(triad_table(*rows))
    assert triads.num_triples == 10
    assert triads.circular_share == pytest.approx(circular / 10)


def random_labels(num_series: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return triad_table(
        *(
            (str(s), f"{s}{i}", f"{s}{j}", float(rng.choice([0.1, 0.9])))
            for s in range(num_series)
            for i, j in itertools.combinations("abcd", 2)
        )
    )


def test_random_labels_are_circular_in_a_quarter_and_not_coherent() -> None:
    triads = transitivity.circular_triads(random_labels(600, seed=1))
    assert abs(triads.circular_share - transitivity.CHANCE_SHARE) < 4 * triads.standard_error
    # Of four photos the triples are independent in pairs: the variance is p (1 - p) / number.
    assert triads.standard_error == pytest.approx(np.sqrt(0.25 * 0.75 / 2400), rel=0.1)
    assert triads.coherent is False


def test_one_common_taste_is_coherent() -> None:
    table = random_labels(50, seed=2)
    by_alphabet = table.assign(preference=0.9)
    by_alphabet.loc[::25, "preference"] = 0.1  # a few are of another mind
    triads = transitivity.circular_triads(by_alphabet)
    assert triads.num_triples == 200
    assert 0 < triads.circular_share < 0.1
    assert triads.coherent is True


def test_preferences_that_were_computed_from_a_ranking_say_nothing_of_voters() -> None:
    table = random_labels(50, seed=2)
    triads = transitivity.circular_triads(table.assign(preference=0.9))  # by the alphabet
    assert (triads.num_triples, triads.circular_share) == (200, 0.0)
    assert triads.coherent is None


def test_pairs_without_triples_say_nothing() -> None:
    triads = transitivity.circular_triads(triad_table(("1", "a", "b", 0.9)))
    assert triads.num_triples == 0
    assert np.isnan(triads.circular_share)
    assert triads.coherent is None


def test_real_voters_agree_with_each_other(photo_triage: Path) -> None:
    from jaxrank.data.preferences import read_preferences

    votes = read_preferences(photo_triage / "votes.csv", min_agreement=0.0, min_reviewers=1)
    triads = transitivity.circular_triads(votes.table)
    assert triads.circular_share == pytest.approx(0.069, abs=0.0005)
    assert triads.coherent is True
