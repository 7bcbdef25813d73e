"""Marks in a folder, and the pairs that they make."""

import itertools
import os
from pathlib import Path

import pytest
from photo_files import jpeg
from xmp_files import packet

from jaxrank.culling import kept_marks, sidecars
from jaxrank.culling.decisions import PICK, label_of
from jaxrank.culling.marked_pairs import (
    RATINGS,
    SHEET,
    Agreement,
    MarkedPairs,
    Source,
    SourcePairs,
    pairs_of_sources,
    read_sheet,
    report,
    sources_of_marks,
)
from jaxrank.culling.marks import list_photos, marks_in_folder
from jaxrank.culling.xmp import Marks
from jaxrank.errors import UserError

HERE = Path("photos")
FLAG = "flags (xmpDM:pick)"


def beaten(found: MarkedPairs) -> set[tuple[str, str]]:
    rows = found.table[["image_a", "image_b", "preference"]].itertuples(index=False)
    return {(a, b) if share == 1 else (b, a) for a, b, share in rows}


def put(folder: Path, **attributes: str) -> None:
    """Sidecars and photos with marks: the key is a file's name, `__` for its dots."""
    for name, marks in attributes.items():
        path = folder / name.replace("__", ".")
        data = packet(marks)
        path.write_bytes(data if path.suffix.lower() == ".xmp" else jpeg(xmp=data))


def test_higher_marks_win_inside_a_series_only() -> None:
    series_of = {"a": "1", "b": "1", "c": "1", "d": "2", "e": "2", "f": "3"}
    found = pairs_of_sources(
        HERE, series_of, [Source(RATINGS, {"a": 5, "b": 3, "c": 3, "d": 0, "e": 0, "f": 4, "x": 1})]
    )
    assert beaten(found) == {("a", "b"), ("a", "c")}
    assert set(found.table["series_id"]) == {"1"}
    assert found.sources == [SourcePairs(RATINGS, 2, 0, 1)]
    assert report(found) == ["ratings (xmp:Rating): 2 pairs in 1 series"]


def test_marks_are_ratings_and_the_flags_of_each_program() -> None:
    marks = {
        "star": Marks(3, "", None, {"rating": "xmp:Rating"}),
        "none": Marks(None, "Red", None, {"label": "xmp:Label"}),
        "reject": Marks(-1, "", None, {"rating": "xmp:Rating"}),
        "pick": Marks(None, "", "pick", {"pick": "xmpDM:pick"}),
        "flagged out": Marks(0, "", "reject", {"pick": "digiKam:PickLabel"}),
    }
    ratings, lightroom, digikam = sources_of_marks(marks)
    assert ratings == Source(
        RATINGS, {"star": 3, "none": 0, "reject": -1, "pick": 0, "flagged out": 0}, 3
    )
    assert lightroom.name == FLAG
    assert [lightroom.strength[name] for name in marks] == [0, 0, 0, 1, 0]
    assert [digikam.strength[name] for name in marks] == [0, 0, 0, 0, -1]


def test_a_photo_without_stars_is_not_compared_with_one_or_two_of_somebody_who_gives_more() -> None:
    def rated(**stars: int) -> MarkedPairs:
        marks = {name: Marks(n, "", None, {"rating": "xmp:Rating"}) for name, n in stars.items()}
        return pairs_of_sources(HERE, dict.fromkeys(stars, "1"), sources_of_marks(marks))

    found = rated(good=4, bad=1, none=0, rejected=-1)
    assert beaten(found) == {
        ("good", "bad"), ("good", "none"), ("good", "rejected"), ("bad", "rejected"),
        ("none", "rejected"),
    }  # fmt: skip
    assert report(found) == [
        f"{RATINGS}: 5 pairs in 1 series, 2 of a marked photo and one without a mark"
    ]
    assert beaten(rated(kept=1, none=0)) == {("kept", "none")}


