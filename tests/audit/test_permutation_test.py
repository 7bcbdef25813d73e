"""Do labels belong to photos? Hand arithmetic, the null, and planted faults in small data."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

import jaxrank
from jaxrank.audit import grouped_ridge, permutation_test
from jaxrank.data.dataset import Dataset, align, permuted_rows
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences, read_preferences
from jaxrank.errors import UserError

IQA = ["sharpness", "exposure", "colorfulness", "contrast"]


def tasteful(num_series: int, seed: int, signal: float = 0.35) -> Dataset:
    """Series of 2 to 4 photos, all pairs; the first three numbers show some of the appeal."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, num_series)
    series = np.repeat(np.arange(num_series), sizes)
    values = (
        rng.standard_normal((len(series), 4)) + 2 * rng.standard_normal((num_series, 4))[series]
    )
    appeal = signal * values[:, :3].sum(axis=1) + rng.standard_normal(len(series))
    names = [f"{s:06d}-{i:02d}.JPG" for s in range(num_series) for i in range(1, sizes[s] + 1)]
    starts = np.cumsum(sizes) - sizes
    first, second = np.array(
        [
            (start + i, start + j)
            for start, size in zip(starts, sizes, strict=True)
            for i, j in itertools.combinations(range(size), 2)
        ]
    ).T
    share = 1 / (1 + np.exp(appeal[second] - appeal[first]))
    table = pd.DataFrame(
        {
            "series_id": series[first].astype(str),
            "image_a": np.array(names)[first],
            "image_b": np.array(names)[second],
            # Three votes, and half a vote for each side.
            "preference": (rng.binomial(3, share) + 0.5) / 4,
        }
    )
    return align(Preferences(table), {"iqa": Block(names, IQA, values.astype(np.float32))})


def two_photo_series(values: list[float], preferences: list[float]) -> Dataset:
    """Series of two photos with one number each."""
    names = [f"p{i:03d}.jpg" for i in range(len(values))]
    table = pd.DataFrame(
        {
            "series_id": [str(s) for s in range(len(preferences))],
            "image_a": names[::2],
            "image_b": names[1::2],
            "preference": preferences,
        }
    )
    column = np.array(values, np.float32)[:, None]
    return align(Preferences(table), {"iqa": Block(names, ["size"], column)})


def with_features(dataset: Dataset, values: np.ndarray) -> Dataset:
    return dataset._replace(features_ND=values.astype(np.float32))


def with_preference(dataset: Dataset, preference_M: np.ndarray) -> Dataset:
    return dataset._replace(
        preference_M=preference_M.astype(np.float32),
        table=dataset.table.assign(preference=preference_M),
    )


def names_of(found: permutation_test.Link) -> list[str]:
    return [look.name for look in found.looks]


def test_accuracy_counts_ties_of_scores_half_and_leaves_out_ties_of_votes() -> None:
    # Of 12 series the first seven are right, two are ties of scores, three are wrong; a thirteenth
    # has no direction.
    values = [2.0, 1.0] * 4 + [1.0, 2.0] * 3 + [3.0, 3.0] * 2 + [1.0, 2.0] * 3 + [5.0, 1.0]
    preferences = [0.9] * 4 + [0.2] * 3 + [0.8] * 2 + [0.6] * 3 + [0.5]
    found = permutation_test.run_permutation_test(two_photo_series(values, preferences))
    assert (found.num_pairs, found.num_series) == (12, 12)
    look = found.looks[0]
    assert look.name == "size"
    assert look.two_sided
    assert look.accuracy == (7 + 2 / 2) / 12
    # Ten pairs fall either way, two are halves: sd = sqrt(10 / 4) / 12, here of 99 draws.
    assert look.null_mean == pytest.approx(0.5, abs=4 * np.sqrt(2.5) / 12 / np.sqrt(99))
    assert look.null_sd == pytest.approx(np.sqrt(2.5) / 12, rel=0.3)
    assert look.z == (look.accuracy - look.null_mean) / look.null_sd
    # Residuals 7 x 1/3, 2 x -1/6, 3 x -2/3; their squares sum to 13/6.
    assert look.standard_error == pytest.approx(np.sqrt(12 / 11 * 13 / 6) / 12)
    assert found.verdict == permutation_test.TOO_FEW


