"""Whatever a user hands over: a result, or one line that says what is wrong, where, and what to do.

The table runs the command line as a user would; the fuzz tests hand every reader bytes that are
nearly right.
"""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from bad_bytes import nearly, told_or_done
from hypothesis import HealthCheck, given, settings
from small_data import make_data

import jaxrank
from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.io import atomic, seal
from jaxrank.planning.trials import Trial
from jaxrank.reporting import summary
from jaxrank.runner import trial_archive
from jaxrank.runner.manifest import PLAN_JSON, read_manifest


class Inputs(NamedTuple):
    """A good pair table, a good vote table, a good block, a good store, all in one folder."""

    folder: Path
    pairs: Path
    votes: Path
    block: Path
    store: Path
    workdir: Path


VOTES = "series_id,compareFile1,compareFile2,LEFT,RIGHT\n" + "".join(
    f"{s},{s}-1.JPG,{s}-2.JPG,5,1\n" for s in range(20)
)
BLOCK = "image,sharpness,contrast\n" + "".join(
    f"{s:06d}-{n:02d}.JPG,{s % 7},{s * n % 5}\n" for s in range(20) for n in (1, 2)
)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    table, store = make_data(20)
    made = Inputs(
        tmp_path,
        tmp_path / "pairs.csv",
        tmp_path / "votes.csv",
        tmp_path / "block.csv",
        tmp_path / "store",
        tmp_path / "w",
    )
    table.table.to_csv(made.pairs, index=False)
    made.votes.write_text(VOTES)
    made.block.write_text(BLOCK)
    for name, block in store.items():
        feature_store.write_block(made.store, name, block)
    return made


Change = Callable[[Inputs], object]


def swap(field: str, old: str, new: str, count: int = 1) -> Change:
    """Replaces text in one of the inputs."""

    def change(inputs: Inputs) -> None:
        path = getattr(inputs, field)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, count))

    return change


def content(field: str, data: bytes) -> Change:
    return lambda inputs: getattr(inputs, field).write_bytes(data)


def cut(field: str, share: float) -> Change:
    def change(inputs: Inputs) -> None:
        path = getattr(inputs, field)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return change


def cell(row: int, column: str, value: object) -> Change:
    """Sets a cell of the pair table."""

    def change(inputs: Inputs) -> None:
        frame = pd.read_csv(inputs.pairs, dtype=str)
        frame.loc[row, column] = value
        frame.to_csv(inputs.pairs, index=False)

    return change


def column(name: str, value: object) -> Change:
    def change(inputs: Inputs) -> None:
        frame = pd.read_csv(inputs.pairs, dtype=str)
        frame[name] = value
        frame.to_csv(inputs.pairs, index=False)

    return change


def manifest(edit: Callable[[dict[str, Any]], object]) -> Change:
    def change(inputs: Inputs) -> None:
        path = inputs.store / "manifest.json"
        value = json.loads(path.read_text())
        edit(value)
        path.write_text(json.dumps(value))

    return change


def array(edit: Callable[[Path], object]) -> Change:
    """Changes the array of the block iqa."""
    return lambda inputs: edit(next(inputs.store.glob("iqa-*.npy")))


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def damaged_plan(inputs: Inputs) -> None:
    inputs.workdir.mkdir()
    (inputs.workdir / PLAN_JSON).write_text("{}")


def nothing(inputs: Inputs) -> None:
    del inputs


PAIRS = "search --pairs={pairs} --features={store}"
VOTED = "search --pairs={votes} --features={store}"
ADDED = "features --from_csv={block} --block=iqa --features={store}"
FLAGS = PAIRS + " "

