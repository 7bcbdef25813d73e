import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrank.data.preferences import from_frame, read_preferences
from jaxrank.data.series_ids import canonical_series_id
from jaxrank.errors import UserError

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
    table = read_preferences(path).table
    assert list(table.columns) == ["series_id", "image_a", "image_b", "preference", "tag"]
    assert table.values.tolist() == [["1", "a", "b", 0.25, "x"], ["2", "c", "d", 1.0, "y"]]
    assert read_preferences(path).notes == ()


def test_a_further_column_may_have_any_name(tmp_path: Path) -> None:
    header = HEADER.replace("\n", ",votes,group\n")
    pairs = read_preferences(written(tmp_path, header + "1,a,b,0.9,12,x\n1,b,a,0.3,7,y\n"))
    assert pairs.table.values.tolist() == [["1", "a", "b", 0.8, "12", "x"]]


COUNTS = "series_id,image_a,image_b,votes_a,votes_b\n"


def test_vote_counts_are_summed_over_both_orders_and_shares_are_preferences(
    tmp_path: Path,
) -> None:
    rows = "1,a,b,3,1\n1,b,a,2,4\n1,a,c,2,2\n1,c,b,0,0\n2,d,e,0,5\n"
    pairs = read_preferences(written(tmp_path, COUNTS + rows))
    columns = ["series_id", "image_a", "image_b", "preference", "votes"]
    assert list(pairs.table.columns) == columns
    assert pairs.table.values.tolist() == [
        ["1", "a", "b", 0.7, 10],
        ["1", "a", "c", 0.5, 4],
        ["2", "d", "e", 0.0, 5],
    ]
    assert pairs.notes == (
        "5 vote rows merged to 4 pairs; 0 of them were given in contradictory directions",
        "1 of 4 pairs left out: no vote",
    )


def test_votes_beat_a_preference_beside_them_and_are_no_category(tmp_path: Path) -> None:
    header = HEADER.replace("\n", ",votes_b,votes_a,place\n")
    pairs = read_preferences(written(tmp_path, header + "1,a,b,0.9,1,3,in\n1,a,c,0.1,0,2,out\n"))
    assert pairs.table.values.tolist() == [
        ["1", "a", "b", 0.75, "in", 4],
        ["1", "a", "c", 1.0, "out", 2],
    ]
    assert pairs.notes == (
        "preference is the share of votes (votes_a, votes_b); the column 'preference' is not read",
    )