def test_the_null_keeps_the_ties_inside_series() -> None:
    # In 90 of 100 series both photos have the same number, in every series another one.
    values = [float(s) for s in range(90) for _ in "ab"] + [float(i) for i in range(20)]
    look = permutation_test.run_permutation_test(two_photo_series(values, [0.9] * 100)).looks[0]
    assert look.accuracy == (90 / 2 + 0) / 100
    # Ten pairs fall either way; were photos exchanged between series, nearly all would.
    assert look.null_sd == pytest.approx(np.sqrt(10 / 4) / 100, rel=0.3)


def test_p_value_and_detectable_effect_follow_from_the_looks() -> None:
    found = permutation_test.run_permutation_test(tasteful(60, seed=3, signal=0.0))
    assert names_of(found) == [*IQA, permutation_test.SIGNED_SUM, permutation_test.RIDGE]
    assert [look.two_sided for look in found.looks] == [True] * 5 + [False]
    sizes = [abs(look.z) if look.two_sided else look.z for look in found.looks]
    assert found.max_z == max(sizes)
    from scipy.stats import norm

    assert found.p_value == pytest.approx(min(1.0, 6 * 2 * (1 - norm.cdf(found.max_z))))
    assert found.signed_sum_z == found.looks[4].z
    # Two-sided 0.001 over six looks is 3.76 standard errors, a power of 95% another 1.645.
    largest = max(look.standard_error for look in found.looks[:4])
    assert found.detectable_effect == pytest.approx((3.765 + 1.645) * largest, rel=1e-3)


def test_ridge_is_that_of_scikit_learn_on_the_other_folds() -> None:
    rng = np.random.default_rng(0)
    difference, target = rng.standard_normal((40, 3)), rng.uniform(-0.5, 0.5, 40)
    starts = np.array([8, 16, 24, 32])
    scores = grouped_ridge.ridge_scores(difference, target, starts)
    for fold in np.split(np.arange(40), starts):
        others = np.setdiff1d(np.arange(40), fold)
        # (1 - 0.05) / 0.05 times the inputs' sum of squares a pair.
        penalty = 19 * (difference[others] ** 2).sum() / len(others)
        ridge = Ridge(alpha=penalty, fit_intercept=False).fit(difference[others], target[others])
        np.testing.assert_allclose(scores[fold], ridge.predict(difference[fold]), atol=1e-12)


def test_ridge_of_zero_differences_is_zero() -> None:
    scores = grouped_ridge.ridge_scores(np.zeros((20, 2)), np.ones(20), np.array([4, 8, 12, 16]))
    assert (scores == 0).all()


def test_columns_that_never_differ_in_a_pair_are_no_looks() -> None:
    dataset = tasteful(80, seed=4)
    values = dataset.features_ND.copy()
    values[:, 3] = 1e6 + 0.1
    assert names_of(permutation_test.run_permutation_test(with_features(dataset, values))) == [
        *IQA[:3],
        permutation_test.SIGNED_SUM,
        permutation_test.RIDGE,
    ]
    values[dataset.pair_rows_M2, 0] = dataset.series_M[:, None]  # differs between series only
    assert names_of(permutation_test.run_permutation_test(with_features(dataset, values))) == [
        *IQA[1:3],
        permutation_test.SIGNED_SUM,
        permutation_test.RIDGE,
    ]
    nothing = permutation_test.run_permutation_test(with_features(dataset, np.ones_like(values)))
    assert (nothing.looks, nothing.verdict, nothing.p_value) == (
        [],
        permutation_test.NOTHING_VARIES,
        1.0,
    )
    assert nothing.detectable_effect == np.inf


def test_a_wide_block_is_looked_at_by_the_ridge_alone() -> None:
    dataset = tasteful(900, seed=5)
    rng = np.random.default_rng(5)
    mixed = dataset.features_ND @ rng.standard_normal((4, 70))
    mixed += 0.3 * rng.standard_normal(mixed.shape)
    wide = dataset._replace(
        features_ND=mixed.astype(np.float32),
        block_columns={"clip": tuple(f"c{i}" for i in range(70))},
    )
    found = permutation_test.run_permutation_test(wide)
    assert names_of(found) == [permutation_test.RIDGE]
    assert found.signed_sum_z is None
    assert found.verdict == permutation_test.LINKED
    # Without a number of known direction an inversion can't be seen.
    turned = permutation_test.run_permutation_test(
        with_preference(wide, 1 - wide.table["preference"].to_numpy())
    )
    assert turned.verdict == permutation_test.LINKED
    assert turned.looks[0].accuracy == found.looks[0].accuracy


