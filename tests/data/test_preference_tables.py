"""Ratings, picks and winners read as pairs."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrank.data import pair_conversion
from jaxrank.data.preferences import from_frame, read_all_votes, read_preferences
from jaxrank.data.series import read_series
from jaxrank.data.series_ids import SeriesInput
from jaxrank.errors import UserError

RATINGS = "series_id,image,rating\n1,a,3\n1,b,5\n1,c,3\n2,d,1\n2,e,\n3,f,2\n3,g,4.5\n"
PICKS = "series_id,image,pick\n1,a,1\n1,b,0\n1,c,false\n2,d,0\n2,e,0\n3,f,True\n3,g,1\n3,h,0\n"
WINNERS = "winner,loser,voter\na,b,x\na,b,y\nb,a,z\nb,c,x\nd,e,x\n"


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def beaten(table: pd.DataFrame) -> set[tuple[str, str, str]]:
    """Series, winner and loser of pairs with nothing but whole preferences."""
    assert table["preference"].isin([0, 1]).all()
    rows = table[["series_id", "image_a", "image_b", "preference"]].itertuples(index=False)
    return {(s, a, b) if share else (s, b, a) for s, a, b, share in rows}


def test_the_higher_rating_of_a_series_wins_and_all_is_counted(tmp_path: Path) -> None:
    pairs = read_preferences(written(tmp_path, RATINGS))
    assert beaten(pairs.table) == {("1", "b", "a"), ("1", "b", "c"), ("3", "g", "f")}
    assert len(pairs.table) == 3
    assert pairs.notes == (
        "6 ratings in 3 series read as 3 pairs: the higher rating wins",
        "equal ratings make no pair: 1 left out",
        "1 photo without a rating left out",
        "1 series without a pair (one rated photo, or equal ratings), such as '2'",
    )


def test_a_pick_beats_what_was_not_picked(tmp_path: Path) -> None:
    pairs = read_preferences(written(tmp_path, PICKS))
    assert beaten(pairs.table) == {
        ("1", "a", "b"), ("1", "a", "c"), ("3", "f", "h"), ("3", "g", "h"),
    }  # fmt: skip
    assert pairs.notes == (
        "3 picks among 8 photos in 3 series read as 4 pairs: a pick beats every photo of its "
        "series that was not picked",
        "1 series without a pair (no pick, or nothing but picks), such as '2'",
    )


def test_a_row_of_winner_and_loser_is_one_vote_and_joined_photos_are_a_series(
    tmp_path: Path,
) -> None:
    pairs = read_preferences(written(tmp_path, WINNERS))
    found = pairs.table.set_index(pairs.table[["image_a", "image_b"]].min(axis=1))
    toward = found["preference"].where(found["image_a"] == found.index, 1 - found["preference"])
    np.testing.assert_allclose(toward[["a", "b", "d"]], [2 / 3, 1, 1])
    assert found.loc[["a", "b", "d"], "votes"].tolist() == [3, 1, 1]
    assert found["series_id"].to_dict() == {"a": "series of a", "b": "series of a",
                                            "d": "series of d"}  # fmt: skip
    assert found.loc["a", "voter"] == "x"
    assert pairs.notes == (
        "no series_id: photos that comparisons join are taken for one series, 2 in all; series of "
        "one scene that were never compared count as two",
        "5 rows winner,loser read as 3 pairs",
        "5 rows merged to 3 pairs; 1 of them were given in contradictory directions",
    )


SERIES = "series_id,image\n01,a\n1,b\n1,c\n2,d\n2,e\n"


def series_forms(folder: Path) -> list[SeriesInput]:
    """The same series table as a file, as a data frame, and beside a feature store."""
    path = written(folder, SERIES, "series.csv")
    return [path, str(path), pd.read_csv(path, dtype=str), folder]


@pytest.mark.parametrize("place", range(4))
def test_series_ids_may_come_from_a_series_table(tmp_path: Path, place: int) -> None:
    series = series_forms(tmp_path)[place]
    ratings = written(tmp_path, "image,rating\na,1\nb,2\nd,1\ne,2\nx,9\n")
    pairs = read_preferences(ratings, series=series)
    assert beaten(pairs.table) == {("1", "b", "a"), ("2", "e", "d")}
    source = "series (data frame)" if place == 2 else tmp_path / "series.csv"
    assert pairs.notes[:2] == (
        f"series_id is from {source}",
        "1 row of 5 left out: a photo is in no series there",
    )
    winners = from_frame(pd.DataFrame({"winner": ["a", "a"], "loser": ["b", "d"]}), series=series)
    assert beaten(winners.table) == {("1", "a", "b")}
    assert winners.notes[1] == "1 row of 2 left out: its photos are of two series"
    canonical = written(tmp_path, "image_a,image_b,preference\na,b,0.25\n", "pairs.csv")
    assert read_preferences(canonical, series=series).table.values.tolist() == [
        ["1", "a", "b", 0.25]
    ]
    assert len(read_all_votes(ratings, series=series).table) == 2


def test_a_series_table_that_changes_nothing_is_refused_but_a_store_is_not(tmp_path: Path) -> None:
    path, *_, store = series_forms(tmp_path)
    for text in (RATINGS, PICKS, "series_id," + WINNERS.replace("\n", "\n1,").rstrip("1,")):
        table = written(tmp_path, text)
        with pytest.raises(UserError, match="--series is for tables without series_id"):
            read_preferences(table, series=path)
        assert len(read_preferences(table, series=store).table) >= 3
    (tmp_path / "list.txt").write_text("1 1 2 0.5 1 2\n")
    with pytest.raises(UserError, match=r"--series is for .*list\.txt holds series"):
        read_preferences(tmp_path / "list.txt", series=path)


def test_a_data_frame_of_any_kind_is_read_as_its_file(tmp_path: Path) -> None:
    votes = "series_id,compareFile1,compareFile2,LEFT,RIGHT\n1,1-1.JPG,1-2.JPG,3,0\n"
    for text in (RATINGS, PICKS, WINNERS, votes):
        path = written(tmp_path, text)
        frame = pd.read_csv(path)
        expected = read_preferences(path)
        frame.to_parquet(tmp_path / "table.parquet")
        for found in (from_frame(frame), read_preferences(tmp_path / "table.parquet")):
            pd.testing.assert_frame_equal(found.table, expected.table)
            assert found.notes == expected.notes


def test_the_order_of_a_table_does_not_decide_which_photo_is_the_first() -> None:
    """Else the baseline `position` would know the winners."""
    photos = [f"{i:03d}.jpg" for i in range(60)]
    rated = pd.DataFrame({"series_id": 1, "image": photos, "rating": np.arange(60)})
    forward, backward = from_frame(rated).table, from_frame(rated[::-1]).table
    assert {*map(tuple, forward.values.tolist())} == {*map(tuple, backward.values.tolist())}
    assert 0.4 < forward["preference"].mean() < 0.6
    won = pd.DataFrame({"winner": photos[1:], "loser": photos[:-1]})
    assert 0.25 < from_frame(won).table["preference"].mean() < 0.75


def test_winners_with_a_series_say_which_photos_are_a_series(tmp_path: Path) -> None:
    path = written(tmp_path, "series_id,winner,loser\n7,a,b\n7,c,b\n")
    assert sorted(read_series(path).values.tolist()) == [["7", "a"], ["7", "b"], ["7", "c"]]


def test_a_choice_of_two_photos_is_one_vote_and_keeps_its_sides(tmp_path: Path) -> None:
    rows = ["a,b,a,x", "a,b,left,y", "a,b,b,z", "b,c,right,x", "c,a,tie,x"]
    text = "series_id,left,right,winner,voter\n" + "".join(f"1,{row}\n" for row in rows)
    found = read_preferences(written(tmp_path, text))
    columns = ["image_a", "image_b", "preference", "votes"]
    assert found.table[columns].round(3).values.tolist() == [
        ["a", "b", 0.667, 3],
        ["b", "c", 0.0, 1],
        ["c", "a", 0.5, 1],
    ]
    assert "5 rows left,right,winner read as 3 pairs" in found.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("series_id,image,ratng\n1,a,2\n",
         "column 'rating' is missing; known tables are pairs (series_id,image_a,image_b,"
         "preference), vote counts (series_id,image_a,image_b,votes_a,votes_b), votes (series_id,"
         "compareFile1,compareFile2,LEFT,RIGHT), ratings (series_id,image,rating), picks "
         "(series_id,image,pick), winners (series_id,winner,loser), choices (series_id,left,right,"
         "winner), this one has series_id,image,ratng. Is 'ratng' meant?"),
        ("series_id,image\n1,a\n", "column 'rating' is missing; known tables are"),
        ("winer,loser\na,b\n", "column 'winner' is missing; known tables are"),
        ("series_id,imagea,imageb,preference\n1,a,b,1\n", "columns 'image_a' and 'image_b' are"),
        ("series_id,imagea,imageb,preference\n1,a,b,1\n",
         "Is 'imagea' as 'image_a' and 'imageb' as 'image_b' meant?"),
        ("image,rating\na,1\n", "column 'series_id' is missing; add it, or give --series=FILE"),
        ("serie_id,image_a,image_b,preference\n1,a,b,1\n", "'series_id' is missing; add it, or"),
        ("series_id,image,rating,pick\n1,a,2,1\n", "can be read as ratings (image,rating) and "
         "picks (image,pick); leave the columns of one out"),
        ("series_id,image,rating\n1,a,2\n1,b,good\n",
         "line 3, column 'rating' ('b'): 'good' is not a finite number"),
        ("series_id,image,rating\n1,a,2\n2,a,3\n", "line 3: photo 'a' appears twice, first on lin"),
        ("series_id,image,rating\n1,a,2\n1,b,2\n", "no series has two photos that are rated or"),
        ("series_id,image,rating\n1,a,\n", "column 'rating': no photo has a rating"),
        ("series_id,image,pick\n1,a,yes\n", "line 2, column 'pick': 'yes' is neither 1 nor 0"),
        ("series_id,image,pick\n1,a,1\n1,b,\n", "line 3, column 'pick': '' is neither 1 nor 0"),
        ("series_id,image,pick\n,a,1\n", "line 2, column 'series_id': the cell is empty"),
        ("winner,loser\na,a\n", "line 2: photo 'a' is compared with itself"),
        ("winner,loser\na,\n", "line 2, column 'loser': the cell is empty"),
        ("series_id,winner,loser\n1,a,b\n2,c,b\n", "line 3: photo 'b' is in series 2 and, on"),
        ("winner,loser,votes\na,b,3\n", "a row winner,loser is one vote, so a column 'votes'"),
        ("series_id,left,right,winner\n1,a,b,a\n1,a,c,b\n",
         "line 3, column 'winner': 'b' is neither 'a' nor 'c' (nor left, right or tie)"),
        ("left,right,winner\na,b,a\n", "column 'series_id' is missing; add it, or give --series"),
    ],
)  # fmt: skip
def test_errors_name_file_place_and_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_preferences(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("names", ["image_1,image_2", "photo_image_a,image_b2"])
def test_no_column_is_suggested_where_two_are_as_likely(names: str, tmp_path: Path) -> None:
    """Swapped photos would turn all preferences round."""
    (tmp_path / "table.csv").write_text(f"series_id,{names},preference\n1,a,b,1\n")
    with pytest.raises(UserError) as caught:
        read_preferences(tmp_path / "table.csv")
    assert str(caught.value).endswith(f"this one has series_id,{names},preference.")


def test_what_no_series_table_knows_is_told_with_examples(tmp_path: Path) -> None:
    ratings = written(tmp_path, "image,rating\nx.png,1\ny.png,2\n")
    series = written(tmp_path, SERIES, "s.csv")
    with pytest.raises(UserError, match=r"photos such as 'x\.png', the series such as 'a'"):
        read_preferences(ratings, series=series)
    with pytest.raises(UserError, match=r"there is no series\.csv in "):
        read_preferences(ratings, series=tmp_path)
    with pytest.raises(UserError, match="a series table has series_id,image"):
        read_preferences(ratings, series=ratings)


def test_series_that_are_too_large_to_be_series_are_told_before_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pair_conversion, "MOST_PAIRS", 5)
    photos = pd.DataFrame({"series_id": "all", "image": list("abcd"), "rating": range(4)})
    with pytest.raises(
        UserError, match="4 photos in 1 series make more than 5 pairs; series 'all'"
    ):
        from_frame(photos)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([np.nan, -0.0, 0.0, 1.0, 2.5])),
                  min_size=1, max_size=12),
)  # fmt: skip
def test_any_ratings_give_each_pair_once_in_the_right_direction(
    rows: list[tuple[int, float]],
) -> None:
    frame = pd.DataFrame(rows, columns=["series_id", "rating"]).assign(
        image=[f"p{i}" for i in range(len(rows))]
    )
    series = dict(zip(frame["image"], frame["series_id"].astype(str), strict=True))
    rating = dict(zip(frame["image"], frame["rating"], strict=True))
    expected = {
        (series[a], a, b)
        for a in series
        for b in series
        if series[a] == series[b] and rating[a] > rating[b]  # a missing one is NaN
    }
    try:
        pairs = from_frame(frame)
    except UserError:
        assert not expected
        return
    assert beaten(pairs.table) == expected
    assert len(pairs.table) == len(expected)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(*[st.sampled_from("abcdefgh")] * 2), min_size=1, max_size=12))
def test_any_winners_give_each_pair_once_with_all_its_votes(rows: list[tuple[str, str]]) -> None:
    rows = [(winner, loser) for winner, loser in rows if winner != loser] or [("a", "b")]
    table = from_frame(pd.DataFrame(rows, columns=["winner", "loser"])).table
    for_a = (table["preference"] * table["votes"]).round().astype(int)
    found: Counter[tuple[str, str]] = Counter()
    for a, b, wins, votes in zip(
        table["image_a"], table["image_b"], for_a, table["votes"], strict=True
    ):
        found[a, b] += wins
        found[b, a] += votes - wins
    assert +found == Counter(rows)
    assert not table[["image_a", "image_b"]].apply(frozenset, axis=1).duplicated().any()
    # What is joined is one series, and nothing else is.
    series = {photo: s for s, a, b in table[["series_id", "image_a", "image_b"]].values
              for photo in (a, b)}  # fmt: skip
    assert all(series[winner] == series[loser] for winner, loser in rows)
    assert len(set(series.values())) == len(set(series)) - _spanning(rows)


def _spanning(rows: list[tuple[str, str]]) -> int:
    """How many rows join two groups of photos that were apart."""
    group = {photo: photo for row in rows for photo in row}
    joins = 0
    for winner, loser in rows:
        if group[winner] != group[loser]:
            joins += 1
            old, new = group[winner], group[loser]
            group = {photo: new if g == old else g for photo, g in group.items()}
    return joins
