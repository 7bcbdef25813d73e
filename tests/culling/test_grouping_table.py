"""The table of groups: what is written reads back, and can be corrected."""

from pathlib import Path

import pytest

from jaxrank.culling.capture import Capture
from jaxrank.culling.grouping import Group
from jaxrank.culling.grouping_table import groups_table, read_groups
from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.thumbnails import Thumbnail
from jaxrank.errors import UserError
from jaxrank.io import tables


def photos(*names: str) -> list[PhotoRecord]:
    return [
        PhotoRecord(
            name=name, files=(name, name.replace("jpg", "cr2")), size=1, modified=1,
            capture=Capture(), thumbnail=Thumbnail(64, 1, bytes(64)),
        )
        for name in names
    ]  # fmt: skip


RECORDS = photos("a.jpg", "b.jpg", "c.jpg", "=d.jpg")


def given(path: Path, text: str) -> tuple[list[Group], list[str]]:
    path.write_text(text)
    return read_groups(path, RECORDS)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    groups = [
        Group("bracket", ("=d.jpg", "b.jpg"), "why, 'exactly'"),
        Group("single", ("c.jpg",), "x"),
        Group("single", ("a.jpg",), "y"),
    ]
    tables.write_frame(tmp_path / "groups.csv", groups_table(groups))
    found, notes = read_groups(tmp_path / "groups.csv", RECORDS)
    assert [group[:2] for group in found] == [group[:2] for group in groups]
    assert notes == []
    assert (tmp_path / "groups.csv").read_text().splitlines()[0] == "series_id,image,kind,reason"


def test_a_plain_table_of_series(tmp_path: Path) -> None:
    groups, notes = given(
        tmp_path / "s.csv", "image,series_id\nc.jpg,1\na.cr2,1\nz.jpg,1\nb.jpg,2\n"
    )
    assert groups == [
        Group("burst", ("c.jpg", "a.jpg"), "given by s.csv"),
        Group("single", ("b.jpg",), "given by s.csv"),
        Group("single", ("=d.jpg",), "in no row of s.csv"),
    ]
    assert notes == [
        "photos in no row of s.csv: 1, such as '=d.jpg'",
        "photos of s.csv that are not in the folder: 1, such as 'z.jpg'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("series,image\n1,a.jpg\n", "column 'series_id' is missing"),
        ("series_id,image\n1,a.jpg\n2,a.jpg\n", "line 3: photo 'a.jpg' appears twice"),
        ("series_id,image\n1,a.jpg\n2,a.cr2\n", "line 3: 'a.cr2' is a file of the photo 'a.jpg'"),
        ("series_id,image\n1,z.jpg\n", "none of the photos is in the table.* such as 'a.jpg'"),
        ("series_id,image,kind\n1,a.jpg,brackt\n", "line 2: unknown kind 'brackt'.*'bracket'"),
        (
            "series_id,image,kind\n1,a.jpg,burst\n01,b.jpg,bracket\n",
            "line 3: the series '1' is of kind 'burst' in a row above and 'bracket' here",
        ),
        ("series_id,image\n,a.jpg\n", "the cell is empty"),
    ],
)
def test_tables_that_are_no_grouping_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        given(tmp_path / "s.csv", text)
