"""From a folder to decisions: bursts of drawn scenes, without a network."""

import contextlib
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from photo_files import exif, jpeg, scene
from PIL import ImageFilter
from small_data import ROOT

from jaxrank import cli
from jaxrank.culling import api, sidecars
from jaxrank.culling.api import cull
from jaxrank.culling.changes import sheet_rows
from jaxrank.culling.grouping import group_photos
from jaxrank.culling.marked_pairs import read_sheet
from jaxrank.culling.marks import marks_in_folder
from jaxrank.data.feature_store import open_feature_store
from jaxrank.errors import UserError
from jaxrank.io.tables import read_csv

BURSTS, SIZE = 4, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bursts of three, of which the photo in the middle is sharp; and one photo alone."""
    folder = tmp_path_factory.mktemp("photos") / "trip"
    folder.mkdir()
    for burst in range(BURSTS):
        for place in range(SIZE):
            image = scene(10 * burst, 192, 128)
            if place != 1:
                image = image.filter(ImageFilter.GaussianBlur(1 + place))
            taken = exif(1, f"2026:06:01 10:{burst:02d}:0{place}", camera="A")
            (folder / f"b{burst}_{place}.jpg").write_bytes(jpeg(image, exif=taken))
    alone = exif(1, "2026:06:02 10:00:00", camera="A")
    (folder / "alone.jpg").write_bytes(jpeg(scene(99, 192, 128), exif=alone))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may write beside."""
    copy = tmp_path / "trip"
    copy.mkdir()
    for path in made.iterdir():
        os.link(path, copy / path.name)
    return copy


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_a_model_the_baseline_picks_the_sharp_photo_of_each_burst(
    folder: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = cull(folder, tmp_path / "w")
    picks = found.table[found.table["decision"] == "pick"]
    assert sorted(picks["path"]) == [f"b{burst}_1.jpg" for burst in range(BURSTS)]
    assert (found.table["decision"] == "undecided").sum() == BURSTS * (SIZE - 1)
    assert picks["reasons"].str.startswith("sharper by ").all()
    (alone,) = found.table[found.table["kind"] == "single"].to_dict("records")
    assert (alone["path"], alone["decision"]) == ("alone.jpg", None) or pd.isna(alone["decision"])
    assert any("without preferences nothing says how sure" in note for note in found.notes)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(("baseline", "has_others"), [("signed_sum", True), ("sharpness", False)])
def test_the_reasons_of_a_baseline_name_the_numbers_that_it_reads(
    folder: Path, tmp_path: Path, baseline: str, has_others: bool
) -> None:
    table = cull(folder, tmp_path / "w", baseline=baseline).table
    texts = [text for text in table["reasons"].dropna() if text]
    assert any("sharp" in text for text in texts)
    assert any("exposed" in text or "colourful" in text for text in texts) == has_others


def test_a_second_run_reads_only_new_photos(folder: Path, tmp_path: Path) -> None:
    first = cull(folder, tmp_path / "w")
    assert first.num_new == BURSTS * SIZE + 1
    (folder / "late.jpg").write_bytes(jpeg(scene(5, 192, 128)))
    (folder / "alone.jpg").unlink()
    second = cull(folder, tmp_path / "w")
    assert second.num_new == 1
    known = open_feature_store(tmp_path / "w" / api.STORE)["iqa"].photos
    assert sorted(known) == sorted(second.table["path"])  # what is gone scales no other score
    both = first.table.merge(second.table, on="path", suffixes=("", "_again"))
    assert both["decision"].fillna("").tolist() == both["decision_again"].fillna("").tolist()
    assert "late.jpg" in set(second.table["path"])


def test_what_a_person_decided_stays_and_is_a_preference(folder: Path, tmp_path: Path) -> None:
    """The export of a contact sheet, culled again, then written and read once more."""
    changes = tmp_path / "changes.csv"
    changes.write_text(
        "path,series,decision,rating,changed\n"
        "b0_0.jpg,b0_0.jpg,pick,4,decision rating\nb0_1.jpg,b0_0.jpg,reject,,decision\n"
        "b0_2.jpg,b0_0.jpg,alternate,,\nb1_0.jpg,b1_0.jpg,pick,3,rating\n"
        "b2_0.jpg,b2_0.jpg,alternate,,\nb2_1.jpg,b2_0.jpg,pick,,\nalone.jpg,alone.jpg,,,\n"
    )
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    assert cli.main([*words, f"--changes={changes}"]) == 0
    written = tmp_path / "w" / "cull.csv"
    rows = {row["path"]: row for row in rows_of(written)}
    assert (rows["b0_0.jpg"]["decision"], rows["b0_0.jpg"]["rating"]) == ("pick", "4")
    assert rows["b0_1.jpg"]["decision"] == "reject"
    assert (rows["b1_0.jpg"]["decision"], rows["b1_0.jpg"]["rating"]) == ("undecided", "3")
    changed = {path: row["changed"] for path, row in rows.items() if row["changed"]}
    assert changed == {"b0_0.jpg": "decision rating", "b0_1.jpg": "decision", "b1_0.jpg": "rating"}
    # Once more, from the table that was written; then from nothing but what is kept.
    assert cli.main([*words, f"--changes={written}"]) == 0
    assert cli.main(words) == 0
    again = {row["path"]: row for row in rows_of(written)}
    assert again["b0_0.jpg"] == rows["b0_0.jpg"]
    # Only what the person touched teaches anything.
    sheet = read_sheet(changes)
    assert set(sheet.series_of) == {"b0_0.jpg", "b0_1.jpg", "b0_2.jpg", "b1_0.jpg"}


@pytest.mark.parametrize(
    ("edited", "notes"),
    [
        (["b0_0.jpg"], ["1 pick of the program is now alternate, because a person picked another "
                        "photo of its burst"]),
        (["b0_0.jpg", "b1_2.jpg", "b2_1.jpg"], [
            "2 picks of the program are now alternate, because a person picked another photo of "
            "their bursts"]),
        (["b2_1.jpg"], []),
    ],
)  # fmt: skip
def test_the_programs_picks_that_a_person_replaced_are_counted(
    folder: Path, tmp_path: Path, edited: list[str], notes: list[str]
) -> None:
    cull(folder, tmp_path / "w")
    changes = tmp_path / "changes.csv"
    changes.write_text("path,decision\n" + "".join(f"{name},pick\n" for name in edited))
    found = cull(folder, tmp_path / "w", changes=changes)
    assert [note for note in found.notes if "now alternate" in note] == notes


def test_a_table_that_was_edited_is_not_overwritten(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    assert cli.main(words) == cli.main(words) == 0
    table = tmp_path / "w" / "cull.csv"
    lines = table.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("b0_0.jpg"))
    lines[at] = lines[at].replace("undecided", "pick")
    edited = "\n".join(lines) + "\n"
    table.write_text(edited)
    other = tmp_path / "other.csv"
    other.write_text("path,decision\nb1_0.jpg,reject\n")
    for more in ([], [f"--changes={other}"]):
        capsys.readouterr()
        assert cli.main([*words, *more]) == 2
        message = capsys.readouterr().err
        assert f"{table}: was edited after cull wrote it" in message
        assert message.endswith("or remove the file, which discards the edits\n")
        assert message.count("\n") == 1
        assert table.read_text() == edited
    # The table itself gives what differs, and only that.
    assert cli.main([*words, f"--changes={table}"]) == 0
    assert cli.main(words) == 0
    rows = {row["path"]: row for row in rows_of(table)}
    assert {path: row["changed"] for path, row in rows.items() if row["changed"]} == {
        "b0_0.jpg": "decision"
    }
    assert rows["b0_0.jpg"]["decision"] == "pick"
    assert rows["b0_1.jpg"]["decision"] == "alternate"  # the program's own pick


def test_decisions_are_taken_back(folder: Path, tmp_path: Path) -> None:
    """As docs/results.md describes it: one, and all of them."""
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    table = tmp_path / "w" / "cull.csv"
    assert cli.main(words) == 0
    before = table.read_text()

    def decide(decision: str) -> list[list[str]]:
        """Edits a photo, gives the table, and returns its burst as it is written then."""
        edited = pd.read_csv(table, dtype=str, keep_default_na=False)
        edited.loc[edited["path"] == "b0_0.jpg", "decision"] = decision
        edited.to_csv(table, index=False)
        assert cli.main([*words, f"--changes={table}"]) == 0
        rows = {row["path"]: [row["decision"], row["changed"]] for row in rows_of(table)}
        return [rows["b0_0.jpg"], rows["b0_1.jpg"]]

    assert decide("pick") == [["pick", "decision"], ["alternate", ""]]
    assert decide("undecided") == [["undecided", "decision"], ["pick", ""]]
    assert decide("pick") == [["pick", "decision"], ["alternate", ""]]
    table.write_text(table.read_text().replace("undecided", "reject"))
    (tmp_path / "w" / "changes.json").unlink()
    table.unlink()
    assert cli.main(words) == 0
    assert table.read_text() == before


@pytest.mark.parametrize("is_given", [False, True])
def test_a_table_that_is_edited_during_a_run_is_not_overwritten(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_given: bool,
) -> None:
    table = tmp_path / "w" / "cull.csv"
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    assert cli.main(words) == 0
    more = [f"--changes={table}"] if is_given else []

    def edited_meanwhile(*args: Any) -> Any:
        table.write_text(table.read_text().replace("undecided", "reject"))
        return marks_in_folder(*args)

    with monkeypatch.context() as patched:
        patched.setattr(api, "marks_in_folder", edited_meanwhile)
        capsys.readouterr()
        assert cli.main([*words, *more, "--write=xmp"]) == 2
    message = capsys.readouterr().err
    assert f"{table}: was edited while cull ran; keep your decisions" in message
    assert message.count("\n") == 1
    assert "undecided" not in table.read_text()
    assert not list(folder.glob("*.xmp"))
    assert cli.main([*words, f"--changes={table}"]) == 0
    assert {row["changed"] for row in rows_of(table) if row["decision"] == "reject"} == {"decision"}


def test_a_table_that_was_saved_again_without_an_edit_is_not_edited(
    folder: Path, tmp_path: Path
) -> None:
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    assert cli.main(words) == 0
    table = tmp_path / "w" / "cull.csv"
    written = table.read_bytes()
    for more in ([], [f"--changes={table}"]):
        table.write_bytes(b"\xef\xbb\xbf" + written.replace(b"\n", b"\r\n"))
        assert cli.main([*words, *more]) == 0
        assert table.read_bytes() == written


def test_an_older_sheet_saved_as_the_table_gives_its_own_changes_only(
    folder: Path, tmp_path: Path
) -> None:
    """Its other decisions are those of an earlier run, not of a person."""
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    assert cli.main(words) == 0
    table = tmp_path / "w" / "cull.csv"
    table.write_text(
        "path,series,rank,score,p_best,decision,rating,reasons,changed\n"
        "b0_0.jpg,b0_0.jpg,1,0.5,,pick,,,decision\nb0_1.jpg,b0_0.jpg,2,0.1,,reject,,,\n"
        "b1_0.jpg,b1_0.jpg,1,0.5,,pick,2,,\n"
    )
    rows = sheet_rows(read_csv(table))
    assert {row.path: row.changed for row in rows if row.changed} == {"b0_0.jpg": {"decision"}}
    assert cli.main(words) == 2  # the table is no longer the one that was written
    assert cli.main([*words, f"--changes={table}"]) == 0
    changed = {row["path"]: row["changed"] for row in rows_of(table) if row["changed"]}
    assert changed == {"b0_0.jpg": "decision"}


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        '{"cull.csv": 1}',
        '{"cull.csv": [1]}',
        '{"cull.csv": [{"sha256": "1"}]}',
        '{"cull.csv": [{"sha256": "1", "decisions": {"b0_0.jpg": ["pick"], "a": null}}]}',
    ],
)
def test_a_damaged_record_of_the_table_is_no_record(
    folder: Path, tmp_path: Path, record: str
) -> None:
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    assert cli.main(words) == 0
    (tmp_path / "w" / "written.json").write_text(record)
    table = tmp_path / "w" / "cull.csv"
    assert not any(row.changed for row in sheet_rows(read_csv(table)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo,decision\na,pick\n", "give the columns path and decision, or rating"),
        ("path,decision,changed\na,pick,False\n", "no row is marked as changed"),
        ("path,decision\na,picks\n", "'decision': 'picks' is no decision. Did you mean 'pick'"),
        (
            "path,decision\na,maybe\n",
            r"'maybe' is no decision\. Known: alternate, pick, reject, undecided\.$",
        ),
        ("path,rating\na,6\n", "column 'rating': '6' is not empty, nor -1 to 5"),
        ("path,rating\na,1\na,2\n", "photo 'a' appears twice"),
    ],
)
def test_changes_that_say_nothing_are_refused(
    folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "changes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        cull(folder, tmp_path / "w", changes=tmp_path / "changes.csv")


def test_the_groups_that_were_found_can_be_corrected(folder: Path, tmp_path: Path) -> None:
    cull(folder, tmp_path / "w")
    groups = pd.read_csv(tmp_path / "w" / api.GROUPS_CSV)
    groups.loc[groups["image"].str.startswith("b0"), "kind"] = "bracket"
    groups.to_csv(tmp_path / "mine.csv", index=False)
    table = cull(folder, tmp_path / "w", series=tmp_path / "mine.csv").table.set_index("path")
    mine = table[table.index.str.startswith("b0")]
    assert set(mine["kind"]) == {"bracket"}
    assert mine["decision"].isna().all()  # a bracket is never culled
    assert (table["decision"] == "pick").sum() == BURSTS - 1


def test_groups_that_were_edited_are_not_overwritten(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}"]
    groups, table = tmp_path / "w" / "groups.csv", tmp_path / "w" / "cull.csv"
    assert cli.main(words) == cli.main(words) == 0
    edited = groups.read_text().replace("b0_2.jpg,burst", "b0_2.jpg,single")
    edited = edited.replace("b0_0.jpg,b0_2.jpg", "mine,b0_2.jpg").replace("\n", "\r\n")
    groups.write_bytes(edited.encode())
    other = tmp_path / "other.csv"
    other.write_text("series_id,image\n1,b0_0.jpg\n1,b0_1.jpg\n")
    for more in ([], [f"--series={other}"]):
        capsys.readouterr()
        assert cli.main([*words, *more]) == 2
        message = capsys.readouterr().err
        assert f"{groups}: was edited after cull wrote it" in message
        assert f"keep your groups by --series={groups}, or remove the file, which" in message
        assert message.count("\n") == 1
    # Given, the groups count and stay, also for the run after.
    assert cli.main([*words, f"--series={groups}"]) == 0
    assert groups.read_bytes() == edited.encode()
    (row,) = (row for row in rows_of(table) if row["path"] == "b0_2.jpg")
    assert (row["series"], row["kind"], row["decision"]) == ("b0_2.jpg", "single", "")
    assert cli.main(words) == 2
    groups.unlink()
    assert cli.main(words) == 0

    def edited_meanwhile(*args: Any, **options: Any) -> Any:
        groups.write_bytes(edited.encode())
        return group_photos(*args, **options)

    monkeypatch.setattr(api, "group_photos", edited_meanwhile)
    capsys.readouterr()
    assert cli.main(words) == 2
    assert f"{groups}: was edited while cull ran; keep your groups" in capsys.readouterr().err
    assert groups.read_bytes() == edited.encode()


def test_the_command_writes_table_sheet_and_sidecars_once(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # lines are wrapped, and never joined
    (folder / "b0_1.dng").write_bytes(b"raw")  # the same photo
    sidecars.write_marks(folder / "b1_1.xmp", rating=2)  # the person's own
    sidecars.write_marks(folder / "b3_0.xmp", rating=1)
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}", "--write=xmp"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "13 photos: 4 bursts, 1 photo alone" in out.splitlines()
    counts = "4 picks, 7 undecided, 1 alternate, 1 without a decision"
    assert f"13 photos (13 read now): {counts}" in out.splitlines()
    assert "4 of 4 bursts have a pick, 2 of them a person's" in out.splitlines()
    assert "2 picks by the baseline signed_sum: " in out
    assert "2 photos of bursts with a person's stars or flags, which stay" in out
    rows = rows_of(tmp_path / "w" / "cull.csv")
    assert list(rows[0]) == list(api.COLUMNS)
    assert len(rows) == BURSTS * SIZE + 1
    marked = {
        row["path"]: (row["decision"], row["rating"]) for row in rows if row["marked"] == "True"
    }
    assert marked == {"b1_1.jpg": ("pick", "2"), "b3_0.jpg": ("pick", "1")}
    page = (tmp_path / "w" / "cull.html").read_text()
    assert "b3_2.jpg" in page
    ratings = {path.stem: sidecars.read_marks(path).rating for path in sorted(folder.glob("*.xmp"))}
    # Nothing beside the person's stars.
    assert ratings == {"b0_1": 5, "b2_1": 5, "b1_1": 2, "b3_0": 1}
    assert "1 sidecar beside JPEG, HEIC or other photos that are not RAW" in out
    # What was written is no preference of a person; stars that are changed are.
    marks = marks_in_folder(folder, [f"b{burst}_1.jpg" for burst in range(3)]).marks
    assert [marks[f"b{burst}_1.jpg"].rating for burst in range(3)] == [None, 2, None]
    mine = folder / "b2_1.xmp"
    mine.write_text(mine.read_text().replace('xmp:Rating="5"', 'xmp:Rating="4"'))
    assert marks_in_folder(folder, ["b2_1.jpg"]).marks["b2_1.jpg"].rating == 4
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert cli.main(words) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "0 read now" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["copies", "links"])
def test_picks_go_into_a_new_folder(folder: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "picks"
    words = [f"--workdir={tmp_path / 'w'}", f"--write={how}", f"--out={out}"]
    assert cli.main(["launch.py", "cull", str(folder), *words]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"b{burst}_1.jpg" for burst in range(BURSTS)]
    for name in names:
        assert (out / name).read_bytes() == (folder / name).read_bytes()
        assert (out / name).is_symlink() == (how == "links")
    assert cli.main(["launch.py", "cull", str(folder), *words]) == 2  # it is not empty now


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--photos is missing"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["p", "--write=copies"], "--write=copies needs --out"),
        (["p", "--out=x"], "--out goes with --write"),
        (["p", "--reject"], "--reject goes with --write=xmp"),
        (["p", "--confidence=0.5"], "--confidence goes with --model"),
        (["p", "--workdir=p/w"], "--workdir=p/w: is inside the folder of photos"),
        (["p", "--write=copies", "--out=p/picks"], "--out=p/picks: is inside the folder"),
        (["p", "--model=nowhere"], "nowhere: not a model folder"),
        (["p", "--baseline=ridge"], "--baseline=ridge: it is fitted to preferences"),
        (["a", "b"], "unexpected word 'a'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in range(2):
        taken = exif(1, f"2026:06:01 10:00:0{place}", camera="A")
        Path("p").mkdir(exist_ok=True)
        Path(f"p/{place}.jpg").write_bytes(jpeg(scene(0, 192, 128), exif=taken))
    assert cli.main(["launch.py", "cull", *words]) == 2
    messages = capsys.readouterr().err
    assert message in messages
    assert messages.count("\n") == 1


def test_json_has_every_photo(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["launch.py", "cull", str(folder), f"--workdir={tmp_path / 'w'}", "--json"]
    assert cli.main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["photos"]) == BURSTS * SIZE + 1
    assert np.isfinite([p["score"] for p in document["photos"] if p["decision"]]).all()


def test_killed_anywhere_photos_and_sidecars_are_whole(folder: Path, tmp_path: Path) -> None:
    """Ten kills in `make test-long`, two else; then the same files as of a run that was not."""
    kills = 10 if os.environ.get("JAXRANK_KILLS") else 2
    twin = tmp_path / "twin" / "trip"
    shutil.copytree(folder, twin)
    photos = {path.name: path.read_bytes() for path in folder.iterdir()}

    def command(place: Path) -> list[str]:
        words = ["cull", str(place), f"--workdir={place.parent / 'w'}", "--write=xmp"]
        return [sys.executable, str(ROOT / "launch.py"), *words]

    begun = time.monotonic()
    subprocess.run(command(twin), check=True, capture_output=True)
    seconds = time.monotonic() - begun
    rng = random.Random(0)
    for _ in range(kills):
        process = subprocess.Popen(
            command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds * rng.uniform(0.3, 1.0))
        process.kill()
        process.communicate()
        for path in folder.iterdir():
            if path.suffix == ".xmp":
                assert sidecars.read_marks(path).rating == 5
            elif path.name in photos:
                assert path.read_bytes() == photos[path.name]
    subprocess.run(command(folder), check=True, capture_output=True)

    def ratings(place: Path) -> dict[str, int | None]:
        return {path.name: sidecars.read_marks(path).rating for path in place.glob("*.xmp")}

    assert ratings(folder) == ratings(twin)
    tables = [(place.parent / "w" / "cull.csv").read_text() for place in (folder, twin)]
    assert tables[0] == tables[1]


def test_a_folder_without_a_readable_photo_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"none")
    with pytest.raises(UserError, match=r"no photo can be used; a\.jpg: "):
        cull(tmp_path / "photos", tmp_path / "w")


@pytest.mark.parametrize(
    ("limit", "is_default", "line"),
    [
        (0.34, True, "limit of --confidence: 0.34; on held-out series, 80% of the picks above it "
         "were right"),
        (0.5, False, "limit of --confidence: 0.50"),
        (float("inf"), True, "no picks: on held-out series, no confidence limit gave 80% correct "
         "picks; give a limit with --confidence=0.5"),
    ],
)  # fmt: skip
def test_the_confidence_limit_is_explained(limit: float, is_default: bool, line: str) -> None:
    calibration = SimpleNamespace(beats_chance=True)
    model: Any = SimpleNamespace(card=SimpleNamespace(calibration=calibration))
    row = {"kind": "burst", "decision": "pick", "series": "a", "marked": False, "changed": ""}
    notes = api._notes(model, limit, pd.DataFrame([row]), is_default)
    assert notes == ["1 of 1 bursts have a pick", line]


def test_a_pick_with_a_changed_rating_is_the_baselines() -> None:
    rows = [
        {"kind": "burst", "decision": "pick", "series": text, "marked": False, "changed": text}
        for text in ("", "rating", "decision rating")
    ]
    bursts, line = api._notes("signed_sum", np.inf, pd.DataFrame(rows), True)
    assert bursts == "3 of 3 bursts have a pick, 1 of them a person's"
    assert line.startswith("2 picks by the baseline signed_sum")


def test_photos_without_a_burst_have_nothing_to_decide(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("b*"):
        path.unlink()
    found = cull(folder, tmp_path / "w")
    assert found.notes == ["there is no burst: nothing to decide"]
    assert found.table["decision"].isna().all()
