"""Comparisons of other tools: one documented form each, every other one refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxrank.data.preference_exports import read_hpd, read_label_studio, read_pick_a_pic
from jaxrank.data.preferences import from_table
from jaxrank.errors import UserError


def written(folder: Path, document: object) -> Path:
    path = folder / "export.json"
    path.write_text(json.dumps(document))
    return path


def task(
    selected: object = "left", to_name: str = "image1,image2", **data: object
) -> dict[str, Any]:
    """A task of Label Studio's JSON export with one annotation."""
    result = {
        "value": {"selected": selected},
        "id": "b1q3",
        "from_name": "pw",
        "to_name": to_name,
        "type": "pairwise",
        "origin": "manual",
    }
    return {
        "id": 1,
        "data": data or {"image1": "a.jpg", "image2": "b.jpg"},
        "annotations": [
            {"id": 7, "completed_by": 1, "was_cancelled": False, "result": [result]},
        ],
        "predictions": [],
        "project": 3,
    }


def test_label_studio_says_which_side_was_selected(tmp_path: Path) -> None:
    cancelled = task()
    cancelled["annotations"][0]["was_cancelled"] = True
    choices = task()
    choices["annotations"][0]["result"].append({"type": "choices", "value": {"choices": ["x"]}})
    found = read_label_studio(
        written(
            tmp_path,
            [
                task("left"),
                task("right"),
                task("none"),
                cancelled,
                choices,
                task("right", "img-1,img-2", text="which?", left="x", image1="c", image2="d"),
                task("left", "img-2,img-1", image1="c", image2="d"),
                task(
                    "left",
                    a="/data/local-files/?d=day%201/a.jpg",
                    image1="/data/upload/4/0a1b2c3d-b%20c.jpg",
                    image2="s3://bucket/c.jpg",
                ),
            ],
        )
    )
    assert found.table.rows == [
        ["a.jpg", "b.jpg"],
        ["b.jpg", "a.jpg"],
        ["a.jpg", "b.jpg"],
        ["d", "c"],
        ["d", "c"],
        ["b c.jpg", "s3://bucket/c.jpg"],
    ]
    assert found.table.lines == [1, 2, 5, 6, 7, 8]
    assert found.notes == ["1 cancelled annotation left out", "1 tie left out"]


def test_label_studio_files_have_the_names_of_their_folder(tmp_path: Path) -> None:
    data = {"image1": "/data/local-files/?d=day%201/a.jpg", "image2": "/data/local-files/?d=b.jpg"}
    found = read_label_studio(written(tmp_path, [task("left", **data)]))
    assert found.table.rows == [["day 1/a.jpg", "b.jpg"]]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"tasks": []}, "not a list with an object for each task"),
        ([], "not a list"),
        ([1], "task 1: not an object"),
        ([{"image1": "a", "image2": "b", "pw": {"selected": "left"}}], "the key 'data' is missing"),
        ([{"data": {}, "completions": []}], "the key 'annotations' is missing"),
        ([{"data": {}, "annotations": [{"id": 1}]}], "an annotation has no list 'result'"),
        ([{"data": {}, "annotations": []}], "no task has an annotation of the type 'pairwise'"),
        ([task(to_name="image1")], "are not two keys of 'data'"),
        ([task(to_name="image1,image1")], "are not two keys of 'data'"),
        ([task(to_name="left,right")], "(image1, image2), and their numbers do not match"),
        ([task(to_name="a1,a2", image1="a", x1="b", x2="c")], "and their numbers do not match"),
        ([task(to_name="a1,a2", image11="a", x2="c")], "and their numbers do not match"),
        ([task(image1=1, image2="b")], "1 is not the name of a photo"),
        ([task(image1="a\0", image2="b")], "is not the name of a photo"),
        ([task(image1="\ud800", image2="b")], "is not the name of a photo"),
    ],
)
def test_other_forms_of_label_studio_are_refused(
    document: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        read_label_studio(written(tmp_path, document))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "export.json"))


# The columns of the data set that say who won, and images that are not read.
PICKS: dict[str, list[object]] = {
    "are_different": [True] * 5,
    "best_image_uid": ["u1", "u3", "", "u5", ""],
    "caption": ["a cat", "a cat", "a cat", "a dog", "a dog"],
    "has_label": [True, True, True, True, False],
    "image_0_uid": ["u1", "u2", "u1", "u5", "u5"],
    "image_1_uid": ["u2", "u3", "u3", "u6", "u6"],
    "jpg_0": [b"\xff\xd8"] * 5,
    "label_0": [1.0, 0.0, 0.5, 1.0, None],
    "label_1": [0.0, 1.0, 0.5, 0.0, None],
    "ranking_id": [1, 2, 3, 4, 5],
}


