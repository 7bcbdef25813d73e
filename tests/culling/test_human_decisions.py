"""What a person's stars and flags decide, before the program and after a contact sheet."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jaxrank.culling import actions, sidecars
from jaxrank.culling.human_decisions import with_changes, with_marks
from jaxrank.culling.xmp import NO_MARKS, Marks

PHOTOS = ["a.jpg", "b.jpg", "c.jpg"]
PROGRAM = ["pick", "alternate", "reject"]
MARKS = {
    **{str(stars): Marks(stars, "", None, {}) for stars in (-1, 0, 1, 2, 4)},
    "flag": Marks(None, "", "pick", {}),
    "flag 2": Marks(2, "", "pick", {}),
    "out": Marks(None, "", "reject", {}),
    "out 2": Marks(2, "", "reject", {}),
    "label": Marks(None, "Red", None, {}),
    "": NO_MARKS,
}


def burst(kind: str = "burst", decisions: list[str] = PROGRAM) -> pd.DataFrame:
    return pd.DataFrame({"path": PHOTOS, "series": "a.jpg", "kind": kind, "decision": decisions})


@pytest.mark.parametrize(
    ("marks", "decisions", "marked"),
    [
        (["", "", ""], "pick alternate reject", "000"),
        (["0", "label", "0"], "pick alternate reject", "000"),
        (["", "", "4"], "alternate alternate pick", "001"),
        (["", "1", ""], "alternate pick reject", "010"),
        (["1", "4", "2"], "alternate pick alternate", "111"),
        (["4", "4", ""], "pick pick reject", "110"),
        (["4", "flag", ""], "alternate pick reject", "110"),
        (["flag", "flag 2", ""], "alternate pick reject", "110"),
        (["-1", "", ""], "reject alternate reject", "100"),
        (["out", "", "4"], "reject alternate pick", "101"),
        (["out 2", "", ""], "pick alternate reject", "100"),
    ],
)
def test_the_highest_mark_of_a_burst_is_the_pick(
    marks: list[str], decisions: str, marked: str
) -> None:
    own = dict(zip(PHOTOS, (MARKS[name] for name in marks), strict=True))
    found = with_marks(burst(), own)
    assert found["decision"].tolist() == decisions.split()
    assert "".join(str(int(one)) for one in found["marked"]) == marked
    expected = [own[path].rating or None for path in PHOTOS]
    assert found["rating"].astype(object).where(found["rating"].notna(), None).tolist() == expected


def test_marks_of_one_burst_change_no_other() -> None:
    both = pd.concat([burst(), burst().assign(path=["d", "e", "f"], series="d")])
    found = with_marks(both.reset_index(drop=True), {"e": MARKS["4"]})
    assert found["decision"].tolist() == [*PROGRAM, "alternate", "pick", "reject"]


def test_what_is_not_culled_has_stars_and_no_decision() -> None:
    table = burst("bracket", ["", "", ""]).assign(decision=None)
    found = with_marks(table, {"a.jpg": MARKS["-1"], "b.jpg": MARKS["4"]})
    assert found["decision"].isna().all()
    assert found["rating"].tolist()[:2] == [-1, 4]
    assert found["marked"].tolist() == [True, True, False]


def test_a_contact_sheet_comes_after_stars() -> None:
    table = with_marks(burst(), {"a.jpg": MARKS["4"], "b.jpg": MARKS["2"]})
    found = with_changes(table, {"a.jpg": {"decision": "reject"}, "b.jpg": {"rating": 5}})
    assert found["decision"].tolist() == ["reject", "alternate", "reject"]
    assert found["rating"].tolist()[:2] == [4, 5]
    assert found["changed"].tolist() == ["decision", "rating", ""]


def test_beside_a_persons_marks_nothing_is_written(tmp_path: Path) -> None:
    """Also not where the stars stand in the photo itself, and there is no sidecar yet."""
    for name in PHOTOS:
        (tmp_path / name).write_bytes(b"")
    table = with_changes(with_marks(burst(), {"a.jpg": MARKS["4"], "b.jpg": MARKS["flag"]}), {})
    actions.write_sidecars(table, {name: [name] for name in PHOTOS}, tmp_path, rejects=True)
    assert [path.name for path in tmp_path.glob("*.xmp")] == ["c.xmp"]
    said = with_changes(table, {"b.jpg": {"decision": "pick"}})
    actions.write_sidecars(said, {name: [name] for name in PHOTOS}, tmp_path)
    assert sidecars.read_marks(tmp_path / "b.xmp").rating == 5


def test_no_other_photo_of_a_burst_gets_more_stars_than_the_persons_pick(tmp_path: Path) -> None:
    for name in PHOTOS:
        (tmp_path / name).write_bytes(b"")
    table = with_changes(with_marks(burst(), {"b.jpg": MARKS["1"]}), {})
    assert table["decision"].tolist() == ["alternate", "pick", "reject"]
    actions.write_sidecars(table, {name: [name] for name in PHOTOS}, tmp_path)
    assert not list(tmp_path.glob("*.xmp"))
    changed = with_changes(table, {"a.jpg": {"decision": "alternate"}})
    actions.write_sidecars(changed, {name: [name] for name in PHOTOS}, tmp_path)
    assert [path.name for path in tmp_path.glob("*.xmp")] == ["a.xmp"]


def test_few_stars_decide_only_for_a_person_who_gives_no_more() -> None:
    """A single star may be a bad mark, and the other photos may be unseen."""
    partly = {"b.jpg": MARKS["1"], "other.jpg": MARKS["4"]}
    assert with_marks(burst(), partly)["decision"].tolist() == PROGRAM
    assert with_marks(burst(), {"b.jpg": MARKS["1"]})["decision"].tolist()[1] == "pick"
    whole = {"a.jpg": MARKS["-1"], "b.jpg": MARKS["2"], "c.jpg": MARKS["1"]} | partly
    whole["b.jpg"] = MARKS["2"]
    assert with_marks(burst(), whole)["decision"].tolist() == ["reject", "pick", "alternate"]


def test_a_pick_in_the_sheet_replaces_the_programs() -> None:
    table = with_changes(with_marks(burst(), {}), {"c.jpg": {"decision": "pick"}})
    assert table["decision"].tolist() == ["alternate", "alternate", "pick"]


def test_a_changed_rating_makes_no_pick_of_the_program_a_persons() -> None:
    changes: dict[str, dict[str, Any]] = {"a.jpg": {"rating": 2}, "b.jpg": {"decision": "pick"}}
    table = with_changes(with_marks(burst(), {}), changes)
    assert table["decision"].tolist() == ["alternate", "pick", "reject"]
    alone = with_changes(with_marks(burst(), {}), {"a.jpg": {"rating": 2}})
    assert alone["decision"].tolist() == PROGRAM


def ratings_in(folder: Path) -> dict[str, int | None]:
    return {path.stem: sidecars.read_marks(path).rating for path in folder.glob("*.xmp")}


def test_stars_of_an_earlier_run_are_set_to_0(tmp_path: Path) -> None:
    """Else a photo that a person rejects keeps five stars above the person's pick."""
    for name in PHOTOS:
        (tmp_path / name).write_bytes(b"")
    files = {name: [name] for name in PHOTOS}
    first = with_changes(with_marks(burst(), {}), {})
    actions.write_sidecars(first, files, tmp_path, rejects=True)
    assert ratings_in(tmp_path) == {"a": 5, "b": 3, "c": -1}
    said: dict[str, dict[str, Any]] = {
        "a.jpg": {"decision": "reject"},
        "b.jpg": {"decision": "pick", "rating": 3},
    }
    actions.write_sidecars(with_changes(with_marks(burst(), {}), said), files, tmp_path)
    assert ratings_in(tmp_path) == {"a": 0, "b": 3, "c": 0}
    before = {path: path.read_bytes() for path in tmp_path.glob("*.xmp")}
    actions.write_sidecars(with_changes(with_marks(burst(), {}), said), files, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.xmp")} == before


def test_stars_given_in_the_sheet_are_not_outranked_by_the_programs(tmp_path: Path) -> None:
    for name in PHOTOS:
        (tmp_path / name).write_bytes(b"")
    table = with_changes(with_marks(burst(), {}), {"b.jpg": {"rating": 4}})
    actions.write_sidecars(table, {name: [name] for name in PHOTOS}, tmp_path)
    assert ratings_in(tmp_path) == {"b": 4}


def test_stars_that_a_person_takes_from_the_programs_pick_leave_the_others_theirs(
    tmp_path: Path,
) -> None:
    for name in PHOTOS:
        (tmp_path / name).write_bytes(b"")
    table = with_changes(with_marks(burst(), {}), {"a.jpg": {"rating": 0}})
    actions.write_sidecars(table, {name: [name] for name in PHOTOS}, tmp_path)
    assert ratings_in(tmp_path) == {"b": 3}


def test_a_persons_stars_that_differ_from_the_sheets_are_reported(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"")
    sidecars.write_marks(tmp_path / "b.xmp", rating=4)
    table = with_marks(burst(), {"b.jpg": MARKS["4"]})
    table = with_changes(table, {"b.jpg": {"rating": 2}}).iloc[1:2]
    done = actions.write_sidecars(table, {"b.jpg": ["b.jpg"]}, tmp_path)
    assert ratings_in(tmp_path) == {"b": 4}
    assert "1 sidecar not changed: a person's own stars or label are in the file" in done.notes
