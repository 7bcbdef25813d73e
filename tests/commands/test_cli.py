"""The command line: what a user types, what it answers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_data import ROOT

import jaxrank
from jaxrank.cli import main
from jaxrank.data import feature_store

LAUNCH = ROOT / "launch.py"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a user's mistake."""
    assert main(["launch.py", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jaxrank: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_help_exits_0_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from jaxrank.cli import main; status = main(['launch.py', *sys.argv[1:]]);"
        "heavy = {'jax', 'pandas', 'flax', 'matplotlib', 'orbax', 'pyarrow', 'safetensors'};"
        "heavy &= set(sys.modules);"
        "sys.exit(status or repr(heavy) if heavy else status)"
    )
    for words in (["--help"], ["search", "--help"], ["features", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "--flag=value" in done.stdout


def test_the_console_command_and_launch_py_are_one_program() -> None:
    console = Path(sys.executable).with_name("jaxrank")
    answers = [
        subprocess.run([*command, "serch"], capture_output=True, text=True, check=False)
        for command in ([sys.executable, str(LAUNCH)], [str(console)])
    ]
    assert {answer.returncode for answer in answers} == {2}
    assert {answer.stderr for answer in answers} == {
        "jaxrank: unknown command 'serch'. Did you mean 'search'?\n"
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("serach", "unknown command 'serach'. Did you mean 'search'?"),
        ("search left", "unexpected word 'left'"),
        ("search quick", "did you mean --mode=quick?"),
        ("search --dry_run false", "unexpected word 'false'"),
        ("search --moed=quick", "unknown flag '--moed'. Did you mean 'mode'?"),
        ("search --mode=qick", "unknown mode. Did you mean 'quick'?"),
        ("search --mode=full --experiments=tiny_mlp", "give one of them"),
        ("search --experiments=tiny_mpl", "Did you mean 'tiny_mlp'?"),
        ("search --experiments=", "--experiments is empty"),
        ("search --experiments=linear", "the reference 'linear' always runs"),
        ("search --config.modes.quick=x", "name experiments with --experiments"),
        ("search --config.experiments.baseline.dropout=0", "not among the experiments to run"),
        ("search --config.experiments.linear.dropout=0", "write --config.linear.dropout"),
        ("search --folds=2", "at least 3"),
        ("search --folds=-1", "--folds=-1"),
        ("search --folds=x", "--folds=x: not a whole number"),
        ("search --num_seeds=0", "--num_seeds=0"),
        ("search --seed=-1", "--seed=-1"),
        ("search --nodry_run=3", "dry_run"),
        ("search --pairs=p.csv", "--pairs is given without --features"),
        ("search --features=s", "--features is given without --pairs"),
        ("search --pairs=p.csv --features=nowhere", "nowhere: not a feature store"),
        ("search --min_agreement=0.9", "--min_agreement is for vote tables"),
        ("search --config.lerning_rate=1", "Did you mean 'learning_rate'?"),
        ("search --config.learning_rate=x", "--config.learning_rate=x: not a number"),
        ("search --config.learning_rate", "--config.learning_rate"),
        ("search --config.learning_rate=1e-3,3e-3", "learning_rate=1e-3,3e-3: an experiment has"),
        ("search --config.batch_size 64,128", "batch_size=64,128: an experiment has one value"),
        ("search --config.loss=logistic,davidson", "an experiment of each: a row of search --exp"),
        ("search --config.experiments.low_lr.dropout=0,0.1", "low_lr.dropout=0,0.1: an experim"),
        ("train --learning_rate=1e-3,3e-3", "--learning_rate=1e-3,3e-3: an experiment has one"),
        ("train --config.margin=0.5,1", "--config.margin=0.5,1: an experiment has one value"),
        ("search --config.experiments.tiny.mlp.dropout=0", "Did you mean 'tiny_mlp'?"),
        ("search --config=", "--config=: there is no such file"),
        ("search --config.batch_size=1.5", "--config.batch_size=1.5"),
        ("search --config.batch_size=0", "batch_size=0: must be a whole number"),
        ("search --config.experiments=3", "set a key below it"),
        ("search --config.experiments.tiny.dropout=0", "Did you mean 'tiny_mlp'?"),
        ("search --config.mlp_hidden_dims=99999999", "GiB may be used"),
        ("search --config.blocks=foo", "nothing is left to train"),
        ("search --config=no_file.py", "there is no such file"),
        ("search --workdir=", "not a usable name"),
        ("features --block=iqa --features=s", "give one of --from_csv, --from_parquet, --from"),
        ("features --from_csv=a --from_npy=b", "not --from_csv and --from_npy"),
        ("features --from_csv=a --block=iqa", "--features is missing: --from_csv needs --block"),
        ("features --from_safetensors=a --features=s", "--block is missing"),
        ("features --from_npy=a --block=iqa --features=s", "--names is missing: --from_npy needs"),
        ("features --from_csv=a --block=b --features=s --names=n", "--names does not go with --f"),
        ("features --from_csv=a --block=b --features=s --columns=n", "--columns does not go with"),
        ("features --from_npy=a --block=b --features=s --names=n --tensor=t", "--tensor does not"),
        ("features --from_safetensors=no.st --block=b --features=s --tensor=t", "no.st: can't be"),
        ("features --from_npy=a --block=b --features=s --names=n --columns=", "--columns is empty"),
        ("features --from_npz=a --block=b --features=s", "--block does not go with --from_npz"),
        ("features --from_npz=no.npz --features=s", "no.npz: can't be read (no such file)"),
        ("features --from_parquet=a --features=s", "--block is missing: --from_parquet needs"),
        ("features --from_parquet=a --block=b --features=s --names=n", "--names does not go with"),
        ("features --from_npy= --block=b --features=s --names=n", "--from_npy is empty"),
        ("features --from_csv=a --block=b --features=s --dtype=float64", "--dtype=float64"),
        ("features --from_npy=no.npy --block=b --features=s --names=n", "no.npy: can't be read"),
        ("features --from_csv=no.csv --block=iqa --features=s", "no.csv: can't be read"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert message in said(capsys, *words.split())


def test_no_command_shows_the_usage_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch.py"]) == 2
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("config.my_key = 3", "unknown key 'my_key'"),
        ("del config['patience']", "the key 'patience' is missing"),
        ("config.experiments = {'x': 3}", "one dict an experiment"),
        ("config.modes = {'quick': ()}", "one tuple of experiment names"),
        ("config = None", "not a ConfigDict"),
        ("config.experiments.high_lr.dropuot = 3", "Did you mean 'dropout'?"),
        ("1 / 0", "get_config() failed: ZeroDivisionError"),
        ("raise SystemExit(7)", "get_config() failed: SystemExit"),
        ("import no_such_module", "ModuleNotFoundError"),
    ],
)
def test_a_mistake_in_a_config_file_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from jaxrank.configs import default\n"
        f"def get_config():\n    config = default.get_config()\n    {change}\n    return config\n"
    )
    assert message in said(capsys, "search", f"--config={path}")


def test_a_config_file_without_its_function_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    assert "defines no get_config()" in said(capsys, "search", f"--config={path}")


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_files: tuple[Path, Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    before = sorted(tmp_path.rglob("*"))
    config = tmp_path / "mine.py"
    config.write_text(
        "from jaxrank.configs import default\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    config.experiments = {'mine': {'mlp_hidden_dims': '9,5', 'notes': '[/b]'}}\n"
        "    config.modes = {'quick': ('mine',)}\n"
        "    return config\n"
    )
    words = [f"--pairs={small_files[0]}", f"--features={small_files[1]}", f"--config={config}"]
    status = main(
        ["launch.py", "search", "--dry_run", "--folds=3", "--num_seeds=2", *words,
         "--config.experiments.mine.dropout=0.1", "--config.batch_size=32",
         "--config.max_epochs=30", "--config.patience=6"]
    )  # fmt: skip
    out = capsys.readouterr().out
    assert status == 0
    assert "18 trials in 3 cohorts" in out
    assert "9,5" in out
    assert "MiB" in out
    mine = next(line for line in out.splitlines() if line.strip().startswith("mine "))
    last = [line.split() for line in out.splitlines() if line.strip().startswith("mine ")][-1]
    assert last == ["mine", "0.0001", "0.1", "0.0001", "1", "30", "6"]
    assert mine.split()[:6] == ["mine", "6", "15", "9,5", "28", "5"]  # batches of at most 28
    assert sorted(tmp_path.rglob("*")) == sorted([*before, config])


def test_features_makes_a_store_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "iqa.csv"
    table.write_text("image,sharpness\na,1\nb,2\n")
    store = tmp_path / "store"
    words = [f"--from_csv={table}", "--block=iqa", f"--features={store}"]
    assert main(["launch.py", "features", *words]) == 0
    assert "new block 'iqa' of 2 photos and 1 columns (sharpness)" in capsys.readouterr().out
    assert main(["launch.py", "features", *words]) == 0
    assert "replaced block 'iqa'" in capsys.readouterr().out
    assert feature_store.open_feature_store(store)["iqa"].columns == ["sharpness"]
    assert json.loads((store / "manifest.json").read_text())["blocks"]["iqa"]["dtype"] == "float32"


def test_features_reads_arrays_and_tensors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = np.array([[1, 2], [3, 4]], np.float64)
    array, names, tensors = tmp_path / "f.npy", tmp_path / "names.txt", tmp_path / "f.safetensors"
    np.save(array, values)
    names.write_text("a\nb\n")
    save_file({"clip": values, "cnn": values + 1, "more": values + 2}, tensors)
    by_photo = tmp_path / "photos.safetensors"
    save_file({"a": values[0], "b": values[1]}, by_photo)
    store = tmp_path / "store"
    for words in (
        [f"--from_npy={array}", f"--names={names}", "--block=iqa", "--columns=sharpness, contrast"],
        [f"--from_safetensors={tensors}", f"--names={names}", "--block=cnn", "--dtype=float16"],
        [f"--from_safetensors={tensors}", f"--names={names}", "--block=x", "--tensor=more"],
        [f"--from_safetensors={by_photo}", "--block=clip", "--dtype=float16"],
    ):
        assert main(["launch.py", "features", f"--features={store}", *words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("2 photos and 2 columns (sharpness, contrast) in float32")
    assert said[3].endswith("2 photos and 2 columns (clip_0, clip_1) in float16")
    opened = feature_store.open_feature_store(store)
    assert {name: block.values.tolist() for name, block in opened.items()} == {
        "clip": [[1, 2], [3, 4]],
        "cnn": [[2, 3], [4, 5]],
        "iqa": [[1, 2], [3, 4]],
        "x": [[3, 4], [5, 6]],
    }
    assert opened["iqa"].columns == ["sharpness", "contrast"]
    assert [str(block.values.dtype) for block in opened.values()] == [
        "float16", "float16", "float32", "float32",
    ]  # fmt: skip
    assert opened["clip"].photos == ["a", "b"]


def test_names_of_the_last_version_go_on_for_one_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "nowhere" / "rates.json"
    assert main(["launch.py", "calibrate", f"--calibration={missing}"]) == 2
    said = capsys.readouterr().err
    assert "'calibrate' is now 'profile'" in said
    assert "'--calibration' is now '--device_profile'" in said
    assert f"--device_profile={missing}: its folder does not exist" in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("audit_files", "audit_data"),
        ("open_store", "open_feature_store"),
        ("read_calibration", "read_device_profile"),
        ("read_pairs", "read_preferences"),
    ],
)
def test_python_names_of_the_last_version_warn(old: str, new: str) -> None:
    with pytest.warns(FutureWarning, match=f"jaxrank.{old} is now jaxrank.{new}"):
        assert getattr(jaxrank, old) is getattr(jaxrank, new)