def parquet(folder: Path, **columns: list[object] | None) -> Path:
    made = {name: cells for name, cells in (PICKS | columns).items() if cells is not None}
    pyarrow.parquet.write_table(pa.table(made), folder / "train.parquet")
    return folder / "train.parquet"


def test_pick_a_pic_has_a_series_for_each_prompt(tmp_path: Path) -> None:
    found = read_pick_a_pic(parquet(tmp_path))
    assert found.table.columns == ["winner", "loser", "series_id"]
    assert [row[:2] for row in found.table.rows] == [["u1", "u2"], ["u3", "u2"], ["u5", "u6"]]
    assert [row[2] for row in found.table.rows].count(found.table.rows[0][2]) == 2
    assert found.table.lines == [1, 2, 4]
    assert found.notes == ["1 row without a label left out", "1 tie left out"]
    pairs = from_table(found.table, None).table
    assert len(pairs) == 3
    assert pairs["series_id"].nunique() == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label_0": None}, "column 'label_0' is missing; a file of Pick-a-Pic has caption,"),
        ({"label_0": [1.0, 0.0, 0.5, 0.7, None]}, "row 4: label_0 and label_1 are 0.7 and 0.0"),
        ({"label_0": ["x"] * 5}, "row 1: label_0 and label_1 are 'x' and 0.0"),
        ({"caption": [None] * 5}, "row 1: None is neither a prompt nor a photo's uid"),
        ({"image_0_uid": [1, 2, 3, 4, 5]}, "row 1: 1 is neither a prompt"),
        ({"has_label": [False] * 5}, "no row prefers one photo"),
    ],
)
def test_other_forms_of_pick_a_pic_are_refused(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        read_pick_a_pic(parquet(tmp_path, **columns))
    assert message in str(caught.value)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    with pytest.raises(UserError, match="No such file"):
        read_pick_a_pic(path)
    path.write_bytes(b"PAR1 not PAR1")
    with pytest.raises(UserError, match="not a readable parquet file"):
        read_pick_a_pic(path)


TRAIN = {"prompt": "a cat", "file_path": ["1.jpg", "2.jpg"], "human_preference": [0, 1]}
TEST = {"prompt": "a dog", "image_path": ["3.jpg", "4.jpg", "5.jpg"], "rank": [2, 0, 2]}


def test_hpd_prefers_the_one_of_two_and_the_lower_rank(tmp_path: Path) -> None:
    files = {"prompt": "a cat", "image_path": ["2.jpg", "6.jpg"], "human_preference": [1, 0]}
    found = read_hpd(written(tmp_path, [TRAIN | {"user_hash": "x"}, files]))
    assert [row[:2] for row in found.table.rows] == [["2.jpg", "1.jpg"], ["2.jpg", "6.jpg"]]
    assert len({row[2] for row in found.table.rows}) == 1
    assert found.notes == []

    found = read_hpd(written(tmp_path, [TEST | {"raw_annotation": []}]))
    assert [row[:2] for row in found.table.rows] == [["4.jpg", "3.jpg"], ["4.jpg", "5.jpg"]]
    assert found.notes == ["1 tie left out"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a prompt", "entry 1: not an object"),
        ({}, "the key 'prompt' is missing"),
        (TRAIN | {"human_preference": [1, 1]}, "human_preference=[1, 1] is neither [1, 0] nor"),
        (TRAIN | {"human_preference": [True, False]}, "is neither [1, 0] nor [0, 1]"),
        (TRAIN | {"human_preference": [0, 1, 1]}, "is neither [1, 0] nor [0, 1]"),
        (TRAIN | {"file_path": ["1.jpg"]}, "'file_path' is not a list of 2 names of photos"),
        (TRAIN | {"file_path": ["1.jpg", 2]}, "'file_path' is not a list of 2 names of photos"),
        (TRAIN | {"prompt": 1}, "the key 'prompt' is missing, or is not text"),
        ({"prompt": "", "image_path": []}, "the key 'rank' is missing"),
        (TEST | {"rank": [1, "2", 3]}, "is not a list of numbers"),
        (TEST | {"rank": [1, float("nan"), 3]}, "is not a list of numbers"),
        (TEST | {"rank": list(range(101))}, "101 ranks; HPD v2 ranks nine photos"),
        (TEST | {"rank": [1, 1, 1]}, "no entry prefers one photo"),
    ],
)
def test_other_forms_of_hpd_are_refused(entry: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_hpd(written(tmp_path, [entry]))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff"])
def test_a_file_that_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(text.encode("latin-1"))
    for read in (read_hpd, read_label_studio):
        with pytest.raises(UserError, match="not JSON"):
            read(path)
    with pytest.raises(UserError, match="can't be read"):
        read_hpd(tmp_path / "nowhere.json")
