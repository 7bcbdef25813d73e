from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from jaxrank.data.preferences import from_frame, read_preferences
from jaxrank.evaluation import noise_ceiling
from jaxrank.evaluation.noise_ceiling import (
    by_strength,
    ceilings_of_table,
    few_votes,
    way_to_ceiling,
)

# TRUTH: pairs, strong ones, then ceilings of the part of Photo Triage at hand.
DEV_ALL = (8586, 4823, 0.73817, 0.84827, 0.51020, 0.38799, 0.65684, 0.42008)
DEV_TRAIN = (8238, 4608, 0.73743, 0.84795, 0.51114, 0.38854, 0.65606, 0.41997)


def table_of(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])


def test_ceilings_by_hand() -> None:
    found = ceilings_of_table(
        table_of(
            ("1", "a", "b", 0.9),
            ("1", "c", "a", 0.3),
            ("1", "b", "c", 0.5),
            ("2", "d", "e", 0.0),
        )
    )
    assert (found.num_pairs, found.num_strong) == (4, 3)
    assert found.one_vote == pytest.approx((0.9 + 0.7 + 0.5 + 1) / 4)
    assert found.one_vote_strong == pytest.approx((0.9 + 0.7 + 1) / 3)
    nats = [-0.9 * np.log(0.9) - 0.1 * np.log(0.1), -0.7 * np.log(0.7) - 0.3 * np.log(0.3), 0]
    assert found.entropy == pytest.approx((sum(nats) + np.log(2)) / 4)
    assert found.entropy_strong == pytest.approx(sum(nats) / 3)
    assert found.two_voters == pytest.approx((0.82 + 0.58 + 0.5 + 1) / 4)
    assert found.random_top1 == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found.num_by_strength == (1, 0, 1, 0, 2)


def test_no_pair_is_strong_by_rounding_or_weak_by_it() -> None:
    """0.7 in 32 bits is below 0.7, and 1 - 0.3 is above it."""
    p = np.array([0.7, 0.3, 0.699, 0.301], np.float32)
    np.testing.assert_array_equal(noise_ceiling.is_strong(p), [True, True, False, False])
    np.testing.assert_array_equal(noise_ceiling.is_strong(p.astype(np.float64)), [1, 1, 0, 0])
    edges = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    for kind in (np.float32, np.float64):
        np.testing.assert_array_equal(
            noise_ceiling.strength_bin(edges.astype(kind)), [0, 1, 2, 3, 4, 4]
        )
        below = (1 - edges).astype(kind)
        np.testing.assert_array_equal(noise_ceiling.strength_bin(below), [0, 1, 2, 3, 4, 4])


def test_pairs_without_a_strong_one_have_no_strong_ceiling() -> None:
    found = ceilings_of_table(table_of(("1", "a", "b", 0.6)))
    assert found.num_strong == 0
    assert np.isnan(found.one_vote_strong)
    assert found.one_vote == 0.6


@pytest.mark.parametrize(("part", "expected"), [("all", DEV_ALL), ("train", DEV_TRAIN)])
def test_the_ceilings_of_photo_triage(
    photo_triage: Path, part: str, expected: tuple[float, ...]
) -> None:
    table = read_preferences(photo_triage / "pairs.csv").table
    if part == "train":
        table = table[table["official_split"] == "train"]
    found = ceilings_of_table(table)
    assert found[:2] == expected[:2]
    np.testing.assert_allclose(found[2:8], expected[2:], rtol=0, atol=5e-6)
    if part == "all":
        assert found.num_by_strength == (1961, 1802, 1715, 1639, 1469)