def test_numbers_of_other_narrow_blocks_are_named_by_their_block() -> None:
    dataset = tasteful(60, seed=6)._replace(block_columns={"depth": tuple(IQA)})
    found = permutation_test.run_permutation_test(dataset)
    assert names_of(found) == [*(f"depth:{name}" for name in IQA), permutation_test.RIDGE]


def test_units_of_features_do_not_matter() -> None:
    dataset = tasteful(100, seed=7)
    scaled = dataset.features_ND * np.array([1024.0, 1.0, 2.0**-10, 8.0], np.float32)
    before, after = (
        permutation_test.run_permutation_test(dataset),
        permutation_test.run_permutation_test(with_features(dataset, scaled)),
    )
    assert [look.accuracy for look in before.looks] == [look.accuracy for look in after.looks]


def test_sides_of_pairs_do_not_matter() -> None:
    dataset = tasteful(100, seed=8)
    preference = dataset.table["preference"].to_numpy()
    turned = with_preference(dataset, 1 - preference)._replace(
        pair_rows_M2=dataset.pair_rows_M2[:, ::-1]
    )
    before, after = (
        permutation_test.run_permutation_test(dataset),
        permutation_test.run_permutation_test(turned),
    )
    assert [look[:5] for look in before.looks] == [look[:5] for look in after.looks]


def test_a_seed_repeats_itself_and_another_does_not() -> None:
    dataset = tasteful(60, seed=9)
    first, again, other = (
        permutation_test.run_permutation_test(dataset, seed=seed) for seed in (1, 1, 2)
    )
    assert first.looks == again.looks
    assert first.looks != other.looks