def test_vote_counts_can_be_filtered_as_votes_can(tmp_path: Path) -> None:
    path = written(tmp_path, COUNTS + "1,a,b,3,1\n1,a,c,1,0\n1,b,c,1,1\n")
    assert len(read_preferences(path).table) == 3
    assert len(read_preferences(path, min_reviewers=2).table) == 2
    kept = read_preferences(path, min_reviewers=2, min_agreement=0.75)
    assert kept.table[["image_a", "image_b"]].values.tolist() == [["a", "b"]]
    assert kept.notes == ("2 of 3 pairs left out: fewer than 2 votes or agreement below 0.75",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,a,b,1.5,1", "line 2, column 'votes_a': 1.5 is not a number of votes"),
        ("1,a,b,1,-1", "line 2, column 'votes_b': -1 is not a number of votes"),
        ("1,a,b,0,0", "no pair has at least 1 vote and 0 agreement"),
        ("1,a,a,1,0", "photo 'a' is compared with itself"),
    ],
)
def test_what_can_not_be_votes_is_refused(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_preferences(written(tmp_path, COUNTS + row + "\n"))
    assert message in str(error.value)


def test_a_pair_given_twice_is_merged_and_contradictions_are_counted(tmp_path: Path) -> None:
    rows = "1,a,b,0.9\n1,b,a,0.3\n1,a,c,0.8\n1,c,a,0.6\n1,b,c,0.5\n1,b,c,0.7\n"
    pairs = read_preferences(written(tmp_path, HEADER + rows))
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
    pairs = read_preferences(path)
    assert pairs.table.values.tolist() == [
        ["7", "000007-01.JPG", "000007-02.JPG", 7 / 8, 8],
    ]
    assert pairs.notes == (
        "3 vote rows merged to 2 pairs; 0 of them were given in contradictory directions",
        "1 of 2 pairs left out: fewer than 2 votes or agreement below 0.7",
    )
    named = read_preferences(path, photo_name="{series}/{number}.png", min_agreement=0.5)
    assert named.table["image_b"].tolist() == ["7/2.png", "7/3.png"]
    assert named.table["preference"].tolist() == [7 / 8, 0.5]


def test_filters_of_votes_keep_the_limits_themselves(tmp_path: Path) -> None:
    rows = (
        "1,1-1.JPG,1-2.JPG,7,3\n1,1-1.JPG,1-3.JPG,1,0\n"
        "1,1-2.JPG,1-3.JPG,0,2\n1,1-1.JPG,1-4.JPG,0,0\n"
    )
    path = written(tmp_path, VOTES + rows)
    assert read_preferences(path).table["preference"].tolist() == [0.7, 0.0]
    assert len(read_preferences(path, min_reviewers=1).table) == 3
    with pytest.raises(UserError, match="no pair has at least 50 votes"):
        read_preferences(path, min_reviewers=50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "columns 'image_a', 'image_b' and 'preference' are missing; known tables a"),
        (HEADER + "1,a,b,1.5\n", "line 2, column 'preference': 1.5 is not a share"),
        (HEADER + "1,a,b,-0.1\n", "line 2, column 'preference': -0.1 is not a share"),
        (HEADER + "1,a,b,yes\n", "line 2, column 'preference': 'yes' is not a finite"),
        (HEADER + "1,a,b,nan\n", "'nan' is not a finite number"),
        (HEADER + "1,a,a,0.5\n", "line 2: photo 'a' is compared with itself"),
        (HEADER + "1,,b,0.5\n", "line 2, column 'image_a': the cell is empty"),
        (HEADER + "1,a,b,1\n2,c,a,1\n", "line 3: photo 'a' is in series 2 and, on line 2, in"),
        (VOTES + "1,1-1.JPG,x.JPG,1,0\n", "line 2, column 'compareFile2': 'x.JPG' is not SERIES-"),
        (VOTES + "1,2-1.JPG,1-2.JPG,1,0\n", "photo '2-1.JPG' is not of series 1"),
        (VOTES + "1,1-1.JPG,1-2.JPG,-1,0\n", "column 'LEFT': -1 is not a number of votes"),
        (VOTES + "1,1-1.JPG,1-2.JPG,1,0.5\n", "column 'RIGHT': 0.5 is not a number of votes"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_preferences(path)
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
        read_preferences(path, photo_name=pattern)


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
    with pytest.raises(UserError, match="row 2, column 'preference'"):
        from_frame(frame.assign(preference=[1, np.nan]))


def test_a_pair_list_names_its_photos_and_keeps_the_ranks(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"7 1 2 0.949 1 4\r\n\r\n 0007\t10  3 .25 2 1 \r\n")
    table = read_preferences(path).table
    assert table.columns.tolist() == [
        "series_id", "image_a", "image_b", "preference", "rank_a", "rank_b",
    ]  # fmt: skip
    assert table.values.tolist() == [
        ["7", "000007-01.JPG", "000007-02.JPG", 0.949, "1", "4"],
        ["7", "000007-10.JPG", "000007-03.JPG", 0.25, "2", "1"],
    ]
    named = read_preferences(path, photo_name="{series}/{number}.png").table
    assert named["image_a"].tolist() == ["7/1.png", "7/10.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1 2 0.5 1\n", "line 1: 5 columns, not 6 separated by blanks: series_id number_a"),
        ("1 1 2 0.5 1 2\n1 1 3 0.5 1 2 3\n", "line 2: 7 columns, not 6"),
        ("1;1;2;0.5;1;2\n", "line 1: 1 columns, not 6"),
        ("series a b preference rank_a rank_b\n", "line 1, column 'series_id': 'series' is not a"),
        ("1 1 2 0.5 1 2\n\n1 0 2 0.5 1 2\n", "line 3, column 'number_a': '0' is not a whole num"),
        ("1 1 2.0 0.5 1 2\n", "line 1, column 'number_b': '2.0' is not a whole number from 1 up"),
        ("-1 1 2 0.5 1 2\n", "column 'series_id': '-1' is not a whole number from 0 up"),
        ("1 1 2 0.5 0 2\n", "column 'rank_a': '0' is not a whole number from 1 up"),
        ("1 1 2 0.5 1 x\n", "column 'rank_b': 'x' is not a whole number from 1 up"),
        ("1 1 2 1.5 1 2\n", "line 1, column 'preference': 1.5 is not a share"),
        ("1 1 2 nan 1 2\n", "line 1, column 'preference': 'nan' is not a finite number"),
        ("1 2 2 0.5 1 2\n", "line 1: photo '000001-02.JPG' is compared with itself"),
        (f"{10**18} 1 2 0.5 1 2\n", "column 'series_id': '1000000000000000000' is not a whole"),
    ],
)
def test_errors_in_a_pair_list_name_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_preferences(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def folder_of(tmp_path: Path, train: str, val: str) -> Path:
    (tmp_path / "train_pairlist.txt").write_text(train)
    (tmp_path / "val_pairlist.txt").write_text(val)
    return tmp_path


def test_a_folder_of_two_pair_lists_is_one_table_with_the_official_split(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "1 1 2 0.5 1 2\n2 1 2 1 1 2\n", "3 2 1 0.25 2 1\n")
    table = read_preferences(folder, photo_name="{series}-{number}").table
    assert table.values.tolist() == [
        ["1", "1-1", "1-2", 0.5, "1", "2", "train"],
        ["2", "2-1", "2-2", 1.0, "1", "2", "train"],
        ["3", "3-2", "3-1", 0.25, "2", "1", "val"],
    ]
    assert table.columns[-1] == "official_split"


def test_errors_in_a_folder_name_the_list_and_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds train_pairlist\.txt and val_pairlist\.txt, but tra"
    ):
        read_preferences(tmp_path)
    folder = folder_of(tmp_path, "1 1 2 0.5 1 2\n1 1 3 0.5 1 2\n", "3 2 1 7 2 1\n")
    with pytest.raises(UserError, match=r"val_pairlist\.txt, line 1, column 'preference': 7 is"):
        read_preferences(folder)
    folder = folder_of(tmp_path, "1 11 12 0.5 1 2\n", "2 1 2 0.5 1 2\n11 1 2 0.5 1 2\n")
    with pytest.raises(UserError) as error:  # this pattern calls two photos 111
        read_preferences(folder, photo_name="{series}{number}")
    assert (
        "val_pairlist.txt, line 2: photo '111' is in series 11 and, on line 1 of "
        "train_pairlist.txt, in series 1"
    ) in str(error.value)
    (folder / "val_pairlist.txt").unlink()
    with pytest.raises(UserError, match=r"but val_pairlist\.txt is not there"):
        read_preferences(folder)


