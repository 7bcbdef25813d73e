"""Every planted fault is named, a clean table is not; other votes name no more than they can."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxrank.audit import reference
from jaxrank.audit.matching import Agreement, margin_agreement, match, photos_of
from jaxrank.audit.reference import compare
from jaxrank.data.preferences import read_preferences
from jaxrank.errors import UserError

SEEDS = range(3)
Plant = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def photo(series: int, number: int) -> str:
    return f"{series:06d}-{number:02d}.JPG"


@functools.cache
def true_votes(seed: int, num_series: int = 300) -> pd.DataFrame:
    """Series of 2 to 5 photos, all pairs, 3 to 9 votes each; `preference` is the share of votes."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(num_series):
        worth = 1.5 * rng.standard_normal(rng.integers(2, 6))
        rank = np.argsort(np.argsort(-worth)) + 1
        for i in range(len(worth)):
            for j in range(i + 1, len(worth)):
                votes = rng.integers(3, 10)
                share = rng.binomial(votes, 1 / (1 + np.exp(worth[j] - worth[i]))) / votes
                rows.append((str(s), photo(s, i + 1), photo(s, j + 1), share, rank[i], rank[j]))
    columns = ["series_id", "image_a", "image_b", "preference", "rank_a", "rank_b"]
    return pd.DataFrame(rows, columns=columns)


def as_reference(votes: pd.DataFrame) -> pd.DataFrame:
    """The same votes as Photo Triage gives them."""
    return votes.assign(preference=(0.98 * votes["preference"] + 0.01).round(3))


