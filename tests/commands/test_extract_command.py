"""The command `extract`, and what others say of the blocks it makes."""

import json
from pathlib import Path

import pytest
from photo_files import encoded, scene
from photo_stores import SMALL, fill

from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.extraction.photos import list_folder
from jaxrank.extraction.pipeline import extract
from jaxrank.extraction.series_table import Grouping


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path / "photos" / "s", 3)
    (folder / "bad.jpg").write_bytes(b"")
    words = [
        f"--photos={tmp_path / 'photos'}", f"--features={tmp_path / 'store'}",
        "--blocks=iqa,cnn", "--cnn_model=test_resnet", "--cnn_weights=none", "--series=folder",
    ]  # fmt: skip
    assert main(["launch.py", "extract", *words]) == 0
    out = capsys.readouterr().out
    assert "4 photos in" in out
    assert "block 'cnn': 3 new photos, 0 known; test_resnet, random weights" in out
    assert "1 photos can't be used:\n  s/bad.jpg: the file is empty" in out
    assert "1 series of at least two photos" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give one of --photos and --photos_csv"),
        ("--photos=a --photos_csv=b", "give one of --photos and --photos_csv"),
        ("--photos=none", "--features is missing"),
        ("--photos=none --features=s", "--photos=none: there is no such folder"),
        ("--photos= --features=s", "--photos is empty"),
        ("--photos=a --features=s --blocks=iqa,clop", "'clop' unknown. Did you mean 'clip'?"),
        (
            "--photos=a --features=s --blocks=iqa --clip_model=x",
            "--clip_model needs the block 'clip'",
        ),
        ("--photos=a --features=s --gap_seconds=3", "--gap_seconds goes with --series=time"),
        ("--photos=a --features=s --series=time --gap_seconds=0", "must be above 0"),
        ("--photos=a --features=s --series=time --min_similarity=2", "must be between -1 and 1"),
        ("--photos=a --features=s --iqa=clasic", "value should be one of"),
        ("--photos=a --features=s --workers=0", "workers"),
        ("--photos_csv=none.csv --features=s", "none.csv: can't be read"),
    ],
)
def test_mistakes_of_the_command(
    words: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["launch.py", "extract", *words.split()]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert captured.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_random_weights_stand_wherever_results_appear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    lines = ["series_id,image_a,image_b,preference"]
    for s in range(24):
        for i in range(2):
            (photos / str(s)).mkdir(parents=True, exist_ok=True)
            (photos / str(s) / f"{i}.png").write_bytes(encoded(scene(10 * s + i, 24, 16), "PNG"))
        lines.append(f"{s},{s}/0.png,{s}/1.png,{0.8 if s % 2 else 0.3}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    store = tmp_path / "store"
    extract(list_folder(photos), store, SMALL, grouping=Grouping("folder"))
    work = tmp_path / "work"
    words = [f"--pairs={tmp_path / 'pairs.csv'}", f"--features={store}", f"--workdir={work}"]
    assert (
        main(["launch.py", "search", "--experiments=tiny_mlp", "--config.max_epochs=1", *words])
        == 0
    )
    assert "block cnn: random weights" in capsys.readouterr().out
    assert "block cnn: random weights" in (work / "summary.csv").read_text()
    model = work / "tiny_mlp" / "model"
    ranked = [f"--model={model}", f"--features={store}", f"--workdir={tmp_path / 'r'}"]
    assert main(["launch.py", "rank", *ranked]) == 0
    said = capsys.readouterr().out
    assert "block cnn: random weights" in said
    assert f"series from {store / 'series.csv'}" in said
    assert "48 photos, 24 series" in said
    manifest = json.loads((store / feature_store.MANIFEST).read_text())
    assert manifest["blocks"]["cnn"]["caveat"] == "random weights"
    audited = [f"--pairs={tmp_path / 'pairs.csv'}", f"--features={store}"]
    main(["launch.py", "audit", *audited, f"--workdir={tmp_path / 'a'}"])
    assert "block cnn: random weights" in capsys.readouterr().out
    # Features that another layer made have the same columns' names; the model knows better.
    other = SMALL._replace(values={**SMALL.values, "iqa": "classic"})
    extract(list_folder(photos), tmp_path / "other", other)
    ranked[1] = f"--features={tmp_path / 'other'}"
    assert main(["launch.py", "rank", *ranked[:2], f"--workdir={tmp_path / 'o'}"]) == 2
    assert "block 'iqa' (image-quality numbers (classic)" in capsys.readouterr().err