def test_options_that_would_change_nothing_are_refused(tmp_path: Path) -> None:
    pair_list = tmp_path / "list.txt"
    pair_list.write_text("1 1 2 0.5 1 2\n")
    table = written(tmp_path, HEADER + "1,a,b,0.5\n")
    with pytest.raises(UserError, match=r"--min_reviewers is for vote tables, but .*list\.txt"):
        read_preferences(pair_list, min_reviewers=2)
    with pytest.raises(UserError, match="--min_agreement is for vote tables"):
        read_preferences(table, min_agreement=0.7)
    with pytest.raises(UserError, match="--photo_name is for vote tables and pair lists"):
        read_preferences(table, photo_name="{series}-{number}")
    with pytest.raises(UserError, match="the pattern must name"):
        read_preferences(pair_list, photo_name="")


def test_pairs_and_votes_are_the_same_from_csv_jsonl_and_parquet(tmp_path: Path) -> None:
    shares = "01,a,b,0.949,x\n1,a,c,1,y\n02,d,e,0.1,\n"
    votes = "7,7-1.JPG,7-2.JPG,3,0\n7,7-2.JPG,7-1.JPG,1,4\n7,7-1.JPG,7-3.JPG,5,1\n"
    tables = []
    for text in (HEADER.replace("\n", ",note\n") + shares, VOTES + votes):
        path = written(tmp_path, text)
        header, *rows = (line.split(",") for line in text.splitlines())
        objects = [dict(zip(header, row, strict=True)) for row in rows]
        numbers = {"preference": float, "LEFT": int, "RIGHT": int}
        typed = [{k: numbers.get(k, str)(v) for k, v in found.items()} for found in objects]
        jsonl = tmp_path / "pairs.jsonl"
        jsonl.write_text("".join(json.dumps(found) + "\n" for found in typed))
        parquet = tmp_path / "pairs.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(typed), parquet)
        expected = read_preferences(path)
        for other in (jsonl, parquet):
            found = read_preferences(other)
            pd.testing.assert_frame_equal(found.table, expected.table)
            assert found.notes == expected.notes
        tables.append(expected.table)
    assert tables[0]["preference"].tolist() == [0.949, 1.0, 0.1]
    assert tables[1]["preference"].tolist() == [7 / 8, 5 / 6]