def test_agreement_is_counted_and_contradictions_are_left_out() -> None:
    series_of = dict.fromkeys("abc", "1") | dict.fromkeys("de", "2")
    ratings = Source(RATINGS, {"a": 5, "b": 3, "c": 0, "d": 1, "e": 0})
    flags = Source(FLAG, {"a": 1, "b": 0, "c": 1, "d": 0, "e": 0})
    found = pairs_of_sources(HERE, series_of, [ratings, flags])
    # Both say a > b; ratings b > c, flags c > b; ratings alone a > c and d > e.
    assert beaten(found) == {("a", "b"), ("a", "c"), ("d", "e")}
    assert found.sources == [SourcePairs(RATINGS, 4, 3, 2), SourcePairs(FLAG, 2, 2, 1)]
    assert found.agreements == [Agreement(RATINGS, FLAG, 2, 1)]
    assert found.contradicted == 1
    assert report(found)[2:] == [
        f"{RATINGS} and {FLAG}: 2 pairs in both, 1 (50%) with the same winner",
        "1 pair left out: the sources prefer different photos",
    ]


def test_the_contact_sheet_has_the_last_word() -> None:
    series_of = dict.fromkeys("abc", "1")
    ratings = Source(RATINGS, {"a": 5, "b": 3, "c": 0})
    flags = Source(FLAG, {"a": 0, "b": 1, "c": 0})
    sheet = Source(SHEET, {"a": 0, "b": 30, "c": 0})
    found = pairs_of_sources(HERE, series_of, [ratings, flags, sheet])
    assert beaten(found) == {("b", "a"), ("b", "c"), ("a", "c")}
    assert found.contradicted == 0
    only = pairs_of_sources(HERE, series_of, [sheet])
    assert beaten(only) == {("b", "a"), ("b", "c")}


def test_no_pair_is_one_line() -> None:
    with pytest.raises(UserError, match="photos: no series has two photos with different marks"):
        pairs_of_sources(HERE, {"a": "1", "b": "1"}, [Source(RATINGS, {"a": 3, "b": 3})])


def test_a_sheets_decisions_come_before_its_ratings(tmp_path: Path) -> None:
    path = tmp_path / "cull.csv"
    path.write_text(
        "path,series,rank,decision,rating\n"
        "a,01,1,pick,\nb,1,2,alternate,5\nc,1,3,alternate,4\nd,1,4,undecided,0\ne,1,5,reject,'-1\n"
    )
    sheet = read_sheet(path)
    assert set(sheet.series_of.values()) == {"1"}
    found = pairs_of_sources(HERE, sheet.series_of, sheet.sources)
    assert beaten(found) == set(itertools.combinations("abcde", 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,series,decision\na,1,pick\n", "column 'rating' is missing; a contact sheet's table"),
        ("path,series,decision,rating\na,1,best,\n", "line 2, column 'decision': 'best' is no de"),
        ("path,series,decision,rating\na,1,pick,9\n", "column 'rating': '9' is not empty"),
        ("path,series,decision,rating\na,1,pick,\na,1,pick,\n", "photo 'a' appears twice"),
        ("path,series,decision,rating\n", "no rows"),
    ],
)
def test_a_sheet_that_is_none_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cull.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_sheet(path)
    assert message in str(caught.value)


def test_the_first_place_with_a_mark_counts(tmp_path: Path) -> None:
    put(
        tmp_path,
        a__JPG='xmp:Rating="2" xmp:Label="in the photo"',
        a__JPG__xmp='xmp:Rating="0" xmpDM:pick="1"',
        a__XMP='xmp:Rating="4"',
        b__jpg='xmp:Rating="1"',
        c__jpg="",
        c__CR3__xmp='digiKam:PickLabel="1"',
    )
    (tmp_path / "c.CR3").touch()
    found = marks_in_folder(tmp_path, ["a.JPG", "b.jpg", "c.jpg", "d.jpg"])
    assert found.marks == {
        "a.JPG": Marks(
            4,
            "in the photo",
            "pick",
            {"rating": "xmp:Rating", "label": "xmp:Label", "pick": "xmpDM:pick"},
        ),
        "b.jpg": Marks(1, "", None, {"rating": "xmp:Rating"}),
        "c.jpg": Marks(None, "", "reject", {"pick": "digiKam:PickLabel"}),
    }
    assert found.notes == [
        "1 photo not in the folder",
        "1 photo rated differently in two places, of which the first sidecar counts, such as a.JPG",
    ]


