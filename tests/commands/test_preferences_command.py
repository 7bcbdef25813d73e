"""`preferences`: from stars, sheets and other tools' comparisons to pairs that `search` reads."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from photo_files import exif, scene
from xmp_files import packet

from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import read_preferences


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve series of three photos in sub-folders: 4 stars, a pick, and nothing."""
    folder = tmp_path / "photos"
    for number in range(12):
        series = folder / f"s{number}"
        series.mkdir(parents=True)
        for name in "abc":
            (series / f"{name}.jpg").write_bytes(b"\xff\xd8 no pixels are looked at")
        (series / "a.xmp").write_bytes(packet('xmp:Rating="4" xmp:Label="Red"'))
        (series / "b.jpg.xmp").write_bytes(packet('xmpDM:pick="1"'))
    return folder


def run(*words: str) -> int:
    return main(["launch.py", "preferences", *words])


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("jaxrank: ")
    assert err.count("\n") == 1
    return err


def test_stars_become_pairs_that_search_reads(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs.csv"
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    assert run(f"--from_ratings={photos}", "--series=folder", f"--out={out}") == 0
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    text = capsys.readouterr().out
    assert "ratings (xmp:Rating): 24 pairs in 12 series" in text
    assert "flags (xmpDM:pick): 24 pairs in 12 series" in text
    assert "12 pairs in both, 0 (0%) with the same winner" in text
    assert "12 pairs left out: the sources prefer different photos" in text
    table = read_preferences(out).table
    assert len(table) == 24
    assert list(table.columns) == ["series_id", "image_a", "image_b", "preference"]
    losers = np.where(table["preference"] == 1, table["image_b"], table["image_a"])
    assert {name[-5:] for name in losers} == {"c.jpg"}

    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    values = np.random.default_rng(0).standard_normal((len(names), 2)).astype(np.float32)
    store = tmp_path / "store"
    feature_store.write_block(store, "iqa", Block(names, ["sharpness", "contrast"], values))
    words = [f"--pairs={out}", f"--features={store}", "--dry_run", "--experiments=iqa_only"]
    assert main(["launch.py", "search", *words]) == 0
    assert "24 pairs" in capsys.readouterr().out


def test_without_series_bursts_are_grouped_as_in_cull(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for burst in range(3):
        for shot in range(3):
            photo = folder / f"IMG_{burst}{shot}.jpg"
            taken = exif(taken=f"2026:06:01 10:{burst:02d}:0{shot}", camera="made")
            scene(burst).rotate(0.5 * shot).save(photo, exif=taken)
            photo.with_suffix(".xmp").write_bytes(packet(f'xmp:Rating="{5 - shot}"'))
    out = tmp_path / "pairs.csv"
    assert run(f"--from_ratings={folder}", f"--out={out}") == 0
    assert "ratings (xmp:Rating): 9 pairs in 3 series" in capsys.readouterr().out
    assert set(read_preferences(out).table["series_id"]) == {f"IMG_{b}0.jpg" for b in range(3)}


def test_series_come_from_a_store_or_a_table(photos: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "pairs.csv", tmp_path / "store"
    store.mkdir()
    rows = "series_id,image\n7,s0/a.jpg\n7,s1/c.jpg\n8,s2/a.jpg\n8,s2/b.jpg\n"
    (store / "series.csv").write_text(rows)
    assert run(f"--from_ratings={photos}", f"--features={store}", f"--out={out}") == 0
    assert set(read_preferences(out).table["series_id"]) == {"7"}  # in 8 two sources contradict
    again = tmp_path / "again.csv"
    words = (f"--from_ratings={photos}", f"--series={store / 'series.csv'}", f"--out={again}")
    assert run(*words) == 0
    assert again.read_bytes() == out.read_bytes()


def test_a_contact_sheet_alone_and_beside_marks(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, out = tmp_path / "cull.csv", tmp_path / "pairs.csv"
    sheet.write_text(
        "path,series,decision,rating\n"
        "s0/a.jpg,s0,reject,\ns0/b.jpg,s0,pick,5\ns0/c.jpg,s0,undecided,\n"
    )
    assert run(f"--changes={sheet}", f"--out={out}") == 0
    assert "contact sheet: 3 pairs in 1 series" in capsys.readouterr().out
    assert len(read_preferences(out).table) == 3
    words = (f"--from_ratings={photos}", "--series=folder", f"--changes={sheet}", f"--out={out}")
    assert run(*words) == 0
    text = capsys.readouterr().out
    assert "11 pairs left out" in text
    table = read_preferences(out).table
    assert len(table) == 25
    first = table[table["series_id"] == "s0"]
    winners = np.where(first["preference"] == 1, first["image_a"], first["image_b"])
    assert sorted(winners) == ["s0/b.jpg", "s0/b.jpg", "s0/c.jpg"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("s0/a.jpg,s0,pick,5,\ns0/b.jpg,s0,reject,,\n", "the table has no change of a person"),
        (
            "s0/a.jpg,s0,,5,rating\ns0/b.jpg,s0,,1,\n",
            "the changed photos, such as 's0/a.jpg', have",
        ),
        ("s0/a.jpg,s0,,5,rating\ns1/b.jpg,s1,pick,,\n", "the changed photos, such as 's0/a.jpg',"),
    ],
)
def test_the_reason_why_a_contact_sheet_makes_no_pair_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, reason: str
) -> None:
    sheet, out = tmp_path / "cull.csv", f"--out={tmp_path / 'pairs.csv'}"
    sheet.write_text(f"path,series,decision,rating,changed\n{rows}")
    assert f"{sheet}: {reason}" in said(capsys, f"--changes={sheet}", out)
    words = [f"--from_ratings={photos}", f"--changes={sheet}", out]
    assert f"{sheet}: {reason}" in said(capsys, *words)
    assert run(*words, "--series=folder") == 0
    assert reason in " ".join(capsys.readouterr().out.split())


def test_comparisons_of_other_tools_become_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    winners, hpd, studio = (tmp_path / name for name in ("w.csv", "hpd.json", "studio.json"))
    picks, series, out = (tmp_path / name for name in ("p.parquet", "series.csv", "pairs.csv"))
    winners.write_text("winner,loser\na,b\nb,c\na,b\n")
    entry = {"prompt": "x", "image_path": ["a", "b"], "human_preference": [1, 0]}
    hpd.write_text(json.dumps([entry]))
    result = {"type": "pairwise", "to_name": "i1,i2", "value": {"selected": "right"}}
    task = {"data": {"i1": "b", "i2": "a"}, "annotations": [{"result": [result]}]}
    studio.write_text(json.dumps([task]))
    made = {"caption": "x", "image_0_uid": "a", "image_1_uid": "b", "label_0": 1, "label_1": 0}
    pyarrow.parquet.write_table(pa.Table.from_pandas(pd.DataFrame([made])), picks)
    series.write_text("series_id,image\n9,a\n9,b\n9,c\n")
    for flag, path in {
        "from_winners": winners,
        "from_hpd": hpd,
        "from_label_studio": studio,
        "from_pick_a_pic": picks,
    }.items():
        for words in ([], [f"--series={series}"]):
            assert run(f"--{flag}={path}", f"--out={out}", *words) == 0, flag
            table = read_preferences(out).table
            assert (table["series_id"].iloc[0] == "9") == bool(words)
            first = table[table["image_a"].isin(["a", "b"]) & table["image_b"].isin(["a", "b"])]
            better = np.where(first["preference"] == 1, first["image_a"], first["image_b"])
            assert list(better) == ["a"], flag
        assert f"Preferences: {out}, {len(table)} pair" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give one of --from_ratings, --changes, --from_winners"),
        ("--from_hpd=x --from_winners=y", "not --from_winners and --from_hpd"),
        ("--from_hpd=x --from_ratings=y", "not --from_ratings and --from_hpd"),
        ("--from_ratings=x", "--out is missing"),
        ("--from_ratings= --out=p.csv", "--from_ratings is empty"),
        ("--from_ratings=x --out=p.jpg", "--out=p.jpg: the pairs are written as CSV"),
        ("--from_ratings=x --out=p.csv", "x: there is no such folder"),
        ("--from_ratings=x --out=p.csv --series=folders", "Did you mean 'folder'?"),
        ("--from_ratings=. --out=p.csv --series=x", "neither the file of a table, nor folder.\n"),
        ("--from_ratings=x --out=p.csv --series=folder", "x: there is no such folder"),
        ("--from_ratings=x --out=p.csv --features=s", "s/series.csv: there is none"),
        ("--from_winners=p.csv --out=p.csv", "--from_winners reads that file"),
        ("--changes=x.csv --series=./p.csv --out=p.csv", "--series reads that file"),
        ("--changes=x.csv --series=folder --out=p.csv", "needs the photos: --from_ratings"),
        ("--changes=x.csv --out=p.csv", "x.csv: can't be read"),
        ("--from_winners=x.csv --out=p.csv", "x.csv: can't be read"),
    ],
)
def test_mistakes_are_one_line(
    words: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in said(capsys, *words.split())
    assert not list(tmp_path.iterdir())


def test_without_lxml_the_command_says_what_to_install(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    words = (f"--from_ratings={photos}", "--series=folder", f"--out={tmp_path / 'p.csv'}")
    assert "pip install 'jaxrank[photos]'" in said(capsys, *words)