def test_errors_in_jsonl_name_the_line_and_in_parquet_the_row(tmp_path: Path) -> None:
    good = {"series_id": "1", "image_a": "a", "image_b": "b", "preference": 1.0}
    jsonl = tmp_path / "pairs.jsonl"
    jsonl.write_text("\n".join(json.dumps(found) for found in (good, good | {"preference": 2})))
    with pytest.raises(UserError, match="line 2, column 'preference': 2 is not a share"):
        read_preferences(jsonl)
    parquet = tmp_path / "pairs.parquet"
    rows = [good, good | {"image_a": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    with pytest.raises(UserError, match="row 2, column 'image_a': the cell is empty"):
        read_preferences(parquet)
    rows = [good, good | {"series_id": "2"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    with pytest.raises(UserError, match="row 2: photo 'a' is in series 2 and, on row 1, in"):
        read_preferences(parquet)


@pytest.mark.parametrize("storage", ["python", "pyarrow"])
def test_pairs_do_not_depend_on_whether_pandas_has_pyarrow(tmp_path: Path, storage: str) -> None:
    path = written(tmp_path, HEADER + "01,\u00fc,b,0.9\n1,b,\u00fc,0.3\n2,=c,d,0.5\n")
    with pd.option_context("mode.string_storage", storage):
        pairs = read_preferences(path)
    assert pairs.table.values.tolist() == [["1", "\u00fc", "b", 0.8], ["2", "=c", "d", 0.5]]
    assert len(pairs.notes) == 1


def test_the_real_pair_lists_are_the_real_pair_table(photo_triage: Path) -> None:
    lists = read_preferences(photo_triage).table
    table = read_preferences(photo_triage / "pairs.csv").table
    pd.testing.assert_frame_equal(lists, table)
    assert lists["official_split"].value_counts().to_dict() == {"train": 8238, "val": 348}
    val = read_preferences(photo_triage / "val_pairlist.txt").table
    of_val = lists[lists["official_split"] == "val"].reset_index(drop=True)
    pd.testing.assert_frame_equal(val, of_val.drop(columns="official_split"))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 40),
            st.integers(0, 5),
            st.binary(max_size=4) | st.sampled_from([b" ", b"\n", b",", b"-1", b"nan", b"9" * 20]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_nearly_good_pair_list_is_read_or_told(
    tmp_path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    data = bytearray(b"1 1 2 0.949 1 4\n1 1 3 0.636 1 2\n2 1 2 0.5 1 1\n")
    for start, length, new in edits:
        data[start : start + length] = new
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    try:
        pairs = read_preferences(path)
    except UserError:
        return
    assert pairs.table["preference"].between(0, 1).all()


def test_the_real_tables_have_the_known_sizes(photo_triage: Path) -> None:
    pairs = read_preferences(photo_triage / "pairs.csv")
    assert len(pairs.table) == 8586
    assert pairs.table["series_id"].nunique() == 3318
    assert {"rank_a", "rank_b", "official_split"} <= set(pairs.table.columns)
    votes = read_preferences(photo_triage / "votes.csv").table
    # The winner of the vote table agrees with pairs.csv on half of the pairs: its photo numbers
    # are permuted. Reading must not hide that, nor change it.
    merged = pairs.table.merge(votes, on=["series_id", "image_a", "image_b"], suffixes=("", "_v"))
    agree = (merged["preference"] > 0.5) == (merged["preference_v"] > 0.5)
    assert len(merged) > 4000
    assert 0.47 < agree.mean() < 0.52


@pytest.mark.parametrize("fewest", [0, -3])
def test_a_pair_needs_a_vote(tmp_path: Path, fewest: int) -> None:
    path = written(tmp_path, COUNTS + "1,a,b,1,0\n")
    with pytest.raises(UserError, match=f"--min_reviewers={fewest}: a pair needs at least one"):
        read_preferences(path, min_reviewers=fewest)