def test_the_corrected_ceilings_of_photo_triage(photo_triage: Path) -> None:
    """Of series of two photos, whose votes and preferences belong together."""
    votes = read_preferences(photo_triage / "votes.csv", min_agreement=0, min_reviewers=1).table
    pairs = read_preferences(photo_triage / "pairs.csv").table
    pairs, votes = (t[~t["series_id"].duplicated(keep=False)] for t in (pairs, votes))
    both = pairs.merge(votes[["series_id", "votes"]], on="series_id", validate="1:1")
    plain = ceilings_of_table(both)
    found = few_votes(both["preference"].to_numpy(), both["votes"].to_numpy())
    assert found is not None
    assert plain.num_pairs == found.num_pairs == 2059
    assert found.num_strong == plain.num_strong
    for few, many, expected in (
        (found.one_vote, plain.one_vote, (0.721, 0.761)),
        (found.one_vote_strong, plain.one_vote_strong, (0.775, 0.856)),
        (found.entropy, plain.entropy, (0.543, 0.483)),
    ):
        assert (round(few, 3), round(many, 3)) == expected


def test_the_same_of_vote_counts(photo_triage: Path) -> None:
    """Columns votes_a, votes_b give the ceilings that LEFT and RIGHT give, ties and all."""
    raw = pd.read_csv(photo_triage / "votes.csv")
    counts = raw[["series_id", "LEFT", "RIGHT"]].set_axis(
        ["series_id", "votes_a", "votes_b"], axis=1
    )
    names = raw[["compareFile1", "compareFile2"]].set_axis(["image_a", "image_b"], axis=1)
    table = from_frame(counts.join(names)).table
    votes = read_preferences(photo_triage / "votes.csv", min_agreement=0, min_reviewers=1).table
    found, expected = (
        few_votes(t["preference"].to_numpy(), t["votes"].to_numpy()) for t in (table, votes)
    )
    assert found == expected
    assert found is not None
    assert found.one_vote < ceilings_of_table(table).one_vote


def test_expectations_under_a_beta_distribution() -> None:
    for a, b in ((0.7, 0.7), (3.2, 1.4), (1.0, 9.0)):
        alpha, other = np.array([a]), np.array([b])
        share = quad(lambda p, a=a, b=b: max(p, 1 - p) * beta.pdf(p, a, b), 0, 1, points=[0.5])[0]
        assert noise_ceiling._expected_majority(alpha, other) == pytest.approx(share, abs=1e-6)
        nats = quad(lambda p, a=a, b=b: noise_ceiling.entropy_of(p) * beta.pdf(p, a, b), 0, 1)[0]
        assert noise_ceiling._expected_entropy(alpha, other) == pytest.approx(nats, abs=1e-6)


@pytest.mark.parametrize("least", [0.5, 0.7])
def test_the_correction_finds_the_truth_behind_few_votes(least: float) -> None:
    """Also of a table without ties and weak majorities."""
    rng = np.random.default_rng(3)
    truth = rng.beta(1.5, 1.5, 40_000)
    votes = rng.integers(1, 8, len(truth))
    share = rng.binomial(votes, truth) / votes
    kept = (noise_ceiling.majority(share) >= least) & (share != 0.5)
    found = few_votes(share[kept], votes[kept])
    assert found is not None
    assert found.concentration == pytest.approx(1.5, rel=0.1)
    majority = noise_ceiling.majority(truth[kept])
    assert found.one_vote == pytest.approx(majority.mean(), abs=0.005)
    by_votes = np.average(majority, weights=votes[kept])
    assert found.any_vote == pytest.approx(by_votes, abs=0.005)
    assert found.entropy == pytest.approx(noise_ceiling.entropy_of(truth[kept]).mean(), abs=0.005)
    # Taken at their word the votes are far from it.
    assert noise_ceiling.majority(share[kept]).mean() > found.one_vote + 0.05


def test_a_pair_of_many_votes_counts_for_more_in_the_ceiling_of_any_vote() -> None:
    share = np.r_[np.full(50, 0.6), np.full(50, 1.0)]
    light, heavy = np.full(100, 5), np.r_[np.full(50, 5), np.full(50, 20)]
    same, more = few_votes(share, light), few_votes(share, heavy)
    assert same is not None
    assert more is not None
    assert same.any_vote == pytest.approx(same.one_vote)
    assert more.any_vote > more.one_vote + 0.05


