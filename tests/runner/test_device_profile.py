"""Rates of a machine: fitted, kept in a file, part of a search; and compiled programs, kept too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import NEVER_PAYS

import jaxrank
from jaxrank.cli import main
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.planning import costs
from jaxrank.runner import device_profile

RATES = costs.DeviceProfile("planted", 150e9, 20e9, 30e-6, 2.0, False)


def test_planted_rates_are_found() -> None:
    rng = np.random.default_rng(0)
    timings = []
    for _ in range(8):
        work = costs.Work(*(rng.uniform(0.1, 1.0, 3) * [1e11, 1e10, 1e3]))
        timings.append(device_profile.Timing("", work, RATES.seconds(work), 2.0))
    found = device_profile.fit_profile(timings)
    for name in ("flops_per_second", "bytes_per_second", "step_seconds", "compile_seconds"):
        assert getattr(found, name) == pytest.approx(getattr(RATES, name), rel=1e-6)


def test_the_work_of_an_epoch_by_hand() -> None:
    """Two trials, 3 inputs, hidden 5, 2 steps of 4 pairs, 6 pairs validate."""
    work = costs.epoch_work(3, (5,), "adamw", 2, 2, 4, 6, side_by_side=True)
    forward = 2 * (3 * 5 + 5)
    backward = forward + 2 * 5  # of the weights, and of the hidden units
    assert work.flops == 2 * (16 * (forward + backward) + 12 * forward)
    assert work.steps == 2
    alone = costs.epoch_work(3, (5,), "adamw", 2, 2, 4, 6, side_by_side=False)
    assert alone == work._replace(steps=4)
    linear = costs.epoch_work(3, (), "sgd", 1, 2, 4, 6, side_by_side=True)
    assert linear.bytes == 4 * (7 * 3 * 2 + 16 * 14 * 3)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"format": 1}', '{"format": 1, "device": "cpu", "profile": {"source": "x"}}'],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"not a file of 'jaxrank profile'"):
        device_profile.read_device_profile(path)


def test_a_profile_comes_back_and_belongs_to_its_kind_of_device(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    device_profile.write_device_profile(path, RATES)
    assert device_profile.read_device_profile(path) == vars(RATES)
    content = json.loads(path.read_text())
    assert content["device"].startswith("cpu: ")
    path.write_text(json.dumps(content | {"device": "cpu"}))  # an older file
    assert device_profile.read_device_profile(path) == vars(RATES)
    for other in ("TPU v9", "cpu: another"):
        path.write_text(json.dumps(content | {"device": other}))
        with pytest.raises(UserError, match=f"measured on '{other}'"):
            device_profile.read_device_profile(path)
    content["profile"]["step_seconds"] = -1.0
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not a file of"):
        device_profile.read_device_profile(path)


def test_profile_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.json").touch()
    for path in ("c.json", "no/folder.json"):
        assert main(["launch.py", "profile", f"--device_profile={tmp_path / path}"]) == 2
    assert main(["launch.py", "profile"]) == 2
    messages = capsys.readouterr().err
    assert "is there already; name a new file" in messages
    assert "its folder does not exist" in messages
    assert "--device_profile is missing" in messages


def test_a_search_is_not_gone_on_with_at_other_rates(
    small_data: tuple[Preferences, dict[str, Block]], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"experiments": ["iqa_only"], "overrides": {"max_epochs": 2}}
    folder = tmp_path / "w"
    jaxrank.search(*small_data, workdir=folder, device_profile=vars(RATES), **options)
    again: dict[str, Any] = {"workdir": folder, "extend": True}
    with pytest.raises(UserError, match="planned with another --device_profile"):
        jaxrank.search(*small_data, num_seeds=2, device_profile=vars(NEVER_PAYS), **again)
    result = jaxrank.search(*small_data, num_seeds=2, **again)
    assert len(result.trials) == 6  # with the references


COUNTED = """
import sys, jax
counts = {"cache_misses": 0, "cache_hits": 0}
def listen(event, **_):
    for name in counts:
        counts[name] += event.endswith(name)
jax.monitoring.register_event_listener(listen)
from jaxrank.cli import main
status = main(["launch.py", *sys.argv[1:]])
print("COUNTS", status, counts["cache_misses"], counts["cache_hits"])
"""


def test_a_repeated_search_compiles_nothing(small_files: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, store = small_files
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    counts = []
    for number in range(2):
        words = ["search", f"--pairs={pairs}", f"--features={store}", "--experiments=tiny_mlp",
                 "--config.max_epochs=2", f"--workdir={tmp_path / str(number)}"]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", COUNTED, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        counts.append(done.stdout.splitlines()[-1].split()[1:])
    (status, misses, _), (again, none, hits) = counts
    assert (status, again) == ("0", "0")
    assert int(misses) > 5
    assert (none, int(hits) > 5) == ("0", True)
