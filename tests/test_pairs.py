from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxrank.errors import UserError
from jaxrank.pairs import canonical_series_id, from_frame, read_pairs

HEADER = "series_id,image_a,image_b,preference\n"
VOTES = "series_id,compareFile1,compareFile2,LEFT,RIGHT\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    return path


def test_series_are_text_and_numbers_lose_leading_zeros() -> None:
    assert canonical_series_id("000012") == canonical_series_id("12") == "12"
    assert canonical_series_id("000") == "0"
    assert canonical_series_id("0x1") == "0x1"
    assert canonical_series_id("\u0661\u0662") == "\u0661\u0662"  # digits, but not ASCII ones


def test_canonical_rows_keep_order_and_further_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path, "tag,series_id,image_b,image_a,preference\nx,001,b,a,0.25\ny,2,d,c,1\n"
    )
    table = read_pairs(path).table
    assert list(table.columns) == ["series_id", "image_a", "image_b", "preference", "tag"]
    assert table.values.tolist() == [["1", "a", "b", 0.25, "x"], ["2", "c", "d", 1.0, "y"]]
    assert read_pairs(path).notes == ()


def test_a_further_column_may_have_any_name(tmp_path: Path) -> None:
    header = HEADER.replace("\n", ",votes,group\n")
    pairs = read_pairs(written(tmp_path, header + "1,a,b,0.9,12,x\n1,b,a,0.3,7,y\n"))
    assert pairs.table.values.tolist() == [["1", "a", "b", 0.8, "12", "x"]]


def test_a_pair_given_twice_is_merged_and_contradictions_are_counted(tmp_path: Path) -> None:
    rows = "1,a,b,0.9\n1,b,a,0.3\n1,a,c,0.8\n1,c,a,0.6\n1,b,c,0.5\n1,b,c,0.7\n"
    pairs = read_pairs(written(tmp_path, HEADER + rows))
    assert pairs.table[["image_a", "image_b"]].values.tolist() == [
        ["a", "b"],
        ["a", "c"],
        ["b", "c"],
    ]
    # a-b: 0.9 and 1 - 0.3 agree; a-c: 0.8 and 1 - 0.6 contradict; b-c: 0.5 contradicts nothing.
    np.testing.assert_allclose(pairs.table["preference"], [0.8, 0.6, 0.6])
    assert pairs.notes == (
        "6 rows merged to 3 pairs; 1 of them were given in contradictory directions",
    )


def test_votes_of_both_orders_are_summed_and_named(tmp_path: Path) -> None:
    rows = "000007,7-1.JPG,7-2.JPG,3,0\n7,7-2.JPG,7-1.JPG,1,4\n7,7-1.JPG,7-3.JPG,1,1\n"
    path = written(tmp_path, VOTES + rows)
    pairs = read_pairs(path)
    assert pairs.table.values.tolist() == [
        ["7", "000007-01.JPG", "000007-02.JPG", 7 / 8, 8],
    ]
    assert pairs.notes == (
        "3 vote rows merged to 2 pairs; 0 of them were given in contradictory directions",
        "1 of 2 pairs left out: fewer than 2 votes or agreement below 0.7",
    )
    named = read_pairs(path, photo_name="{series}/{number}.png", min_agreement=0.5)
    assert named.table["image_b"].tolist() == ["7/2.png", "7/3.png"]
    assert named.table["preference"].tolist() == [7 / 8, 0.5]


def test_filters_of_votes_keep_the_limits_themselves(tmp_path: Path) -> None:
    rows = (
        "1,1-1.JPG,1-2.JPG,7,3\n1,1-1.JPG,1-3.JPG,1,0\n"
        "1,1-2.JPG,1-3.JPG,0,2\n1,1-1.JPG,1-4.JPG,0,0\n"
    )
    path = written(tmp_path, VOTES + rows)
    assert read_pairs(path).table["preference"].tolist() == [0.7, 0.0]
    assert len(read_pairs(path, min_reviewers=1).table) == 3
    with pytest.raises(UserError, match="no pair has at least 50 votes"):
        read_pairs(path, min_reviewers=50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "column 'series_id' is missing; a pair table has series_id,"),
        (HEADER + "1,a,b,1.5\n", "line 2, column 'preference': 1.5 is not a share"),
        (HEADER + "1,a,b,-0.1\n", "line 2, column 'preference': -0.1 is not a share"),
        (HEADER + "1,a,b,yes\n", "line 2, column 'preference': 'yes' is not a finite"),
        (HEADER + "1,a,b,nan\n", "'nan' is not a finite number"),
        (HEADER + "1,a,a,0.5\n", "line 2: photo 'a' is compared with itself"),
        (HEADER + "1,,b,0.5\n", "line 2, column 'image_a': the cell is empty"),
        (HEADER + "1,a,b,1\n2,c,a,1\n", "line 3: photo 'a' stands in series 2 and, on line 2, in"),
        (VOTES + "1,1-1.JPG,x.JPG,1,0\n", "line 2, column 'compareFile2': 'x.JPG' is not SERIES-"),
        (VOTES + "1,2-1.JPG,1-2.JPG,1,0\n", "photo '2-1.JPG' is not of series 1"),
        (VOTES + "1,1-1.JPG,1-2.JPG,-1,0\n", "column 'LEFT': -1 is not a number of votes"),
        (VOTES + "1,1-1.JPG,1-2.JPG,1,0.5\n", "column 'RIGHT': 0.5 is not a number of votes"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_pairs(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "pattern",
    ["{series}.JPG", "{number}", "{series}-{number}-{x}", "{series:q}{number}", "{", "{}{series}",
     "{series.__class__}{number}"],
)  # fmt: skip
def test_a_pattern_that_names_no_photo_is_refused(tmp_path: Path, pattern: str) -> None:
    path = written(tmp_path, VOTES + "1,1-1.JPG,1-2.JPG,1,0\n")
    with pytest.raises(UserError, match="--photo_name="):
        read_pairs(path, photo_name=pattern)


def test_a_data_frame_is_read_like_a_file(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"series_id": [1, 1], "image_a": ["a", "b"], "image_b": ["b", "a"], "preference": [1, 0.5]}
    )
    pairs = from_frame(frame)
    assert pairs.table.values.tolist() == [["1", "a", "b", 0.75]]
    with pytest.raises(UserError, match="column 'preference' is missing"):
        from_frame(frame.drop(columns="preference"))
    with pytest.raises(UserError, match="text or whole numbers"):
        from_frame(frame.assign(series_id=1.0))
    with pytest.raises(UserError, match="line 2, column 'preference'"):
        from_frame(frame.assign(preference=[1, np.nan]))


def test_the_real_tables_have_the_known_sizes(photo_triage: Path) -> None:
    pairs = read_pairs(photo_triage / "pairs.csv")
    assert len(pairs.table) == 8586
    assert pairs.table["series_id"].nunique() == 3318
    assert {"rank_a", "rank_b", "official_split"} <= set(pairs.table.columns)
    votes = read_pairs(photo_triage / "votes.csv").table
    # The winner of the vote table agrees with pairs.csv on half of the pairs: its photo numbers
    # are permuted. Reading must not hide that, nor change it.
    merged = pairs.table.merge(votes, on=["series_id", "image_a", "image_b"], suffixes=("", "_v"))
    agree = (merged["preference"] > 0.5) == (merged["preference_v"] > 0.5)
    assert len(merged) > 4000
    assert 0.47 < agree.mean() < 0.52