def renumbered(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    series_N = np.zeros(len(dataset.photos), int)
    series_N[dataset.pair_rows_M2] = dataset.series_M[:, None]
    return with_features(dataset, dataset.features_ND[permuted_rows(series_N, rng)])


def inverted(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    return with_preference(dataset, 1 - dataset.table["preference"].to_numpy())


def shuffled(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    return with_preference(dataset, rng.permutation(dataset.table["preference"].to_numpy()))


def noise_features(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    return with_features(dataset, rng.standard_normal(dataset.features_ND.shape))


def mirrored(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    preference = dataset.table["preference"].to_numpy()
    return with_preference(
        dataset, np.where(rng.random(len(preference)) < 0.5, preference, 1 - preference)
    )


def shifted(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    series = [name.split("-")[0] for name in dataset.photos]
    rows = pd.Series(np.arange(len(series)), index=dataset.photos).sort_index()
    before = rows.groupby(np.sort(series)).transform(lambda photos: np.roll(photos, 1))
    return with_features(dataset, dataset.features_ND[before[dataset.photos]])


FAULTS: dict[str, tuple[Callable[[Dataset, np.random.Generator], Dataset], set[str]]] = {
    "clean": (lambda dataset, rng: dataset, {permutation_test.LINKED}),
    "renumbered": (renumbered, {permutation_test.UNLINKED}),
    "inverted": (inverted, {permutation_test.INVERTED}),
    "mirrored": (mirrored, {permutation_test.UNLINKED}),
    "shuffled": (shuffled, {permutation_test.UNLINKED}),
    "noise": (noise_features, {permutation_test.UNLINKED}),
    # Turns every pair of a series of two round, and others in part.
    "shifted": (shifted, {permutation_test.UNLINKED, permutation_test.INVERTED}),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(fault: str, seed: int) -> None:
    spoil, verdicts = FAULTS[fault]
    dataset = spoil(tasteful(1000, seed), np.random.default_rng([1, seed]))
    found = permutation_test.run_permutation_test(dataset, seed=seed)
    assert found.verdict in verdicts
    assert found.num_permutations == permutation_test.FEWEST_PERMUTATIONS


@pytest.mark.parametrize(
    ("signed_z", "sharpness_z", "contrast_z", "inverted"),
    [
        (-3.2, -2.0, 0.0, True),
        (-3.0, -2.0, -9.0, False),  # the direction of contrast isn't known
        (-1.0, -3.8, 0.0, True),  # as where photo numbers are shifted
        (0.1, -9.0, 0.0, False),  # a taste for soft photos
        (None, -9.0, 0.0, False),
    ],
)
def test_inversion_is_told_by_numbers_of_known_direction(
    signed_z: float | None, sharpness_z: float, contrast_z: float, inverted: bool
) -> None:
    def look(name: str, z: float) -> permutation_test.TestStatistic:
        return permutation_test.TestStatistic(name, 0.5 + 0.01 * z, 0.5, 0.01, z, True, 0.01)

    looks = [look("sharpness", sharpness_z), look("contrast", contrast_z)]
    assert permutation_test._is_inverted(looks, signed_z, limit_z=3.76) is inverted


def test_few_pairs_without_a_link_warn_and_never_fail() -> None:
    found = permutation_test.run_permutation_test(
        noise_features(tasteful(200, 0), np.random.default_rng(0))
    )
    assert found.verdict == permutation_test.TOO_FEW
    assert found.detectable_effect > permutation_test.LARGEST_BLIND_SPOT


def test_fewer_than_ten_series_are_too_few() -> None:
    found = permutation_test.run_permutation_test(two_photo_series([1.0, 0.0] * 9, [0.9] * 9))
    assert (found.looks, found.verdict, found.num_pairs) == ([], permutation_test.TOO_FEW, 9)


def test_pairs_without_any_direction_are_too_few() -> None:
    found = permutation_test.run_permutation_test(two_photo_series([1.0, 0.0] * 20, [0.5] * 20))
    assert (found.num_pairs, found.num_series, found.verdict) == (0, 0, permutation_test.TOO_FEW)


def test_out_of_time_says_so_and_gives_no_p_value() -> None:
    found = permutation_test.run_permutation_test(tasteful(60, seed=1), max_seconds=0.0)
    assert found.verdict == permutation_test.OUT_OF_TIME
    assert np.isnan([found.p_value, found.max_z, found.looks[0].z, found.looks[0].null_sd]).all()
    assert found.signed_sum_z is None
    assert 0 <= found.looks[0].accuracy <= 1


def test_time_cuts_permutations_but_not_below_the_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    # Each look at the clock takes a second: one at the start, one a permutation.
    monkeypatch.setattr(permutation_test.time, "monotonic", lambda: float(next(clock)))
    found = permutation_test.run_permutation_test(
        tasteful(60, seed=1), num_permutations=150, max_seconds=120.5
    )
    assert found.num_permutations == 120
    assert np.isfinite(found.p_value)
    found = permutation_test.run_permutation_test(
        tasteful(60, seed=1), num_permutations=150, max_seconds=50.5
    )
    assert (found.num_permutations, found.verdict) == (50, permutation_test.OUT_OF_TIME)


def test_too_few_permutations_are_refused() -> None:
    with pytest.raises(UserError, match="at least 99"):
        permutation_test.run_permutation_test(tasteful(20, seed=1), num_permutations=98)


def test_many_pairs_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation_test, "MOST_PAIRS", 300)
    found = permutation_test.run_permutation_test(tasteful(200, seed=1))
    assert found.num_pairs == 300
    assert 100 < found.num_series <= 200


@pytest.fixture(scope="module")
def iqa(photo_triage: Path) -> dict[str, Block]:
    return {"iqa": jaxrank.read_block_csv(photo_triage / "iqa.csv")}


def test_real_pairs_pass(photo_triage: Path, iqa: dict[str, Block]) -> None:
    found = permutation_test.run_permutation_test(
        align(read_preferences(photo_triage / "pairs.csv"), iqa)
    )
    assert (found.num_pairs, found.num_series) == (4101, 1621)
    accuracy = {look.name: look.accuracy for look in found.looks}
    expected = {"sharpness": 0.556, "exposure": 0.568, "colorfulness": 0.559, "contrast": 0.488}
    for name, value in expected.items():
        assert accuracy[name] == pytest.approx(value, abs=5e-4)
    assert accuracy[permutation_test.SIGNED_SUM] == pytest.approx(0.585, abs=0.002)
    assert accuracy[permutation_test.RIDGE] == pytest.approx(0.58, abs=0.005)
    assert found.max_z == pytest.approx(9.4, abs=1.5)
    assert found.verdict == permutation_test.LINKED


def test_real_votes_with_permuted_photo_numbers_fail(
    photo_triage: Path, iqa: dict[str, Block]
) -> None:
    found = permutation_test.run_permutation_test(
        align(read_preferences(photo_triage / "votes.csv"), iqa)
    )
    assert found.num_pairs == 2534
    assert found.verdict == permutation_test.UNLINKED
    assert found.p_value > 0.01
