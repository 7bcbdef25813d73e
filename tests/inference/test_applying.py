"""What a saved model says of pairs and photos: by hand, and on the command line."""

import csv
import dataclasses
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from bad_bytes import nearly, told_or_done
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_data import card_of, experiment

from jaxrank.cli import main
from jaxrank.data.feature_store import Block, write_block
from jaxrank.data.inputs import FeaturesInput
from jaxrank.data.series import read_series
from jaxrank.data.synthetic import simulate
from jaxrank.errors import UserError
from jaxrank.evaluation.calibration import Calibration
from jaxrank.evaluation.ensembles import SINGLE
from jaxrank.inference.evaluate import Evaluation, evaluate_model
from jaxrank.inference.rank import rank_photos
from jaxrank.inference.saved_model import Model, load_model, save_model
from jaxrank.io import seal
from jaxrank.reporting.summary import percent
from jaxrank.scaling import fit_scaling
from jaxrank.training.state import InitialWeights


def facts_of_card(changes: dict[str, Any]) -> dict[str, Any]:
    """What of the changes is of a card, taken out of them."""
    facts = {"caveats": changes.pop("caveats")} if "caveats" in changes else {}
    if "slope" in changes:
        slope = changes.pop("slope")
        facts["calibration"] = Calibration(slope=slope, pick_slope=slope)
    return facts


def save_linear(folder: Path, columns: Mapping[str, Sequence[str]], **changes: Any) -> Path:
    """A saved model whose score is the sum of its columns: 2 * (x - 1) * 0.5 + 1 of each, and the
    ones cancel in every difference."""
    width = sum(map(len, columns.values()))
    facts: dict[str, Any] = {}
    seen: dict[str, list[str]] = {"train": [], "val": []}
    params: dict[str, Any] = {"params": {"kernel_0": np.full((1, width), 2, np.float32)}}
    if "log_ties" in changes:
        params["loss"] = {"log_ties": np.float32(changes.pop("log_ties"))}
    seen |= {how: changes.pop(how) for how in ("train", "val") if how in changes}
    facts |= facts_of_card(changes)
    changes = {"input_scaling": "standard"} | changes
    e = experiment("e", mlp_hidden_dims=(), blocks=tuple(columns), **changes)
    scaling = fit_scaling(np.zeros((1, width), np.float32), np.zeros(1, int))
    mean = np.ones(width, np.float32)
    weights = InitialWeights(params, scaling._replace(mean_D=mean, inv_std_D=mean / 2))
    model = Model(
        card_of(e, **facts),
        {name: tuple(names) for name, names in columns.items()},
        (weights,),
        SINGLE,
        {how: frozenset(names) for how, names in seen.items()},
    )
    save_model(folder, model, np.ones((1, width), np.float32))
    return folder


def block(scores: Mapping[str, float], column: str = "c") -> Block:
    return Block(list(scores), [column], np.array(list(scores.values()), np.float32)[:, None])