def either_order(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The same rows, half of them with their photos the other way round."""
    return turned(votes, rng.random(len(votes)) < 0.5)


def turned(votes: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    a, b, p = (votes[column].to_numpy() for column in ("image_a", "image_b", "preference"))
    return votes.assign(
        image_a=np.where(rows, b, a),
        image_b=np.where(rows, a, b),
        preference=np.where(rows, 1 - p, p),
    )


def by_number(votes: pd.DataFrame) -> pd.DataFrame:
    """The lower photo number first, as in the real tables."""
    return turned(votes, (votes["image_a"] > votes["image_b"]).to_numpy())


def with_numbers(
    votes: pd.DataFrame, new_numbers: Callable[[int], np.ndarray], chosen: set[str] | None = None
) -> pd.DataFrame:
    """Photos get new numbers in every series, or in the chosen ones."""
    photos = pd.unique(pd.concat([votes["image_a"], votes["image_b"]]))
    series = pd.Series(photos).str[:6].astype(int)
    names: dict[str, str] = {}
    for s, size in series.value_counts().items():
        if chosen is None or str(s) in chosen:
            numbers = new_numbers(size)
            names |= {photo(s, old + 1): photo(s, numbers[old]) for old in range(size)}
    new = {c: votes[c].map(lambda name: names.get(name, name)) for c in ("image_a", "image_b")}
    return votes.assign(**new)


def half_of_series(votes: pd.DataFrame, rng: np.random.Generator) -> set[str]:
    series = votes["series_id"].unique()
    return set(rng.choice(series, len(series) // 2, replace=False))


def renumbered(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return with_numbers(votes, lambda size: rng.permutation(size) + 1)


def half_renumbered(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    chosen = half_of_series(votes, rng)
    return with_numbers(votes, lambda size: rng.permutation(size) + 1, chosen)


def shifted_up(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return with_numbers(votes, lambda size: np.roll(np.arange(1, size + 1), -1))


def shifted_down(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return with_numbers(votes, lambda size: np.roll(np.arange(1, size + 1), 1))


def inverted(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return votes.assign(preference=1 - votes["preference"])


def half_inverted(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    wrong = votes["series_id"].isin(half_of_series(votes, rng))
    return votes.assign(preference=votes["preference"].mask(wrong, 1 - votes["preference"]))


def mirrored_swapped(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    votes = either_order(votes, rng)
    wrong = votes["image_a"] > votes["image_b"]
    return votes.assign(preference=votes["preference"].mask(wrong, 1 - votes["preference"]))


def shuffled(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return votes.assign(preference=rng.permutation(votes["preference"]))


def rank_as_winner(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return votes.assign(preference=(votes["rank_a"] > votes["rank_b"]).astype(float))


def other_order(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    order = rng.permutation(len(votes))
    names = ["series_id", "image_a", "image_b"]
    return votes.assign(**{name: votes[name].to_numpy()[order] for name in names})


def clean(votes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return votes


FAULTS: dict[Plant, str] = {
    clean: reference.NONE,
    either_order: reference.NONE,
    renumbered: reference.RENUMBERED,
    half_renumbered: reference.HALF_RENUMBERED,
    shifted_up: reference.SHIFTED,
    shifted_down: reference.SHIFTED,
    inverted: reference.INVERTED,
    half_inverted: reference.HALF_INVERTED,
    mirrored_swapped: reference.MIRRORED,
    shuffled: reference.SHUFFLED,
    rank_as_winner: reference.RANK_AS_WINNER,
    other_order: reference.OTHER_ORDER,
}


@pytest.mark.parametrize(
    ("plant", "name"), FAULTS.items(), ids=lambda value: getattr(value, "__name__", value)
)
@pytest.mark.parametrize("seed", SEEDS)
def test_each_planted_fault_is_named(plant: Plant, name: str, seed: int) -> None:
    votes = true_votes(seed)
    found = compare(plant(votes, np.random.default_rng(100 + seed)), as_reference(votes))
    assert found.fault == name, found.sentence
    assert reference.MEANING[name] in found.sentence


# Rows whose photos were renamed name the higher number first in about half of the cases; written
# with the lower one first, as the real tables are, they must be named alike.
@pytest.mark.parametrize("plant", [renumbered, half_renumbered, shifted_up, shifted_down])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_a_row_does_not_matter(plant: Plant, seed: int) -> None:
    votes = true_votes(seed)
    planted = plant(votes, np.random.default_rng(100 + seed))
    assert (planted["image_a"] > planted["image_b"]).mean() > 0.1
    ordered = compare(by_number(planted), as_reference(votes))
    assert ordered.fault == FAULTS[plant], ordered.sentence
    assert ordered.direction == compare(planted, as_reference(votes)).direction


def other_votes(seed: int) -> pd.DataFrame:
    """The same photos as `true_votes(seed)`, in an order that other people agree with."""
    votes = true_votes(seed)
    rng = np.random.default_rng(1000 + seed)
    chance = np.where(votes["rank_a"] < votes["rank_b"], 0.8, 0.2)
    voters = rng.integers(3, 10, len(votes))
    return votes.assign(preference=rng.binomial(voters, chance) / voters)


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (clean, reference.NONE),
        (inverted, reference.REVERSED),
        (renumbered, reference.AT_CHANCE),
        (shuffled, reference.AT_CHANCE),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_other_votes_say_only_agree_reversed_or_chance(plant: Plant, name: str, seed: int) -> None:
    planted = by_number(plant(true_votes(seed), np.random.default_rng(seed)))
    found = compare(planted, other_votes(seed))
    assert not found.same_votes
    assert found.series_shares is None
    assert found.fault == name, found.sentence
    assert "not the same votes" in found.sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_mirrored_rows_swapped_before_they_were_merged(seed: int) -> None:
    """Both orders of most pairs have votes of their own; the swap changes the merged margins."""
    votes = true_votes(seed, num_series=800)
    rng = np.random.default_rng(seed)
    total = rng.integers(4, 10, len(votes))
    for_a = rng.binomial(total, 0.1 + 0.8 * votes["preference"])
    # Of the votes of a pair, those that were cast on the mirrored row; 11% of the pairs have one
    # row only.
    kind = rng.random(len(votes))
    mirrored = np.where(kind < 0.06, total, np.where(kind < 0.11, 0, rng.integers(1, total)))
    for_a_mirrored = rng.hypergeometric(for_a, total - for_a, mirrored)
    swapped = for_a - for_a_mirrored + (mirrored - for_a_mirrored)
    truth = as_reference(votes.assign(preference=for_a / total))
    merged = turned(votes.assign(preference=swapped / total), mirrored == total)
    assert compare(
        turned(votes.assign(preference=for_a / total), mirrored == total), truth
    ).fault == (reference.NONE)
    found = compare(merged, truth)
    assert found.fault == reference.MIRRORED, found.sentence
    assert not found.same_votes


def two_photo_series(preferences: list[float]) -> pd.DataFrame:
    rows = [(str(s), photo(s, 1), photo(s, 2), p) for s, p in enumerate(preferences)]
    return pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])


def test_agreement_by_hand() -> None:
    # Of twelve pairs one has no direction here, one none there: of ten eight agree.
    pairs = two_photo_series([0.9] * 8 + [0.2, 0.4, 0.5, 0.7])
    truth = two_photo_series([0.6] * 10 + [0.8, 0.5])
    longer = pd.DataFrame(
        [("x", "x-1.jpg", "x-2.jpg", 0.6), ("x", "x-1.jpg", "x-3.jpg", 0.6)], columns=pairs.columns
    )
    absent = pd.DataFrame([("y", "y-1.jpg", "y-2.jpg", 0.6)], columns=pairs.columns)
    # The order of a row means nothing, and a pair that one table lacks does not count.
    pairs = turned(pd.concat([pairs, longer, absent]), np.arange(15) % 2 == 0)
    found = compare(pairs, pd.concat([truth, longer.assign(preference=[0.7, 0.3])]))
    assert found.direction_two_photo.value == pytest.approx(8 / 10)
    # Eight residuals of 0.2 and two of -0.8, squared, with 10 / 9 for ten series, over ten pairs.
    error = np.sqrt((8 * 0.04 + 2 * 0.64) * 10 / 9) / 10
    assert found.direction_two_photo.standard_error == pytest.approx(error)
    assert found.direction_two_photo.low == pytest.approx(0.8 - 1.96 * error)
    assert found.direction_two_photo.high == 1.0  # and not 1.06
    assert found.direction_two_photo[4:] == (10, 10)
    assert found.direction.value == pytest.approx(9 / 12)
    assert found.direction[4:] == (12, 11)
    assert found.num_margins == 12
    assert found.fault == reference.TOO_FEW
    assert "75.0% of 12 pairs" in found.sentence
    assert "80.0% of 10" in found.sentence


def test_margins_by_hand() -> None:
    # 0.6 and 0.8 agree with their own, 0.9 does not; of the six other pairings 0.8 with 0.81 does.
    agree, chance = margin_agreement(np.array([0.6, 0.8, 0.9]), np.array([0.61, 0.8, 0.81]))
    assert agree == pytest.approx(2 / 3)
    assert chance == pytest.approx(1 / 6)
    assert np.isnan(margin_agreement(np.array([0.6]), np.array([0.6]))).all()


def test_margins_of_the_same_votes_agree_whatever_the_photos_are_called() -> None:
    votes = true_votes(0)
    planted = compare(renumbered(votes, np.random.default_rng(0)), as_reference(votes))
    assert planted.margin_agreement == 1.0
    assert 0.02 < planted.margin_chance < 0.25
    assert planted.num_margins == (votes["series_id"].value_counts() == 1).sum()
    assert planted.same_votes


def test_the_share_of_faulty_series_is_estimated() -> None:
    votes = true_votes(1, num_series=1000)
    series = votes["series_id"].unique()
    wrong = votes["series_id"].isin(series[:150])
    some = votes.assign(preference=votes["preference"].mask(wrong, 1 - votes["preference"]))
    found = compare(some, as_reference(votes))
    assert found.fault == reference.SOME_INVERTED
    assert found.series_shares is not None
    assert found.series_shares.inverted == pytest.approx(0.15, abs=0.02)
    assert sum(found.series_shares) == pytest.approx(1)
    rng = np.random.default_rng(1)
    third = with_numbers(votes, lambda size: rng.permutation(size) + 1, set(series[:333]))
    found = compare(third, as_reference(votes))
    assert found.fault == reference.HALF_RENUMBERED
    assert found.series_shares is not None
    assert found.series_shares.renumbered == pytest.approx(0.333, abs=0.06)
    # Pairs of a series go together; as coins each they would leave a quarter unexplained.
    found = compare(renumbered(votes, rng), as_reference(votes))
    assert found.series_shares is not None
    assert found.series_shares.renumbered > 0.9


def test_a_table_at_chance_is_not_half_renumbered() -> None:
    """In a small table the shares are not sure enough; half of the series renumbered leave 75%."""
    shares = reference.SeriesShares(correct=0.19, inverted=0.07, renumbered=0.74)
    chance = Agreement(0.54, 0.024, 0.49, 0.59, 721, 300)
    assert reference._fault_of_shares(shares, chance) == reference.RENUMBERED
    more = chance._replace(value=0.64, low=0.59, high=0.69)
    assert reference._fault_of_shares(shares, more) == reference.HALF_RENUMBERED


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (clean, reference.NONE),
        (inverted, reference.INVERTED),
        (renumbered, reference.RENUMBERED),
        (half_renumbered, reference.HALF_RENUMBERED),
        (shifted_up, reference.INVERTED),  # of two photos it is the same
    ],
)
def test_series_of_two_photos_only(plant: Plant, name: str) -> None:
    rng = np.random.default_rng(5)
    votes = two_photo_series((rng.binomial(7, rng.random(600)) / 7).tolist())
    found = compare(by_number(plant(votes, rng)), as_reference(votes))
    assert found.fault == name, found.sentence


def test_the_same_winners_do_not_mean_the_same_votes() -> None:
    """All margins of a table of winners are 1."""
    votes = true_votes(2)
    winners = votes.assign(preference=(votes["rank_a"] < votes["rank_b"]).astype(float))
    found = compare(by_number(renumbered(winners, np.random.default_rng(2))), winners)
    assert found.margin_agreement == found.margin_chance == 1.0
    assert not found.same_votes
    assert found.fault == reference.AT_CHANCE
    assert compare(winners, as_reference(votes)).fault == reference.NONE
    assert compare(inverted(winners, np.random.default_rng(2)), winners).fault == reference.REVERSED


def test_too_few_pairs_name_no_fault() -> None:
    votes = true_votes(3, num_series=29)
    assert compare(inverted(votes, np.random.default_rng(0)), votes).fault == reference.TOO_FEW
    # Forty series are enough to see that directions agree, and not that they are at chance.
    votes, other = (
        frame[frame["series_id"].astype(int) < 40] for frame in (true_votes(3), other_votes(3))
    )
    assert compare(votes, other).fault == reference.NONE
    planted = compare(by_number(renumbered(votes, np.random.default_rng(0))), other)
    assert planted.fault == reference.TOO_FEW, planted.sentence


def test_photos_without_numbers_are_in_the_order_of_their_names() -> None:
    votes = true_votes(4)
    letters = {f"-{number:02d}.JPG": f"{'abcde'[number - 1]}.png" for number in range(1, 6)}

    def lettered(table: pd.DataFrame) -> pd.DataFrame:
        return table.replace({"image_a": letters, "image_b": letters}, regex=True)

    planted = lettered(shifted_up(votes, np.random.default_rng(0)))
    assert planted["image_a"].iloc[0].endswith(".png")
    assert compare(planted, lettered(as_reference(votes))).fault == reference.SHIFTED


def test_photos_are_in_the_order_of_their_numbers() -> None:
    rows = [("b", "b-10.jpg", "b-9.jpg", 0.6), ("a", "a-2.jpg", "a-1.jpg", 0.6)]
    photos = photos_of(
        pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])
    )
    assert list(photos.names) == ["a-1.jpg", "a-2.jpg", "b-9.jpg", "b-10.jpg"]


def test_a_shift_by_hand() -> None:
    """Of three photos 1 becomes 2, 2 becomes 3 and 3 becomes 1."""
    pairs = pd.DataFrame(
        [("s", f"s-{a}", f"s-{b}", p) for a, b, p in [(1, 2, 0.9), (3, 1, 0.3), (2, 3, 0.4)]],
        columns=["series_id", "image_a", "image_b", "preference"],
    )
    truth = pairs.assign(preference=[0.51, 0.52, 0.53])
    still = match(pairs, truth, photos_of(truth))
    np.testing.assert_allclose(still.preference_M, [0.9, 0.7, 0.4])
    np.testing.assert_allclose(still.reference_M, [0.51, 0.48, 0.53])
    assert still.mirrored_M.tolist() == [False, True, False]
    moved = match(pairs, truth, photos_of(truth), shift=1)
    # 2 against 3; 1 against 2, the first the better one in 0.3; 3 against 1.
    np.testing.assert_allclose(moved.preference_M, [0.9, 0.3, 0.6])
    np.testing.assert_allclose(moved.reference_M, [0.53, 0.51, 0.48])
    assert moved.mirrored_M.tolist() == still.mirrored_M.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_renumbered_rows_are_no_swapped_rows_where_most_series_have_two_photos(seed: int) -> None:
    """A row that a renumbering has turned round says the reverse, if it is alone in its series."""
    rng = np.random.default_rng(seed)
    alone = two_photo_series((rng.binomial(7, rng.random(3000)) / 7).tolist())
    both = pd.concat([true_votes(seed, num_series=300), alone[300:]])
    planted = renumbered(both, np.random.default_rng(seed))
    mirrored = (planted["image_a"] > planted["image_b"]).to_numpy()
    assert compare(planted[mirrored], as_reference(both)).direction.value < 0.2
    assert compare(planted, as_reference(both)).fault == reference.RENUMBERED


def test_tables_without_a_common_pair_are_refused() -> None:
    pairs = two_photo_series([0.6, 0.7])
    other = pairs.replace({"image_a": {"JPG": "png"}, "image_b": {"JPG": "png"}}, regex=True)
    with pytest.raises(
        UserError, match=r"'000000-01\.JPG', the reference such as '000000-01\.png'"
    ):
        compare(pairs, other)


def test_the_photo_numbers_of_the_real_votes_are_permuted(photo_triage: Path) -> None:
    votes = read_preferences(photo_triage / "votes.csv", min_agreement=0.0, min_reviewers=1).table
    found = compare(votes, read_preferences(photo_triage / "pairs.csv").table)
    assert found.fault == reference.RENUMBERED
    assert "photo numbers are permuted within the series" in found.sentence
    assert found.direction.num_pairs == 7810
    assert found.direction.value == pytest.approx(0.492, abs=5e-4)
    assert found.direction.standard_error == pytest.approx(0.0065, abs=5e-5)
    assert found.direction_two_photo.num_pairs == 2058
    assert found.direction_two_photo.value == pytest.approx(0.499, abs=5e-4)
    assert found.direction_two_photo.standard_error == pytest.approx(0.011, abs=5e-5)
    assert found.num_margins == 2059
    assert found.margin_agreement == pytest.approx(0.9985, abs=5e-5)
    # With 0.98 share + 0.01 in place of the share it would be 0.074, and the agreement the same.
    assert found.margin_chance == pytest.approx(0.0798, abs=5e-5)