def test_a_raw_file_that_is_a_photo_of_its_own_keeps_its_sidecars(tmp_path: Path) -> None:
    put(tmp_path, a__xmp='xmp:Rating="4"', a__NEF__xmp='xmpDM:pick="1"', a__jpg="", a__nef="")
    found = marks_in_folder(tmp_path, ["a.jpg", "a.nef"]).marks
    assert found["a.jpg"].rating is None
    assert found["a.jpg"].pick is None
    assert (found["a.nef"].rating, found["a.nef"].pick) == (4, "pick")
    put(tmp_path, b__cr3="", b__dng="", b__dng__xmp='xmp:Rating="2"')
    found = marks_in_folder(tmp_path, ["b.cr3", "b.dng"]).marks
    assert (found["b.cr3"].rating, found["b.dng"].rating) == (None, 2)


def test_files_that_are_bad_or_elsewhere_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    put(tmp_path, outside__xmp='xmp:Rating="5"', outside__jpg='xmp:Rating="5"')
    put(folder, a__jpg='xmp:Rating="1"', b__jpg="")
    (folder / "a.xmp").write_text("<not XMP>")
    (folder / "b.xmp").symlink_to(tmp_path / "outside.xmp")
    (folder / "c.jpg").symlink_to(tmp_path / "outside.jpg")
    (folder / "b.jpg.xmp").mkdir()
    os.mkfifo(folder / "d.jpg")
    found = marks_in_folder(folder, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    assert {name: marks.rating for name, marks in found.marks.items()} == {
        "a.jpg": 1,
        "b.jpg": None,
    }
    assert found.notes[0] == "2 photos not in the folder"
    assert found.notes[1].startswith("1 file left out: their XMP can't be read, such as a.xmp: not")
    for name in ("../outside.jpg", str(tmp_path / "outside.jpg")):
        with pytest.raises(UserError, match="leads out of the folder"):
            marks_in_folder(folder, [name])


def test_photos_of_one_stem_are_one(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    (tmp_path / ".hidden").mkdir()
    names = "a.CR3 a.jpg a.xmp b.nef b.dng c.HEIC c.JPG d.heic .e.jpg f.txt x\n.jpg"
    for name in names.split(" "):
        (tmp_path / "day" / name).touch()
    (tmp_path / ".hidden" / "g.jpg").touch()
    (tmp_path / "a.jpg").touch()
    photos, notes = list_photos(tmp_path)
    assert photos == ["a.jpg", "day/a.jpg", "day/b.dng", "day/c.JPG", "day/d.heic"]
    assert len(notes) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no photo there"):
        list_photos(tmp_path / "empty")
    with pytest.raises(UserError, match="no such folder"):
        list_photos(tmp_path / "nowhere")


def test_marks_of_all_files_of_a_photo_count(tmp_path: Path) -> None:
    """Stars that a program keeps in the DNG, or beside the HEIC, are those of the JPEG, too."""
    put(tmp_path, a__jpg="", a__HEIC__xmp='xmp:Rating="2"', b__jpg="", b__dng='xmp:Rating="3"',
        c__jpg="", c__cr3='xmp:Rating="4"')  # fmt: skip
    marks = marks_in_folder(tmp_path, ["a.jpg", "b.jpg", "c.jpg"]).marks
    assert [marks[name].rating for name in ("b.jpg", "c.jpg")] == [3, None]
    (tmp_path / "a.heic").write_bytes(b"")
    assert marks_in_folder(tmp_path, ["a.jpg"]).marks["a.jpg"].rating == 2


def test_a_flag_beside_stars_of_cull_is_a_persons(tmp_path: Path) -> None:
    put(tmp_path, a__jpg="")
    path = tmp_path / "a.xmp"
    path.write_bytes(packet(f'xmp:Rating="5" xmp:Label="{label_of(PICK)}" xmpDM:pick="-1"'))
    marks = marks_in_folder(tmp_path, ["a.jpg"]).marks["a.jpg"]
    assert (marks.rating, marks.label, marks.pick) == (None, "", "reject")


def pairs_of_sheet(path: Path, rows: str) -> set[tuple[str, str]]:
    path.write_text(f"path,series,decision,rating,changed\n{rows}")
    sheet = read_sheet(path)
    return beaten(pairs_of_sources(HERE, sheet.series_of, sheet.sources))


def test_a_photo_with_changed_stars_is_compared_by_stars_not_by_the_programs_decision(
    tmp_path: Path,
) -> None:
    rows = "a,1,pick,,\nb,1,undecided,5,rating\nc,1,undecided,1,rating\nd,1,undecided,,\n"
    # Not a over b or d, which the program decided; not c over d, whose single star may be a bad
    # mark.
    assert pairs_of_sheet(tmp_path / "s.csv", rows) == {("b", "a"), ("b", "c"), ("b", "d")}


def test_a_persons_pick_or_reject_compares_with_photos_that_the_program_decided(
    tmp_path: Path,
) -> None:
    rows = "a,1,pick,,decision\nb,1,pick,,\nc,1,alternate,5,rating\nd,1,reject,,\n"
    assert pairs_of_sheet(tmp_path / "s.csv", rows) == {
        ("a", "c"), ("a", "d"), ("c", "b"), ("c", "d"),
    }  # fmt: skip
    rows = "a,1,reject,,decision\nb,1,pick,,\nc,1,alternate,5,rating\nd,1,reject,,\n"
    assert pairs_of_sheet(tmp_path / "s.csv", rows) == {
        ("b", "a"), ("c", "a"), ("c", "b"), ("c", "d"),
    }  # fmt: skip
    # The person's alternate is above the person's reject, and not below the program's pick.
    rows = "a,1,alternate,,decision\nb,1,pick,,\nc,1,reject,,decision\nd,1,reject,,\n"
    assert pairs_of_sheet(tmp_path / "s.csv", rows) == {("a", "c"), ("b", "c")}


@pytest.mark.parametrize("rating", ["", "0"])
def test_stars_taken_away_make_no_pair(tmp_path: Path, rating: str) -> None:
    rows = f"a,1,pick,,\nb,1,undecided,{rating},rating\nc,1,reject,,\n"
    with pytest.raises(UserError, match="so there is no pair"):
        pairs_of_sheet(tmp_path / "s.csv", rows)


def test_marks_in_a_photo_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = tmp_path / "photos", tmp_path / "marks.json"
    folder.mkdir()
    put(folder, a__jpg='xmp:Rating="4" xmp:Label="Red"', b__jpg='xmpDM:pick="1"')
    read: list[str] = []

    def counted(path: Path) -> Marks:
        read.append(path.name)
        return sidecars.read_marks(path)

    monkeypatch.setattr(kept_marks, "read_marks", counted)
    first = marks_in_folder(folder, ["a.jpg", "b.jpg"], cache)
    assert read == ["a.jpg", "b.jpg"]
    assert marks_in_folder(folder, ["a.jpg", "b.jpg"], cache) == first
    assert len(read) == 2
    put(folder, a__jpg='xmp:Rating="2"', b__xmp='xmp:Rating="1"')
    os.utime(folder / "a.jpg", ns=(1, 1))
    again = marks_in_folder(folder, ["a.jpg", "b.jpg"], cache).marks
    assert read[2:] == ["a.jpg", "b.xmp"]
    assert (again["a.jpg"].rating, again["b.jpg"].rating, again["b.jpg"].pick) == (2, 1, "pick")
    for damaged in ("{", "[]", '{"a.jpg": [1]}', '{"a.jpg": [1, 2, 99, "", null, {}]}'):
        cache.write_text(damaged)
        assert marks_in_folder(folder, ["a.jpg", "b.jpg"], cache).marks == again