def test_a_photo_order_does_not_matter_to_the_correction() -> None:
    share, votes = np.array([0.8, 0.25, 1.0, 2 / 3, 0.5]), np.array([5, 4, 3, 3, 2])
    assert few_votes(share, votes) == few_votes(1 - share, votes)


@pytest.mark.parametrize(
    ("share", "votes"),
    [
        ([1.0, 0.0], [1, 1]),
        ([0.5], [4]),  # a tie
        ([1.0, 1.0, 0.0], [3, 5, 2]),  # all agree, as they do where others were left out
        ([0.8], [10**9]),
    ],
)
def test_some_votes_say_nothing_about_agreement(share: list[float], votes: list[int]) -> None:
    assert few_votes(np.array(share), np.array(votes)) is None


def test_a_pair_of_a_great_many_votes_is_as_its_share() -> None:
    """It is left out of the fit, where its likelihood would have as many terms."""
    few = few_votes(np.array([0.9, 0.6]), np.array([10, 5]))
    found = few_votes(np.array([0.8, 0.9, 0.6]), np.array([10**9, 10, 5]))
    assert few is not None
    assert found is not None
    assert found.concentration == few.concentration
    assert 3 * found.one_vote == pytest.approx(2 * few.one_vote + 0.8)


def test_the_way_from_chance_to_the_ceiling() -> None:
    assert way_to_ceiling(0.6, 0.75) == pytest.approx(0.4)
    assert way_to_ceiling(0.5, 0.75) == 0
    assert way_to_ceiling(0.75, 0.75) == 1
    assert np.isnan(way_to_ceiling(0.5, 0.5))  # nobody can do better than chance


def test_agreement_by_strength_by_hand() -> None:
    preference = np.array([0.9, 0.2, 0.55, 0.5])
    series = np.array([0, 0, 1, 1])
    # Two trials judge pairs 0 to 2, one judges pair 3; none judges a pair of m 0.6 or 0.7.
    pair = np.array([0, 1, 2, 0, 1, 2, 3])
    difference = np.array([1.0, 1, 0, 1, -1, -1, 2])
    frame = by_strength(difference, pair, preference, series).set_index("strength")
    assert list(frame.index) == ["all", "strong", "0.5-0.6", "0.8-0.9", "0.9-1"]
    assert frame["pairs"].tolist() == [4, 2, 2, 1, 1]
    assert frame["pairs_with_direction"].tolist() == [3, 2, 1, 1, 1]
    assert frame["series"].tolist() == [2, 1, 1, 1, 1]
    # Right: pair 0 twice, pair 1 once, pair 2 a half. Pair 3 has no direction.
    np.testing.assert_allclose(frame["accuracy"], [3.5 / 6, 3 / 4, 0.25, 0.5, 1])
    votes = [0.9 + 0.2 + 0.5 + 0.9 + 0.8 + 0.45 + 0.5, 0.9 + 0.2 + 0.9 + 0.8, 0.5 + 0.45 + 0.5]
    np.testing.assert_allclose(frame["agreement"][:3], np.array(votes) / [7, 4, 3])
    np.testing.assert_allclose(frame["agreement"][3:], [0.5, 0.9])
    best = [(1.8 + 1.6 + 1.1 + 0.5) / 7, 3.4 / 4, 1.6 / 3, 0.8, 0.9]
    np.testing.assert_allclose(frame["agreement_ceiling"], best)
    assert frame["way_to_ceiling"]["0.9-1"] == pytest.approx(1)
    assert frame["way_to_ceiling"]["0.8-0.9"] == pytest.approx(0)
    assert frame["accuracy_error"].isna().all()  # of two series there is none


def test_who_always_agrees_with_the_majority_reaches_the_ceiling_and_all_directions() -> None:
    rng = np.random.default_rng(0)
    preference = rng.random(400)
    frame = by_strength(preference - 0.5, np.arange(400), preference, np.arange(400) // 4)
    np.testing.assert_allclose(frame["way_to_ceiling"], 1)
    np.testing.assert_allclose(frame["accuracy"], 1)
    assert (frame["agreement"] < 0.98).all()
    assert (frame["accuracy_error"] == 0).all()