CASES: list[tuple[Change, str, str]] = [
    # The pair table.
    (lambda i: i.pairs.unlink(), PAIRS, "pairs.csv: can't be read (No such file"),
    (nothing, PAIRS.replace("{pairs}", "{store}"), "a folder given as pairs holds"),
    (content("pairs", b""), PAIRS, "pairs.csv: the file is empty"),
    (content("pairs", b"\n\r\n  \n"), PAIRS, "pairs.csv: the file is empty"),
    (content("pairs", b"series_id,image_a,image_b,preference\n"), PAIRS, "no rows below its"),
    (cut("pairs", 0.62), PAIRS, "cells, but the header has 4 columns"),
    (content("pairs", b'series_id,image_a,image_b,preference\n1,"a,b,0'), PAIRS, "not valid CSV"),
    (content("pairs", bytes(range(256))), PAIRS, "not UTF-8 text"),
    (content("pairs", b"PK\x03\x04\x00\x00\x00"), PAIRS, "not a text file (it holds zero bytes)"),
    (content("pairs", "series_id,image_a\n1,\u00e9\n".encode("latin-1")), PAIRS, "as UTF-8"),
    (content("pairs", "series_id,image_a\n1,a\n".encode("utf-16")), PAIRS, "not UTF-8 text"),
    (swap("pairs", "image_b", "image_c"), PAIRS, "column 'image_b' is missing"),
    (swap("pairs", "image_b", "imageb"), PAIRS, "Is 'imageb' meant?"),
    (swap("pairs", ",", ";", -1), PAIRS, "separated by ';' or tabs: save them with commas"),
    (swap("pairs", "image_b", "image_a"), PAIRS, "the column 'image_a' appears twice"),
    (cell(3, "preference", "much"), PAIRS, "line 5, column 'preference': 'much' is not a finite"),
    (cell(3, "preference", "nan"), PAIRS, "line 5, column 'preference': 'nan' is not a finite"),
    (cell(3, "preference", "-inf"), PAIRS, "'-inf' is not a finite number"),
    (cell(3, "preference", ""), PAIRS, "line 5, column 'preference'"),
    (cell(3, "preference", "1.01"), PAIRS, "line 5, column 'preference': 1.01 is not a share"),
    (cell(3, "preference", "-0.01"), PAIRS, "-0.01 is not a share between 0 and 1"),
    (cell(3, "series_id", " "), PAIRS, "line 5, column 'series_id': the cell is empty"),
    (cell(3, "image_a", ""), PAIRS, "line 5, column 'image_a': the cell is empty"),
    (column("image_b", "s0-0.jpg"), PAIRS, "'s0-0.jpg' is compared with itself"),
    (cell(0, "series_id", "77"), PAIRS, "is in series"),
    (column("series_id", "1"), PAIRS, "only 1 series: an 80/10/10 split needs 10; no number of"),
    (column("preference", "0.5"), PAIRS, "every preference is exactly 0.5"),
    (swap("pairs", ".jpg", ".png", -1), PAIRS, "no pair has both photos in the features"),
    (nothing, PAIRS + " --folds=21", "only 20 series: --folds=21 needs 21; --folds=10 works"),
    (nothing, PAIRS + " --folds=1", "--folds=1: give at least 3"),
    # The vote table.
    (swap("votes", "RIGHT", "RIGTH"), VOTED, "column 'RIGHT' is missing; known tables are"),
    (nothing, PAIRS + " --series={pairs}", "--series is for tables without series_id"),
    (nothing, PAIRS + " --series=", "--series is empty"),
    (nothing, VOTED + " --series={pairs}", "--series is for tables without series, but"),
    (nothing, "search --series={pairs}", "but the embedded data holds series"),
    (content("pairs", b"image,rating\na,1\n"), PAIRS, "or give --series=FILE with series_id,image"),
    (swap("votes", "5,1", "5,-1"), VOTED, "line 2, column 'RIGHT': -1 is not a number of votes"),
    (swap("votes", "5,1", "5,1.5"), VOTED, "1.5 is not a number of votes"),
    (swap("votes", "5,1", "5,x"), VOTED, "line 2, column 'RIGHT': 'x' is not a finite number"),
    (swap("votes", "0-1.JPG", "7-1.JPG"), VOTED, "photo '7-1.JPG' is not of series 0"),
    (swap("votes", "0-1.JPG", "../../x"), VOTED, "is not SERIES-NUMBER.JPG"),
    (nothing, VOTED + " --min_reviewers=7", "no pair has at least 7 votes"),
    (nothing, VOTED + " --min_agreement=1.5", "--min_agreement=1.5 is not a share"),
    (nothing, VOTED + " --min_agreement=nan", "--min_agreement=nan is not a share"),
    (nothing, VOTED + " --photo_name={{series}}", "the pattern must name"),
    (nothing, VOTED + " --photo_name={{series.__class__}}-{{number}}", "the pattern must name"),
    (nothing, PAIRS + " --min_reviewers=2", "--min_reviewers is for vote tables"),
    # A block as CSV.
    (lambda i: i.block.unlink(), ADDED, "block.csv: can't be read"),
    (content("block", b"image\na\n"), ADDED, "one column only"),
    (swap("block", "contrast", ""), ADDED, "column 3 has no name"),
    (swap("block", "contrast", "sharpness"), ADDED, "the column 'sharpness' appears twice"),
    (swap("block", "000001-01", "000000-01"), ADDED, "photo '000000-01.JPG' appears twice"),
    (swap("block", ",1,1\n", ",1,blurry\n"), ADDED, "'blurry' is not a finite number"),
    (swap("block", ",1,1\n", ",1,NaN\n"), ADDED, "('000001-01.JPG'): 'NaN' is not a finite"),
    (swap("block", ",1,1\n", ",1,1e999\n"), ADDED, "'1e999' is not a finite number"),
    (swap("block", ",1,1\n", ",1,1e39\n"), ADDED, "not a finite 32-bit number"),
    (swap("block", ",1,1\n", ",1\n"), ADDED, "2 cells, but the header has 3 columns"),
    (nothing, ADDED.replace("=iqa", "=../iqa"), "a block's name is lower-case letters"),
    (nothing, ADDED.replace("=iqa", "=all"), "and not 'all'"),
    (nothing, ADDED.replace("{store}", "{pairs}"), "can't be written"),
    # The feature store.
    (lambda i: shutil.rmtree(i.store), PAIRS, "store: not a feature store"),
    (lambda i: (i.store / "manifest.json").unlink(), PAIRS, "not a feature store (no manifest"),
    (lambda i: (i.store / "manifest.json").write_text("{"), PAIRS, "not a manifest of"),
    (lambda i: (i.store / "manifest.json").write_bytes(b"\xff"), PAIRS, "not a manifest of this"),
    (manifest(lambda m: m.update(format=3)), PAIRS, "not a manifest of this version"),
    (manifest(lambda m: m.update(blocks={})), PAIRS, "not a manifest of this version"),
    (manifest(lambda m: m["blocks"]["iqa"].pop("sha256")), PAIRS, "of block 'iqa' is damaged"),
    (manifest(lambda m: m["blocks"]["iqa"].update(sha256="../../../etc/passwd")), PAIRS, "damaged"),
    (manifest(lambda m: m["blocks"]["iqa"].update(dtype="object")), PAIRS, "is damaged"),
    (manifest(lambda m: m["blocks"].update({"../x": m["blocks"]["iqa"]})), PAIRS, "is damaged"),
    (manifest(lambda m: m["blocks"]["iqa"]["shards"].pop()), PAIRS, "of block 'iqa' is damaged"),
    (manifest(lambda m: m["blocks"]["iqa"]["columns"].reverse()), PAIRS, "'iqa' is damaged"),
    (array(lambda path: path.unlink()), PAIRS, "make the block 'iqa' again"),
    (array(lambda path: path.write_bytes(b"")), PAIRS, "make the block 'iqa' again"),
    (array(lambda path: path.write_bytes(path.read_bytes()[:-9])), PAIRS, "make the block 'iqa'"),
    (array(lambda path: np.save(path, np.zeros((3, 4), "f"))), PAIRS, "float32 [3, 4], but the"),
    (array(pickled), PAIRS, "make the block 'iqa' again"),
    (array(flipped), PAIRS, "the content is not what the manifest recorded"),
    # Flags, experiments and hyperparameters.
    (nothing, FLAGS + "--experiments=tiny_mpl", "Did you mean 'tiny_mlp'?"),
    (nothing, FLAGS + "--mode=everything", "--mode=everything: unknown mode"),
    (nothing, FLAGS + "--fold=3", "unknown flag '--fold'. Did you mean 'folds'?"),
    (nothing, FLAGS + "--num_seeds=many", "--num_seeds=many: not a whole number"),
    (nothing, FLAGS + "--only_folds=0,x", "--only_folds=0,x: not whole numbers"),
    (nothing, FLAGS + "--only_folds=11", "--only_folds: there is no fold 11"),
    (nothing, FLAGS + "--save_budget=1.5", "--save_budget=1.5 is not a share"),
    (nothing, FLAGS + "--save_budget=nan", "--save_budget=nan is not a share"),
    (nothing, FLAGS + "--config.droput=0.1", "Did you mean 'dropout'?"),
    (nothing, FLAGS + "--config.learning_rate=-1", "learning_rate=-1.0: must be a finite number"),
    (nothing, FLAGS + "--config.learning_rate=0", "learning_rate=0.0: must be above 0"),
    (nothing, FLAGS + "--config.learning_rate=nan", "learning_rate=nan: must be a finite"),
    (nothing, FLAGS + "--config.learning_rate=inf", "learning_rate=inf: must be a finite"),
    (nothing, FLAGS + "--config.dropout=1", "dropout=1.0: must be below 1"),
    (nothing, FLAGS + "--config.dropout=nan", "dropout=nan: must be a finite number"),
    (nothing, FLAGS + "--config.weight_decay=-0.1", "weight_decay=-0.1: must be a finite number"),
    (nothing, FLAGS + "--config.margin=nan", "margin=nan: must be a finite number"),
    (nothing, FLAGS + "--config.batch_size=-4", "batch_size=-4: must be a whole number from 1 up"),
    (nothing, FLAGS + "--config.max_epochs=0", "max_epochs=0: must be a whole number from 1 up"),
    (nothing, FLAGS + "--config.patience=99999999999", "patience=99999999999: must be a whole"),
    (nothing, FLAGS + "--config.mlp_hidden_dims=0", "mlp_hidden_dims=0: must be whole numbers"),
    (nothing, FLAGS + "--config.mlp_hidden_dims=8,-8", "must be whole numbers from 1 up"),
    (nothing, FLAGS + "--config.mlp_hidden_dims=999999999,999", "GiB may be used"),
    (nothing, FLAGS + "--config.loss=hinge", "loss=hinge: unknown"),
    (nothing, FLAGS + "--config.sampler=fair", "sampler=fair: unknown"),
    (nothing, FLAGS + "--config.blocks=", "name at least one block"),
    (nothing, FLAGS + "--config.blocks=ears", "nothing is left to train"),
    # The folder of the results.
    (content("workdir", b"x"), PAIRS, "can't be used (Not a directory)"),
    (content("workdir", b"x"), PAIRS + "/below --workdir={workdir}/w", "can't be used (Not a"),
    (nothing, PAIRS + " --workdir=/proc/jaxrank", "/proc/jaxrank: can't be written"),
    (nothing, PAIRS + " --workdir={folder}", "the folder is not empty; name a new one"),
    (nothing, PAIRS + " --resume --workdir={folder}", "the folder is not empty"),
    (nothing, PAIRS + " --workdir=gs://bucket/w", "a remote folder; name a local one"),
    (nothing, PAIRS + " --config.notes=\udcff", "is not UTF-8 text"),
    (nothing, PAIRS + " --num_seeds=100000000", "trials are more than one search may have"),
    (nothing, PAIRS + " --resume=maybe", "--resume=maybe: give true or false"),
    (nothing, PAIRS + " --workdir=", "not a usable name for a folder"),
    (nothing, PAIRS + " --extend", "there is no search to resume"),
    (nothing, "search --retry_failed --workdir={workdir}", "there is no search to resume"),
    (nothing, PAIRS + " --resume --workdir={workdir}/" + 300 * "x", "File name too long"),
    (damaged_plan, PAIRS + " --resume", "plan.json: damaged, changed by hand"),
    (damaged_plan, PAIRS, "a search has been begun there"),
]  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file but the lock, which says nothing."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name != atomic.LOCK]
    return {str(path): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("change", "words", "message"), CASES, ids=[f"{i}: {case[2]}" for i, case in enumerate(CASES)]
)
def test_a_mistake_is_one_line_status_2_and_changes_no_file(
    inputs: Inputs,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    words: str,
    message: str,
) -> None:
    change(inputs)
    before = files_of(inputs.folder)
    typed = words.format(**inputs._asdict()).split()
    if typed[0] == "search" and "--workdir" not in words:
        typed.append(f"--workdir={inputs.workdir}")
    assert main(["launch.py", *typed]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("jaxrank: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert "Traceback" not in said.err + said.out
    assert files_of(inputs.folder) == before


def test_what_a_user_would_expect_to_work_does_and_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mark and CRLF, further columns, unknown photos, a column that never varies, a batch size
    above the number of pairs, names that are formulas, blanks and letters of other alphabets."""
    folder = tmp_path / "\u0444\u043e\u0442\u043e \u5199\u771f, 2026"
    folder.mkdir()
    table, store = make_data(30)
    strange = {
        "s0-0.jpg": "=1+1.jpg",
        "s0-1.jpg": '@a "b",\nc.jpg',
        "s1-0.jpg": "\u00e9 \u00fc.jpg",
    }
    frame = table.table.replace({"image_a": strange, "image_b": strange})
    frame.loc[len(frame)] = ["2", "unknown.jpg", "s2-0.jpg", 0.25]
    frame["note"] = "+1"
    text = frame.to_csv(index=False, lineterminator="\r\n")
    (folder / "pairs.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    for name, block in store.items():
        values = np.array(block.values)
        if name == "iqa":
            values[:, 1] = 0.25
        photos = [strange.get(photo, photo) for photo in block.photos]
        feature_store.write_block(
            folder / "store", name, block._replace(photos=photos, values=values)
        )
    notes = "=cmd|'calc'!A0, \"x\"\ny"
    config = folder / "config.py"
    config.write_text(
        "from jaxrank.configs import default\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        f"    config.experiments.iqa_only.notes = {notes!r}\n"
        "    return config\n"
    )
    words = [f"--pairs={folder / 'pairs.csv'}", f"--features={folder / 'store'}"]
    words += [f"--config={config}", "--experiments=iqa_only", "--config.batch_size=1000000"]
    words += ["--config.max_epochs=2", f"--workdir={folder / 'w'}"]
    assert main(["launch.py", "search", *words]) == 0
    out = capsys.readouterr().out
    assert "photos in the pairs have no row in block 'clip'" in out
    assert "1 of " in out
    assert "pairs left out: a photo without features" in out
    assert "columns never vary and are ignored, the first is 'exposure' of block 'iqa'" in out
    assert "of 1 step of up to" in out
    for path in (folder / "w").rglob("*.csv"):
        with open(path, encoding="utf-8", newline="") as file:
            cells = [text for row in csv.reader(file) for text in row]
            assert not [text for text in cells if text.startswith(("=", "@", "+"))]
    predicted = pd.read_csv(folder / "w" / "iqa_only" / "predictions.csv")
    compared = set(predicted["image_a"]) | set(predicted["image_b"])
    named = {"'=1+1.jpg", '\'@a "b",\nc.jpg', "\u00e9 \u00fc.jpg", *store["iqa"].photos}
    assert compared <= named
    model = jaxrank.load_model(folder / "w" / "iqa_only" / "model")
    assert len(model.score(folder / "store")) == len(store["iqa"].photos)


some = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    ("good", "read"),
    [
        (
            b"series_id,image_a,image_b,preference,note\n" + b"1,a,b,0.5,x\n" * 3,
            jaxrank.read_preferences,
        ),
        (VOTES[:200].encode(), jaxrank.read_preferences),
        (BLOCK[:200].encode(), jaxrank.read_block_csv),
    ],
    ids=["pairs", "votes", "block"],
)
def test_fuzz_of_tables(tmp_path: Path, good: bytes, read: Callable[[Path], object]) -> None:
    path = tmp_path / "t.csv"

    @some
    @given(data=nearly(good))
    def fuzz(data: bytes) -> None:
        path.write_bytes(data)
        told_or_done(lambda: read(path))

    fuzz()


GOOD = feature_store.Block(["a", "b"], ["x", "y"], np.array([[1, 2], [3, 4]], np.float32))


@pytest.mark.parametrize("name", ["manifest.json", "iqa-*.npy"])
def test_fuzz_of_feature_stores(tmp_path: Path, name: str) -> None:
    feature_store.write_block(tmp_path, "iqa", GOOD)
    (path,) = tmp_path.glob(name)
    good = path.read_bytes()

    @some
    @given(data=nearly(good))
    def fuzz(data: bytes) -> None:
        path.write_bytes(data)
        told_or_done(lambda: jaxrank.open_feature_store(tmp_path))

    fuzz()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table, store = make_data(20)
    workdir = tmp_path_factory.mktemp("search") / "w"
    options: dict[str, Any] = {"experiments": ["iqa_only"], "overrides": {"max_epochs": 1}}
    return jaxrank.search(table, {"iqa": store["iqa"]}, workdir=workdir, **options).workdir


def read_archive(workdir: Path) -> object:
    record = read_manifest(workdir)
    assert record is not None
    experiments = {}
    for saved in record.experiments:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in saved.items()
        }
        experiments[saved["name"]] = Experiment(**values)
    (first,) = [cohort for cohort in record.cohorts if cohort.number == 1]
    trials = {1: [Trial(experiments[name], fold, seed) for name, fold, seed in first.trials]}
    found, notes = trial_archive.read_results(workdir, trials, record.data_and_splits)
    assert found or notes
    return found


def test_the_archive_that_is_fuzzed_is_that_of_its_trial(searched: Path) -> None:
    assert read_archive(searched)


def load_resealed(model: Path) -> jaxrank.Model:
    """Loads a model whose checksums fit its files, so that their readers are reached."""
    seal.write_seal(model, seal.checksums(model))
    return jaxrank.load_model(model)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("plan.json", read_manifest),
        ("results.json", lambda workdir: summary.read_results_json(workdir / "results.json")),
        ("iqa_only/model/checksums.json", lambda w: jaxrank.load_model(w / "iqa_only" / "model")),
        ("iqa_only/model/model.json", lambda w: load_resealed(w / "iqa_only" / "model")),
        ("checkpoints/1.npz", read_archive),
    ],
)
def test_fuzz_of_what_a_search_left(
    searched: Path, name: str, read: Callable[[Path], object]
) -> None:
    path = searched / name
    good = path.read_bytes()

    @settings(some, max_examples=60)
    @given(data=nearly(good))
    def fuzz(data: bytes) -> None:
        path.write_bytes(data)
        told_or_done(lambda: read(searched))

    try:
        fuzz()
    finally:
        path.write_bytes(good)