def frame(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["series_id", "image_a", "image_b", "preference"])


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The score of a photo is its only number, less one."""
    return load_model(save_linear(tmp_path_factory.mktemp("m") / "model", {"clip": ["c"]}))


def described(model: Model, **changes: Any) -> Model:
    """The model with another card, or other hyperparameters on it."""
    of_card = facts_of_card(changes)
    changed = dataclasses.replace(model.card.experiment, **changes)
    return model._replace(card=dataclasses.replace(model.card, experiment=changed, **of_card))


# Series 0 to 6 have a difference of 1 the right way, 7 of 1 the wrong way, 8 none; in series 9
# the photos a > b > c have the scores 3, 1, 2; series 10 has no direction, and a difference of 5.
DIFFERENCES = [1.0] * 7 + [-1.0, 0.0]
TABLE = frame(
    [(str(s), f"{s}a", f"{s}b", 0.8) for s in range(9)]
    + [("9", "9a", "9b", 0.9), ("9", "9a", "9c", 0.9), ("9", "9b", "9c", 0.9)]
    + [("10", "10a", "10b", 0.5)]
)
NUMBERS = {f"{s}a": d for s, d in enumerate(DIFFERENCES)} | {f"{s}b": 0.0 for s in range(9)}
NUMBERS |= {"9a": 3, "9b": 1, "9c": 2, "10a": 5, "10b": 0}
SERIES_OF_TABLE = pd.DataFrame({"series_id": "one", "image": list(NUMBERS)})
# Of every pair: difference and preference.
D = np.array([*DIFFERENCES, 2, 1, -1, 5])
P = np.array([0.8] * 9 + [0.9] * 3 + [0.5])


def row_of(found: Evaluation, scorer: str = "model", split: str = "new") -> dict[str, Any]:
    metrics = found.metrics
    (row,) = metrics[(metrics["scorer"] == scorer) & (metrics["split"] == split)].to_dict("records")
    return row


def test_metrics_by_hand(linear: Model) -> None:
    found = evaluate_model(linear, TABLE, {"clip": block(NUMBERS)})
    row = row_of(found)
    hits = 7 + 0 + 0.5 + 2  # a tie is half a hit; series 9 has two of three right
    a = hits / 12
    assert (row["pairs"], row["series"]) == (12, 10)  # series 10 has no direction
    assert row["accuracy"] == pytest.approx(a)
    # Residuals summed by series: right, wrong, half, and two of three.
    squares = 7 * (1 - a) ** 2 + (0 - a) ** 2 + (0.5 - a) ** 2 + (2 - 3 * a) ** 2
    assert row["standard_error"] == pytest.approx(math.sqrt(10 / 9 * squares) / 12)
    assert row["top1_hit"] == pytest.approx((7 + 0 + 0.5 + 1) / 10)
    assert row["kendall_tau"] == pytest.approx((2 - 1) / 3)  # only series 9 has three photos
    chance = row_of(found, "chance")
    assert chance["accuracy"] == 0.5
    assert chance["top1_hit"] == pytest.approx((9 / 2 + 1 / 3) / 10)
    assert np.isnan(chance["loss"])
    assert len(found.metrics) == 2


def test_every_form_of_features_gives_the_same_scores(linear: Model, tmp_path: Path) -> None:
    clip = block(NUMBERS)
    clips = pd.DataFrame(clip.values, index=list(clip.photos), columns=["c"])
    model = linear._replace(block_columns={"features": ("c",)})
    clips.to_parquet(tmp_path / "f.parquet")
    clips.to_csv(tmp_path / "f.csv", index_label="image")
    expected = evaluate_model(linear, TABLE, {"clip": clip})
    ranked = rank_photos(linear, {"clip": clip}, SERIES_OF_TABLE)
    forms: list[tuple[Model, FeaturesInput]] = [
        (linear, {"clip": clips}),
        (model, clips),
        (model, tmp_path / "f.parquet"),
        (model, str(tmp_path / "f.csv")),
        (linear._replace(block_columns={"features": ("features_0",)}), (clip.values, clip.photos)),
    ]
    np.savez(tmp_path / "f.npz", names=np.array(clip.photos), clip=clip.values)
    forms.append((linear._replace(block_columns={"clip": ("clip_0",)}), tmp_path / "f.npz"))
    for reading, form in forms:
        found = evaluate_model(reading, TABLE, form)
        pd.testing.assert_frame_equal(found.predictions, expected.predictions)
        table = rank_photos(reading, form, SERIES_OF_TABLE).table
        pd.testing.assert_frame_equal(table, ranked.table)
        pd.testing.assert_series_equal(reading.score(form), linear.score({"clip": clip}))


def test_predictions_are_every_pair_with_its_scores(linear: Model) -> None:
    rows = evaluate_model(linear, TABLE, {"clip": block(NUMBERS)}).predictions
    assert list(rows.columns) == [
        "series_id", "image_a", "image_b", "preference", "score_a", "score_b", "correct", "split"
    ]  # fmt: skip
    np.testing.assert_allclose(rows["score_a"], [NUMBERS[name] - 1 for name in TABLE["image_a"]])
    np.testing.assert_allclose(rows["score_b"], [NUMBERS[name] - 1 for name in TABLE["image_b"]])
    np.testing.assert_array_equal(
        rows["correct"], [1] * 7 + [0, 0.5] + [1, 1, 0] + [np.nan]  # no direction, no answer
    )  # fmt: skip
    assert set(rows["split"]) == {"new"}


def test_too_few_series_have_no_standard_error(linear: Model) -> None:
    few = TABLE[TABLE["series_id"].isin(list("0123456"))]
    row = row_of(evaluate_model(linear, few, {"clip": block(NUMBERS)}))
    assert (row["pairs"], row["accuracy"]) == (7, 1)
    assert np.isnan(row["standard_error"])
    assert np.isnan(row["kendall_tau"])  # no series of three photos


def test_preferences_of_one_half_alone_have_a_loss_and_no_accuracy(linear: Model) -> None:
    undecided = TABLE[TABLE["series_id"] == "10"]
    model = described(linear, loss="logistic")
    row = row_of(evaluate_model(model, undecided, {"clip": block(NUMBERS)}))
    assert row["pairs"] == 0
    assert np.isnan([row["accuracy"], row["standard_error"], row["top1_hit"]]).all()
    assert row["loss"] == pytest.approx(math.log(1 + math.exp(5)) - 0.5 * 5)
    ranked = row_of(evaluate_model(linear, undecided, {"clip": block(NUMBERS)}))
    assert np.isnan(ranked["loss"])  # a margin needs a direction


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Of differences 1, -1, 0, and 2, 1, -1 the right way; one half has no weight.
        ({"loss": "margin_ranking", "margin": 2.0}, (7 * 1 + 3 + 2 + 0 + 1 + 3) / 12),
        ({"loss": "margin_ranking", "margin": 0.5}, (7 * 0 + 1.5 + 0.5 + 0 + 0 + 1.5) / 12),
        ({"loss": "logistic"}, np.mean(np.log(1 + np.exp(D)) - P * D)),
    ],
)
def test_the_loss_is_the_models_own(
    linear: Model, changes: dict[str, Any], expected: float
) -> None:
    found = evaluate_model(described(linear, **changes), TABLE, {"clip": block(NUMBERS)})
    assert row_of(found)["loss"] == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_davidson_has_the_learned_share_of_ties(tmp_path: Path) -> None:
    folder = save_linear(tmp_path / "m", {"clip": ["c"]}, loss="davidson", log_ties=0.7)
    z = np.exp(D / 2) + np.exp(-D / 2) + np.exp(0.7)
    a, b, tie = np.exp(D / 2) / z, np.exp(-D / 2) / z, np.exp(0.7) / z
    expected = -np.where(P == 0.5, np.log(tie), P * np.log(a) + (1 - P) * np.log(b)).mean()
    row = row_of(evaluate_model(folder, TABLE, {"clip": block(NUMBERS)}))
    assert row["loss"] == pytest.approx(expected, rel=1e-6)


def test_photos_that_the_model_has_seen_are_counted_apart(linear: Model) -> None:
    """One photo of a pair is enough, and training is worse than validation."""
    seen = {"train": frozenset({"1a", "2b", "9c"}), "val": frozenset({"2a", "3b", "9a"})}
    found = evaluate_model(linear._replace(seen=seen), TABLE, {"clip": block(NUMBERS)})
    split = dict(zip(TABLE["image_a"] + TABLE["image_b"], found.predictions["split"], strict=True))
    assert {pair for pair, how in split.items() if how == "train"} == {"1a1b", "2a2b", "9a9c",
                                                                     "9b9c"}  # fmt: skip
    assert {pair for pair, how in split.items() if how == "val"} == {"3a3b", "9a9b"}
    rows = found.metrics[found.metrics["scorer"] == "model"].set_index("split")
    assert rows["pairs"].to_dict() == {"new": 6, "val": 2, "train": 4}
    # New: series 0, 4, 5, 6 right, 7 wrong, 8 half; of training the pair 9b9c is wrong.
    expected = {"new": 4.5 / 6, "val": 1, "train": 3 / 4}
    assert rows["accuracy"].to_dict() == pytest.approx(expected)
    assert rows["loss"].to_dict() == pytest.approx(
        {"new": (0 * 4 + 2 + 1) / 6, "val": 0, "train": (0 + 0 + 0 + 2) / 4}
    )
    assert "the model has seen photos of 6 of 13 pairs: only the rows 'new' are unbiased" in (
        found.notes
    )
    unseen = evaluate_model(linear, TABLE, {"clip": block(NUMBERS)})
    assert not [note for note in unseen.notes if "seen" in note]


def opposite(name: str) -> float:
    return -NUMBERS[name]


def test_rules_stand_beside_a_model_that_does_not_read_their_block(linear: Model) -> None:
    names = list(reversed(NUMBERS))  # another order than the model's block
    iqa = Block(names, ["sharpness"], np.array([[opposite(name)] for name in names], np.float32))
    store = {"clip": block(NUMBERS), "iqa": iqa}
    found = evaluate_model(linear, TABLE, store)
    assert found.metrics["scorer"].tolist() == ["model", "chance", "sharpness"]
    assert row_of(found, "sharpness")["accuracy"] == pytest.approx(1 - 9.5 / 12)
    assert row_of(found)["accuracy"] == pytest.approx(9.5 / 12)
    assert np.isnan(row_of(found, "sharpness")["loss"])


def test_a_photo_without_image_quality_numbers_takes_the_rules_and_no_pair(linear: Model) -> None:
    some = {name: opposite(name) for name in NUMBERS if name != "0a"}
    store = {"clip": block(NUMBERS), "iqa": block(some, "sharpness")}
    found = evaluate_model(linear, TABLE, store)
    assert found.metrics["scorer"].tolist() == ["model", "chance"]
    assert row_of(found)["pairs"] == 12
    assert "no image-quality baselines: 1 photos have no row in block 'iqa'" in found.notes


def test_a_number_called_model_does_not_take_the_models_place(linear: Model) -> None:
    worse = {name: opposite(name) for name in NUMBERS}
    found = evaluate_model(linear, TABLE, {"clip": block(NUMBERS), "iqa": block(worse, "model")})
    assert row_of(found)["accuracy"] == pytest.approx(9.5 / 12)
    assert row_of(found)["loss"] == pytest.approx((0 * 8 + 2 + 1 + 0 + 2) / 12)
    assert row_of(found, "iqa:model")["accuracy"] == pytest.approx(1 - 9.5 / 12)


def test_pairs_without_features_are_left_out_and_counted(linear: Model) -> None:
    some = {name: number for name, number in NUMBERS.items() if name not in ("0a", "9c")}
    found = evaluate_model(linear, TABLE, {"clip": block(some)})
    assert row_of(found)["pairs"] == 12 - 3
    assert len(found.predictions) == 13 - 3
    assert any("3 of 13 pairs left out: a photo without features" in note for note in found.notes)


def test_what_the_model_is_warned_of_is_said(linear: Model) -> None:
    warned = described(linear, caveats=["SIMULATED data"])
    store = {"clip": block(NUMBERS)}
    assert "the model's training: SIMULATED data" in evaluate_model(warned, TABLE, store).notes
    assert "the model's training: SIMULATED data" in rank_photos(warned, store).notes
    plain = rank_photos(described(linear, caveats=[]), store).notes
    assert plain == [KEPT]


def test_scores_that_are_no_numbers_are_refused(linear: Model) -> None:
    params = {"params": {"kernel_0": np.full((1, 1), 3e38, np.float32)}}
    broken = linear._replace(members=(linear.weights._replace(params=params),))
    store = {"clip": block(NUMBERS)}
    for act in (lambda: evaluate_model(broken, TABLE, store), lambda: rank_photos(broken, store)):
        with pytest.raises(UserError, match=r"the score of photo '\d+a' is not a finite number"):
            act()


# A photo's number is its score plus one.
SCORES = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 5.0, "e": 5.0, "f": 4.0, "g": 9.0, "h": 7.0}
KEPT = "all photos are kept: 0 series to calibrate by are too few to keep the best of 90% of series"
SERIES = pd.DataFrame({"series_id": list("2221113"), "image": ["a", "b", "c", "f", "e", "d", "g"]})


def test_p_best_by_hand(linear: Model) -> None:
    found = rank_photos(described(linear, slope=0.5), {"clip": block(SCORES)}, SERIES)
    table = found.table.set_index("image")
    columns = ["series_id", "image", "score", "rank", "pick", "p_best", "keep"]
    assert list(found.table.columns) == columns
    assert table["score"].to_dict() == {name: score - 1 for name, score in SCORES.items()}
    total = math.exp(1.5) + math.exp(0.5) + math.exp(1.0)
    for name in "abc":
        expected = math.exp(0.5 * SCORES[name]) / total
        assert table.loc[name, "p_best"] == pytest.approx(expected)
    # d and e are equal: twice 1, and exp(-0.5) for f.
    assert table.loc["d", "p_best"] == table.loc["e", "p_best"] == pytest.approx(
        1 / (2 + math.exp(-0.5))
    )  # fmt: skip
    assert table.loc["g", "p_best"] == 1  # alone in its series
    for _, rows in found.table[found.table["series_id"] != ""].groupby("series_id"):
        assert rows["p_best"].sum() == pytest.approx(1)
        assert rows["p_best"].mean() == pytest.approx(1 / len(rows))


def test_the_order_of_a_series_is_that_of_its_scores(linear: Model) -> None:
    found = rank_photos(linear, {"clip": block(SCORES)}, SERIES)
    ranked = found.table.iloc[:7]
    # Series in the order of the table, the best photo first; of equal ones the first in the table.
    assert ranked["series_id"].tolist() == list("2221113")
    assert ranked["image"].tolist() == ["a", "c", "b", "e", "d", "f", "g"]
    assert ranked["rank"].tolist() == [1, 2, 3, 1, 1, 3, 1]
    assert ranked["pick"].tolist() == [True, False, False, True, False, False, True]
    assert "2 photos share the best score of their series: the first is the pick" in found.notes
    last = found.table.iloc[7]
    assert (last["series_id"], last["image"], last["score"]) == ("", "h", 6)
    assert last[["rank", "pick", "p_best", "keep"]].isna().all()
    assert "1 photo belongs to no series: scored, but not ranked" in found.notes


def test_huge_differences_do_not_overflow(linear: Model) -> None:
    far = {"a": 3e30, "b": -3e30, "c": 0.0}
    table = rank_photos(described(linear, slope=9.0), {"clip": block(far)}).table
    assert table["p_best"].tolist() == [1, 0, 0]
    assert table["image"].tolist() == ["a", "c", "b"]


def test_photos_near_the_best_are_kept(linear: Model) -> None:
    known = dataclasses.replace(
        linear.card.calibration, keep_gap=1.0, keep_size=1.5, keep_series=40, keep_share=0.9
    )
    model = linear._replace(card=dataclasses.replace(linear.card, calibration=known))
    found = rank_photos(model, {"clip": block(SCORES)}, SERIES)
    assert found.table["keep"].iloc[:7].tolist() == [True, True, False, True, True, True, True]
    (note,) = (note for note in found.notes if note.startswith("keep: "))
    assert "at least 90% of series" in note
    assert "1.5 were kept on average" in note


def test_probabilities_that_were_worse_than_chance_are_not_shown(linear: Model) -> None:
    known = dataclasses.replace(linear.card.calibration, log_loss=0.872)
    model = linear._replace(card=dataclasses.replace(linear.card, calibration=known))
    found = rank_photos(model, {"clip": block(SCORES)}, SERIES)
    assert found.table["p_best"].isna().all()
    assert found.table["pick"].iloc[0]
    assert any("worse than chance (log loss 0.872, chance 0.693)" in n for n in found.notes)


def test_without_series_all_photos_are_one(linear: Model) -> None:
    found = rank_photos(linear, {"clip": block(SCORES)})
    assert set(found.table["series_id"]) == {"all"}
    assert found.table["image"].iloc[0] == "g"
    assert found.table["p_best"].sum() == pytest.approx(1)


def test_the_embedded_data_do_not_stand_in_for_a_users_own(linear: Model) -> None:
    with pytest.raises(UserError, match="--features missing: the model was not trained on"):
        rank_photos(linear)
    with pytest.raises(UserError, match="--pairs and --features missing: the model was not"):
        evaluate_model(linear)


def test_the_folder_of_an_experiment_is_not_taken_for_its_model(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    save_linear(tmp_path / "e" / "model", {"clip": ["c"]})
    with pytest.raises(UserError, match=r"did you mean .*e/model\?"):
        load_model(tmp_path / "e")


def test_photos_that_lack_one_of_the_models_blocks_are_counted(tmp_path: Path) -> None:
    folder = save_linear(tmp_path / "m", {"clip": ["c"], "cnn": ["d"]})
    store = {"clip": block({"p": 1, "q": 2, "r": 3}), "cnn": block({"p": 1, "s": 2}, "d")}
    found = rank_photos(folder, store)
    assert found.table["image"].tolist() == ["p"]
    assert found.notes == [
        "3 of 4 photos lack a row in one of the blocks clip,cnn and have no score, such as 'q'",
        KEPT,
    ]


def test_series_that_name_photos_without_features_are_counted(linear: Model) -> None:
    some = {name: SCORES[name] for name in "abd"}
    found = rank_photos(linear, {"clip": block(some)}, SERIES)
    assert found.table["image"].tolist() == ["a", "b", "d"]
    assert "4 of 7 photos in the series have no features and are left out, such as 'c'" in (
        found.notes
    )
    assert found.table["p_best"].iloc[:2].sum() == pytest.approx(1)  # over those that are left


def test_a_pair_table_says_which_photo_is_of_which_series(linear: Model, tmp_path: Path) -> None:
    pairs = frame([("2", "a", "b", 0.7), ("2", "b", "c", 0.4), ("1", "f", "d", 0.5),
                   ("1", "e", "f", 0.5)])  # fmt: skip
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    for series in (pairs, tmp_path / "pairs.csv"):
        table = rank_photos(linear, {"clip": block(SCORES)}, series).table.iloc[:6]
        assert table["series_id"].tolist() == list("222111")
        # d and e are equal: d stands in the first pair.
        assert table["image"].tolist() == ["a", "c", "b", "d", "e", "f"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "7 1 2 0.9 1 2\n7 2 3 0.8 2 3\n8 1 2 0.3 2 1\n"),
        ("votes.csv", "series_id,compareFile1,compareFile2,LEFT,RIGHT\n7,7-1.JPG,7-2.JPG,1,0\n"
         "7,7-2.JPG,7-3.JPG,3,3\n8,8-1.JPG,8-2.JPG,0,5\n"),
    ],
)  # fmt: skip
def test_whatever_is_read_as_pairs_says_which_photo_is_of_which_series(
    tmp_path: Path, name: str, text: str
) -> None:
    """All photos, also those of pairs that have too few votes to learn from."""
    (tmp_path / name).write_text(text)
    photos = [("7", 1), ("7", 2), ("7", 3), ("8", 1), ("8", 2)]
    assert read_series(tmp_path / name).values.tolist() == [
        [series, f"{int(series):06d}-{number:02d}.JPG"] for series, number in photos
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "column 'image' is missing; a series table has series_id,image"),
        ({"series_id": None}, "column 'series_id' is missing"),
        ({"image": list("abcdefa")}, "7: photo 'a' appears twice, first on row 1"),
        ({"series_id": ["1"] * 6 + [np.nan]}, "row 7, column 'series_id': the cell is empty"),
    ],
)
def test_a_series_frame_is_checked_as_a_file_is(
    linear: Model, change: dict[str, Any], message: str
) -> None:
    changed = SERIES.assign(**{key: value for key, value in change.items() if value is not None})
    changed = changed.drop(columns=[key for key, value in change.items() if value is None])
    with pytest.raises(UserError, match=re.escape(message)):
        rank_photos(linear, {"clip": block(SCORES)}, changed)
    with pytest.raises(UserError, match="has no rows"):
        rank_photos(linear, {"clip": block(SCORES)}, SERIES.iloc[:0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("series_id,photo\n1,a\n", "series.csv: column 'image' is missing; a series table has"),
        ("series,image\n1,a\n", "series.csv: column 'series_id' is missing"),
        ("series_id,image,image\n1,a,b\n", "series.csv: the column 'image' appears twice"),
        ("series_id,image\n1,a\n2,b\n2,a\n", "line 4: photo 'a' appears twice, first on line 2"),
        ("series_id,image\n1,a\n,b\n", "line 3, column 'series_id': the cell is empty"),
        ("series_id,image\n1,a,b\n", "3 cells, but the header has 2 columns"),
        ("series_id,image\n", "no rows below its header"),
        ("series_id,image_a,image_b,preference\n1,a,b,2\n", "2 is not a share between 0 and 1"),
    ],
)
def test_a_wrong_series_table_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "series.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_series(path)


def test_series_tables_are_read_in_every_format(tmp_path: Path) -> None:
    expected = pd.DataFrame({"series_id": ["12", "x"], "image": ["a", "b"]})
    raw = expected.assign(series_id=["0012", "x"], more="y")  # leading zeros do not count
    raw.to_csv(tmp_path / "s.csv", index=False)
    raw.to_json(tmp_path / "s.jsonl", orient="records", lines=True)
    raw.to_parquet(tmp_path / "s.parquet")
    for name in ("s.csv", "s.jsonl", "s.parquet"):
        pd.testing.assert_frame_equal(read_series(tmp_path / name), expected)


@pytest.mark.parametrize(
    ("suffix", "good"),
    [
        (".csv", b"series_id,image,note\n" + b"1,a,x\n2,b,y\n2,c,z\n"),
        (".csv", b"series_id,image_a,image_b,preference\n" + b"1,a,b,0.5\n1,b,c,1\n"),
        (".jsonl", b'{"series_id": 1, "image": "a"}\n{"series_id": "2", "image": "b"}\n'),
    ],
)
def test_fuzz_of_series_tables(tmp_path: Path, suffix: str, good: bytes) -> None:
    path = tmp_path / f"series{suffix}"

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=nearly(good))
    def fuzz(data: bytes) -> None:
        path.write_bytes(data)

        def read() -> None:
            table = read_series(path)
            assert list(table.columns) == ["series_id", "image"]
            assert not table["image"].duplicated().any()
            assert (table != "").all(axis=None)

        told_or_done(read)

    fuzz()


scores_of_series = st.lists(
    st.lists(st.integers(-3, 3), min_size=1, max_size=5), min_size=1, max_size=6
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=scores_of_series, slope=st.sampled_from([0.0, 0.3, 40.0]), seed=st.integers(0, 9))
def test_every_series_has_one_pick_and_probabilities_of_sum_1(
    linear: Model, sizes: list[list[int]], slope: float, seed: int
) -> None:
    names = [(str(s), f"{s}-{i}") for s, scores in enumerate(sizes) for i in range(len(scores))]
    numbers = {f"{s}-{i}": float(n) for s, scores in enumerate(sizes) for i, n in enumerate(scores)}
    numbers["alone"] = 0.0
    series = pd.DataFrame(names, columns=["series_id", "image"])
    series = series.sample(frac=1, random_state=seed)  # the photos of a series lie apart
    # One shape for all examples, so that the scorer is compiled once.
    padding = {f"pad{i}": 0.0 for i in range(31 - len(numbers))}
    found = rank_photos(described(linear, slope=slope), {"clip": block(numbers | padding)}, series)
    ranked = found.table[found.table["series_id"] != ""]
    assert len(ranked) == len(names)
    for _, rows in ranked.groupby("series_id"):
        assert rows["pick"].sum() == 1
        assert rows["p_best"].sum() == pytest.approx(1)
        assert rows["score"].tolist() == sorted(rows["score"], reverse=True)
        for row in rows.to_dict("records"):
            assert row["rank"] == 1 + (rows["score"] > row["score"]).sum()


class Inputs(NamedTuple):
    """A model, pairs and features as files."""

    folder: Path
    model: Path
    pairs: Path
    store: Path

    def words(self, command: str) -> list[str]:
        words = [f"--model={self.model}", f"--features={self.store}"]
        return [command, *words, *([f"--pairs={self.pairs}"] if command == "evaluate" else [])]


# Names that a spreadsheet would run.
FORMULAS = {"0a": "=1+1.jpg", "0b": "@b.jpg", "1a": "-1.jpg", "1b": "+cmd|' /C calc'!A0"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs, and three stores that are not the model's."""
    folder = tmp_path_factory.mktemp("inputs")
    TABLE.replace(FORMULAS).to_csv(folder / "pairs.csv", index=False)
    numbers = {FORMULAS.get(name, name): number for name, number in NUMBERS.items()}
    write_block(folder / "store", "clip", block(numbers))
    for store in ("store", "bare"):
        write_block(folder / store, "iqa", block(numbers, "sharpness"))
    write_block(folder / "renamed", "clip", block(numbers, "d"))
    wide = Block(list(numbers), ["c", "d"], np.zeros((len(numbers), 2), np.float32))
    write_block(folder / "wider", "clip", wide)
    save_linear(folder / "model", {"clip": ["c"]}, train=["2a"])
    return folder


