"""Searches on a Ray cluster: the bits of a local search, whatever happens to workers, machines and
driver. Ray must start before JAX, so every search with it is a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from searches import NUM_TRIALS, SmallData, assert_same_search, search_on_one, words_of_search
from small_data import ROOT

from jaxrank.cli import main
from jaxrank.errors import UserError
from jaxrank.runner.engines.cluster import ray_cluster

needs_ray = pytest.mark.skipif(
    not any((Path(folder) / "ray").is_dir() for folder in sys.path if folder),
    reason="needs Ray: python -m pip install 'jaxrank[ray]'",
)


@pytest.fixture(scope="module")
def on_one(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    """A search without Ray."""
    return search_on_one(tmp_path_factory.mktemp("one") / "w", small_data)


def launch(words: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "launch.py"), "search", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def finish(process: "subprocess.Popen[str]") -> str:
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stdout + stderr
    return stdout


@needs_ray
def test_a_search_with_ray_has_the_bits_of_a_local_one(
    on_one: Path, small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    words = words_of_search(*small_files, tmp_path)
    workdir = tmp_path / "w"
    said = finish(launch([*words, "--engine=ray", "--workers=2", f"--workdir={workdir}"]))
    assert "Ray workers: 2, machines: 1" in said
    assert_same_search(on_one, workdir)


LOCAL_ONLY = """
import sys
from jaxrank.cli import main
import jaxrank.runner.search
assert main(["jaxrank", "search", "--dry_run", *sys.argv[1:]]) == 0
loaded = {name.split(".")[0] for name in sys.modules}
assert "jax" in loaded
assert "ray" not in loaded, sorted(name for name in sys.modules if name.startswith("ray"))
"""


def test_nothing_of_ray_is_imported_without_it(
    small_files: tuple[Path, Path], tmp_path: Path
) -> None:
    words = words_of_search(*small_files, tmp_path)
    command = [sys.executable, "-c", LOCAL_ONLY, *words, f"--workdir={tmp_path / 'w'}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--ray_address=auto"], "--ray_address needs --engine=ray"),
        (["--gpus_per_worker=0"], "--gpus_per_worker needs --engine=ray"),
        (["--engine=ray", "--ray_address=ray://head:10001"], "give HOST:PORT or auto"),
        (["--engine=ray", "--ray_address="], "--ray_address is empty"),
        (["--engine=ray"], "pip install 'jaxrank[ray]'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert main(["jaxrank", "search", f"--workdir={tmp_path / 'w'}", *words]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
    assert not (tmp_path / "w").exists()


@needs_ray
def test_ray_is_not_started_after_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    jax.local_devices()
    with pytest.raises(UserError, match="JAX runs already"), ray_cluster():
        pass


@needs_ray
def test_workers_of_other_kinds_and_versions_are_refused() -> None:
    from jaxrank.devices import DeviceSpec
    from jaxrank.runner.engines.interface import Worker
    from jaxrank.runner.engines.ray import refuse_others
    from jaxrank.runner.engines.ray_worker import WorkerSpec
    from jaxrank.runner.manifest import versions

    one = WorkerSpec(DeviceSpec("cpu", "cpu", 1), versions(), Worker("one", "a"))
    more_memory = one._replace(device=one.device._replace(memory=2))
    refuse_others([one, more_memory], one)
    other = one._replace(device=DeviceSpec("TPU v9", "tpu", 1), worker=Worker("other", "b"))
    with pytest.raises(UserError, match="other has 'TPU v9' and one 'cpu'"):
        refuse_others([one, other], one)
    older = one._replace(versions=versions() | {"jax": "0.1"})
    with pytest.raises(UserError, match=r"one has jax 0\.1, and the driver"):
        refuse_others([older], older)


# Three machines of one core each, the first of which has no worker's core.
CLUSTER = """
import os, re, signal, sys, threading, time
from pathlib import Path
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from ray.cluster_utils import Cluster

def main():
    event, pairs, store, profile, workdir = sys.argv[1:]
    options = dict(include_dashboard=False)
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, **options))
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    import jaxrank
    from searches import OPTIONS
    with jaxrank.ray_cluster(cluster.address, 2) as workers:
        done = lambda: len(list(Path(workdir, "checkpoints").glob("*.npz")))
        happened = []

        def pid_of(actor):
            try:
                spec = ray.get(actor.describe.remote(), timeout=20)
            except ray.exceptions.RayError:
                return None
            return int(re.search(r"process (\\d+)", spec.worker.name)[1])

        def kill_workers():
            times = 10
            while len(happened) < times and done() < 8:
                time.sleep(0.7)
                pid = pid_of(workers.actors[len(happened) % 2])
                if pid is not None and done() < 8:
                    os.kill(pid, signal.SIGKILL)
                    happened.append(pid)

        def remove_node():
            while done() < 2:
                time.sleep(0.05)
            cluster.remove_node(nodes[1], allow_graceful=False)
            happened.append(done())
            cluster.add_node(num_cpus=1)

        target = {"kill_workers": kill_workers, "remove_node": remove_node}[event]
        thread = threading.Thread(target=target)
        thread.start()
        jaxrank.search(
            pairs,
            store,
            workdir=workdir,
            cluster=workers,
            device_profile=jaxrank.read_device_profile(profile),
            **OPTIONS,
        )
        thread.join()
        print("happened", len(happened))
    cluster.shutdown()

main()
"""


@pytest.mark.long
@needs_ray
@pytest.mark.parametrize("event", ["remove_node", "kill_workers"])
def test_lost_machines_and_workers_change_no_bit(
    on_one: Path, small_files: tuple[Path, Path], tmp_path: Path, event: str
) -> None:
    words_of_search(*small_files, tmp_path)
    workdir = tmp_path / "w"
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    arguments = [event, *map(str, small_files), str(tmp_path / "profile.json"), str(workdir)]
    ended = subprocess.run(
        [sys.executable, "-c", CLUSTER, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "happened 0" not in ended.stdout
    assert "lost its worker" in (workdir / "training.log").read_text()
    assert_same_search(on_one, workdir)


@pytest.mark.long
@needs_ray
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_search_whose_driver_ends_is_resumed_without_ray(
    on_one: Path, small_files: tuple[Path, Path], tmp_path: Path, number: signal.Signals
) -> None:
    words = words_of_search(*small_files, tmp_path)
    workdir = tmp_path / "w"
    driver = launch([*words, "--engine=ray", "--workers=2", f"--workdir={workdir}"])
    while not (done := set(workdir.glob("checkpoints/*.npz"))):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.02)
    driver.send_signal(number)
    stderr = driver.communicate(timeout=300)[1]
    if number != signal.SIGKILL:
        assert driver.returncode == 128 + number, stderr
        assert "nothing is lost" in stderr
    assert len(list(workdir.glob("checkpoints/*.npz"))) < NUM_TRIALS
    times = {path: path.stat().st_mtime_ns for path in done}
    finish(launch(["--resume", f"--workdir={workdir}"]))
    assert times == {path: path.stat().st_mtime_ns for path in done}
    assert_same_search(on_one, workdir)