@pytest.fixture
def inputs(template: Path, tmp_path: Path) -> Inputs:
    folder = tmp_path / "inputs"
    shutil.copytree(template, folder)
    return Inputs(folder, folder / "model", folder / "pairs.csv", folder / "store")


def cells_of(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_evaluate_writes_predictions_and_metrics(
    inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = inputs.folder / "new" / "w"
    assert main(["launch.py", *inputs.words("evaluate"), f"--workdir={workdir}"]) == 0
    out = capsys.readouterr().out
    assert {path.name for path in workdir.iterdir()} == {"predictions.csv", "metrics.json"}
    header, *rows = cells_of(workdir / "predictions.csv")
    assert header == (
        "series_id,image_a,image_b,preference,score_a,score_b,correct,split".split(",")
    )
    assert rows[0] == ["0", "'=1+1.jpg", "'@b.jpg", "0.8", "0.0", "-1.0", "1.0", "new"]
    assert rows[1][1:3] == ["'-1.jpg", "'+cmd|' /C calc'!A0"]
    assert rows[2][-1] == "train"
    assert rows[-1][6] == ""  # no direction
    written = json.loads((workdir / "metrics.json").read_text())
    assert written["model"] == str(inputs.model)
    rows_by = {(row["scorer"], row["split"]): row for row in written["metrics"]}
    assert list(rows_by) == [
        (scorer, split) for split in ("new", "train") for scorer in ("model", "chance", "sharpness")
    ]
    assert rows_by["model", "new"]["accuracy"] == pytest.approx(8.5 / 11)
    assert rows_by["model", "new"]["standard_error"] is None  # 9 series
    assert rows_by["chance", "new"]["loss"] is None
    assert any("seen photos of 1 of 13 pairs" in note for note in written["notes"])
    lines = [line.split() for line in out.splitlines()]
    # The loss is one of differences -1 and 0, and of -1 in series 9: (2 + 1 + 2) / 11.
    (found,) = [line for line in lines if line[:2] == ["model", "new"]]
    *measured, weighted, loss = found
    assert measured == ["model", "new", "11", "9", "77.3%", "83.3%", "0.33"]
    assert weighted == percent(rows_by["model", "new"]["weighted_accuracy"])
    assert loss == "0.455"
    assert ["model", "train", "1", "1", "100.0%", "100.0%", "100.0%", "0.000"] in lines
    # The rules are shown beside the photos that say the most.
    assert [line[:2] for line in lines if line[:1] == ["sharpness"]] == [["sharpness", "new"]]
    assert "seen photos of 1 of 13 pairs" in out
    assert f"Results: {workdir}" in out


def test_rank_writes_every_photo_once(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = inputs.folder / "w"
    series = inputs.folder / "series.csv"
    series.write_text("series_id,image\n=s,9a\n=s,9b\n=s,=1+1.jpg\nt,7a\nt,nowhere\n")
    words = [*inputs.words("rank"), f"--workdir={workdir}", f"--series={series}"]
    assert main(["launch.py", *words]) == 0
    out = capsys.readouterr().out
    assert [path.name for path in workdir.iterdir()] == ["rankings.csv"]
    header, *rows = cells_of(workdir / "rankings.csv")
    assert header == "series_id,image,score,rank,pick,p_best,keep".split(",")
    assert len(rows) == len(NUMBERS)
    total = math.exp(2) + 2  # the scores are 2, 0 and 0
    assert [row[:5] for row in rows[:4]] == [
        ["'=s", "9a", "2.0", "1", "True"],
        ["'=s", "9b", "0.0", "2", "False"],
        ["'=s", "'=1+1.jpg", "0.0", "2", "False"],
        ["t", "7a", "-2.0", "1", "True"],
    ]
    assert float(rows[0][5]) == pytest.approx(math.exp(2) / total)
    assert float(rows[2][5]) == pytest.approx(1 / total)
    assert all(row[0] == row[3] == row[4] == row[5] == "" for row in rows[4:])
    assert all(row[2] for row in rows)
    assert "23 photos, 2 series" in out
    assert "11 more photos: --all shows them" in out
    assert "1 of 5 photos in the series have no features and are left out, such as 'nowhere'" in out
    assert "19 photos belong to no series: scored, but not ranked" in out


def test_series_beside_the_store_are_found(
    inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs.store / "series.csv").write_text("series_id,image\nx,9a\nx,9b\ny,9c\n")
    other = inputs.folder / "other.csv"
    other.write_text("series_id,image\nz,9c\nz,9b\n")
    for number, (words, expected) in enumerate([([], ["x", "x", "y"]),
                                                ([f"--series={other}"], ["z", "z"])]):  # fmt: skip
        workdir = inputs.folder / f"w{number}"
        assert main(["launch.py", *inputs.words("rank"), *words, f"--workdir={workdir}"]) == 0
        rows = cells_of(workdir / "rankings.csv")[1:]
        assert [row[0] for row in rows if row[0]] == expected
        said = f"series from {inputs.store / 'series.csv'}" in capsys.readouterr().out
        assert said == (not words)


def test_a_pair_table_serves_as_series(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = inputs.folder / "w"
    words = [*inputs.words("rank"), f"--series={inputs.pairs}", f"--workdir={workdir}"]
    assert main(["launch.py", *words]) == 0
    rows = cells_of(workdir / "rankings.csv")[1:]
    assert [row[1] for row in rows if row[0] == "9"] == ["9a", "9c", "9b"]
    assert {row[0] for row in rows} == {str(s) for s in range(11)}
    # Of series 8, a and b are equal.
    assert "2 photos share the best score of their series" in capsys.readouterr().out


def without(words: list[str], name: str) -> list[str]:
    return [word for word in words if not word.startswith(f"--{name}=")]


@pytest.mark.parametrize("command", ["evaluate", "rank"])
@pytest.mark.parametrize(
    ("drop", "words", "message"),
    [
        ("model", "", "--model is missing: give the folder of a search or of a saved model"),
        ("model", "--model=", "--model is empty"),
        ("model", "--model={folder}/nowhere", "nowhere: not a model folder"),
        ("model", "--model={store}", "store: not a model folder"),
        ("features", "--features=", "--features is empty"),
        ("features", "--features={folder}/nowhere", "nowhere: not a feature store"),
        ("features", "--features={folder}/bare", "the model reads block 'clip', which the"),
        ("features", "--features={folder}/renamed", "column 1 is 'd', the model's is 'c'"),
        ("features", "--features={folder}/wider", "it has 2, the model reads 1"),
        ("", "--workdir=", "--workdir is empty"),
        ("", "--workdir={folder}", "the folder is not empty; name a new one"),
        ("", "--workdir=/proc/jaxrank", "/proc/jaxrank: can't be written"),
        ("", "--workdir={pairs}/w", "can't be used (Not a directory)"),
        ("", "--modle=x", "unknown flag '--modle'. Did you mean 'model'?"),
        ("", "left", "unexpected word 'left'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    inputs: Inputs,
    capsys: pytest.CaptureFixture[str],
    command: str,
    drop: str,
    words: str,
    message: str,
) -> None:
    refused(inputs, capsys, [*without(inputs.words(command), drop or "-"),
                             *words.format(**inputs._asdict()).split()], message)  # fmt: skip


def refused(
    inputs: Inputs, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = sorted(inputs.folder.rglob("*"))
    if not any(word.startswith("--workdir") for word in words):
        words = [*words, f"--workdir={inputs.folder / 'w'}"]
    assert main(["launch.py", *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("jaxrank: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert sorted(inputs.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("drop", "words", "message"),
    [
        ("pairs", "", "--features is given without --pairs"),
        ("features", "", "--pairs is given without --features"),
        ("pairs", "--pairs=", "--pairs is empty"),
        ("pairs", "--pairs={folder}/no.csv", "no.csv: can't be read"),
        ("", "--min_reviewers=3", "--min_reviewers is for vote tables"),
        ("", "--photo_name=x", "--photo_name is for vote tables and pair lists"),
        ("", "--series=x", "--series is for tables without series_id, but"),
    ],
)
def test_a_mistake_of_evaluate_is_told(
    inputs: Inputs,
    capsys: pytest.CaptureFixture[str],
    drop: str,
    words: str,
    message: str,
) -> None:
    refused(inputs, capsys, [*without(inputs.words("evaluate"), drop or "-"),
                             *words.format(**inputs._asdict()).split()], message)  # fmt: skip


def test_no_common_photo_is_told(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = inputs.folder / "elsewhere.csv"
    elsewhere.write_text("series_id,image_a,image_b,preference\n1,p,q,0.9\n")
    words = [*inputs.words("rank"), f"--series={elsewhere}"]
    refused(inputs, capsys, words, "the series name photos such as 'p', the features such as '=1+1")
    words = [*without(inputs.words("evaluate"), "pairs"), f"--pairs={elsewhere}"]
    refused(inputs, capsys, words, "no pair has both photos in the features")


def test_a_broken_series_table_is_told(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    path = inputs.folder / "series.csv"
    path.write_text("series_id,image\n1,9a\n2,9a\n")
    words = [*inputs.words("rank"), f"--series={path}"]
    refused(inputs, capsys, words, "series.csv, line 3: photo '9a' appears twice, first on line 2")
    refused(inputs, capsys, [*inputs.words("rank"), "--series="], "--series is empty")
    refused(inputs, capsys, [*inputs.words("rank"), "--pairs=x"], "unknown flag '--pairs'")


def test_scores_that_are_no_numbers_are_told(
    inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = {name: number * 1e38 for name, number in NUMBERS.items() if name in ("9a", "9b", "9c")}
    write_block(inputs.folder / "huge", "clip", block(huge))
    model = save_linear(inputs.folder / "model", {"clip": ["c"]})
    saved = load_model(model)
    large = {"params": {"kernel_0": np.full((1, 1), 1e3, np.float32)}}
    members = (saved.weights._replace(params=large),)
    save_model(model, saved._replace(members=members), np.ones((1, 1), np.float32))
    words = [*without(inputs.words("rank"), "features"), f"--features={inputs.folder / 'huge'}"]
    refused(inputs, capsys, words, "the score of photo '9a' is not a finite number")


def test_a_model_with_damaged_caveats_is_no_model(
    inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    path = inputs.model / "model.json"
    record = json.loads(path.read_text())
    record["card"]["caveats"] = 3
    path.write_text(json.dumps(record))
    seal.write_seal(inputs.model, seal.checksums(inputs.model))
    refused(inputs, capsys, inputs.words("rank"), "not a model folder")


def test_without_pairs_and_features_the_embedded_data_are_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without a workdir a new folder in outputs/, named by the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxrank.data.inputs.simulate", partial(simulate, num_series=30))
    columns = ["sharpness", "exposure", "colorfulness", "contrast"]
    save_linear(tmp_path / "model", {"iqa": columns}, caveats=["SIMULATED data"])
    assert main(["launch.py", "evaluate", "--model=model"]) == 0
    assert "SIMULATED data\nthe model's training: SIMULATED data" in capsys.readouterr().out
    (workdir,) = (tmp_path / "outputs" / "evaluate").iterdir()
    assert re.fullmatch(r"evaluate_\d{8}_\d{6}", workdir.name)
    photos = {name for row in cells_of(workdir / "predictions.csv")[1:] for name in row[1:3]}
    assert main(["launch.py", "rank", "--model=model"]) == 0
    assert f"{len(photos)} photos, 30 series" in capsys.readouterr().out
    assert len(list((tmp_path / "outputs" / "rank").glob("rank_*/rankings.csv"))) == 1


IQA_ALONE = Block(
    ["a", "b", "c", "d"],
    ["sharpness", "exposure", "contrast"],
    np.array([[1, 5, 0], [2, 9, 0], [3, 7, 0], [9, 8, 1]], np.float32),
)


def test_without_preferences_a_baseline_gives_an_order() -> None:
    found = rank_photos(features={"iqa": IQA_ALONE}, baseline="signed_sum")
    assert found.table["image"].tolist() == ["d", "b", "c", "a"]
    assert found.table["p_best"].isna().all()
    assert any("no preference was used" in note for note in found.notes)
    assert any("p_best and keep are unknown" in note for note in found.notes)
    by_number = rank_photos(features={"iqa": IQA_ALONE}, baseline="sharpness").table
    assert by_number["image"].tolist() == ["d", "c", "b", "a"]


def test_a_baseline_is_measured_as_a_model_is() -> None:
    pairs = frame([("1", "a", "b", 0.9), ("1", "c", "d", 0.2), ("1", "a", "d", 0.8)])
    found = evaluate_model(pairs=pairs, features={"iqa": IQA_ALONE}, baseline="sharpness")
    assert row_of(found, "sharpness")["accuracy"] == pytest.approx(1 / 3)
    assert set(found.metrics["scorer"]) == {
        "sharpness", "chance", "exposure", "contrast", "signed_sum"
    }  # fmt: skip
    assert len(found.metrics) == 5
    assert found.predictions["score_a"].tolist() == [1, 3, 1]


def test_a_model_or_a_baseline_is_given_and_not_both(
    linear: Model, inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="give one of --model and --baseline"):
        rank_photos(linear, {"iqa": IQA_ALONE}, baseline="sharpness")
    with pytest.raises(UserError, match="give one of --model and --baseline"):
        evaluate_model(pairs=TABLE, features={"iqa": IQA_ALONE})
    with pytest.raises(UserError, match="the features have no block 'iqa' \\(they have clip\\)"):
        rank_photos(features={"clip": IQA_ALONE}, baseline="sharpness")
    words = [*without(inputs.words("rank"), "model"), "--baseline=ridge"]
    refused(inputs, capsys, words, "--baseline=ridge: ")
