"""Searches on a Ray cluster: the bits of a local search, whatever happens to workers, machines and
driver. Ray must start before JAX, so every search with it is a process of its own."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from searches import (
    NUM_TRIALS,
    SmallData,
    assert_same_search,
    search_on_one,
    words_of_search,
)
from small_data import ROOT

from jaxrank.cli import main
from jaxrank.data import splits
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.errors import UserError
from jaxrank.runner.engines.cluster import ray_cluster

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="needs Ray: python -m pip install 'jaxrank[ray]'",
)
# A small object store, patience on a busy machine, and the modules of the tests.
ENVIRONMENT = {
    **os.environ,
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(80 * 2**20),
    "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]),
}


@pytest.fixture(scope="module")
def on_one(tmp_path_factory: pytest.TempPathFactory, small_data: SmallData) -> Path:
    """A search without Ray."""
    return search_on_one(tmp_path_factory.mktemp("one") / "w", small_data)


def launch(words: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "launch.py"), "search", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)


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


def test_only_the_engine_imports_ray_and_only_lazily() -> None:
    imports = re.compile(
        r"^(import ray|from ray|from jaxrank\.runner\.engines\.ray)\b", re.MULTILINE
    )
    modules = [p for p in (ROOT / "jaxrank").rglob("*.py") if imports.search(p.read_text("utf-8"))]
    assert sorted(path.name for path in modules) == ["ray.py", "ray_worker.py"]


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
    message = capsys.readouterr().err
    assert line in message
    assert message.count("\n") == 1
    assert not (tmp_path / "w").exists()


@needs_ray
def test_ray_is_not_started_after_jax() -> None:
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


@needs_ray
def test_rungs_and_rounds_store_their_data_once(
    small_data: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from jaxrank.runner.engines.interface import SharedData
    from jaxrank.runner.engines.ray import StoredData

    put: list[SharedData] = []

    def number(data: SharedData) -> int:
        put.append(data)
        return len(put)

    monkeypatch.setattr(ray, "put", number)
    dataset = align(*small_data)
    parts = splits.split_pairs(dataset.table, folds=3)
    data = SharedData(SplitDataset(dataset=dataset, splits_FM=parts), [0, 1], None)
    other = data._replace(split_data=SplitDataset(dataset=dataset, splits_FM=parts))
    fewer = data._replace(folds=[0])
    stored = StoredData()
    asked = [data, data._replace(folds=[0, 1]), other, data, fewer, fewer]
    assert [stored.ref(one) for one in asked] == [1, 1, 2, 3, 4, 4]
    assert [one.folds for one in put] == [[0, 1], [0, 1], [0, 1], [0]]
    assert [one.split_data is other.split_data for one in put] == [False, True, False, False]


# Three machines, of which the driver's has no core for a worker.
CLUSTER = """
import os, random, re, signal, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster

event, pairs, store, profile, workdir = sys.argv[1:]
small = dict(object_store_memory=80 * 2**20, include_dashboard=False)
cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, **small))
nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
import jaxrank
from jaxrank.runner import scheduler
from jaxrank.runner.engines import ray as engine
from jaxrank.runner.engines.interface import Reported
from searches import OPTIONS

def num_done():
    return len(list(Path(workdir, "checkpoints").glob("*.npz")))

scheduler._MOST_LOSSES = 100
rng = random.Random(0)

# A worker is killed where another event was read, so that all kills come before the end.
def killing(self, job, read=engine.RayEngine._event_of):
    seen = read(self, job)
    if isinstance(seen, Reported) and len(happened) < 10 and rng.random() < 0.7:
        worker = rng.choice([worker for worker in self.workers if worker])
        pid = int(re.search(r"process (\\d+)", worker.name)[1])
        try:
            os.kill(pid, signal.SIGKILL)
            happened.append(pid)
        except ProcessLookupError:  # killed before, and not missed yet
            pass
    return seen

def kill_workers(workers):
    engine.RayEngine._event_of = killing

def remove_node(workers):
    while num_done() < 2:
        time.sleep(0.05)
    cluster.remove_node(nodes[1], allow_graceful=False)
    happened.append(num_done())
    cluster.add_node(num_cpus=1, **small)

happened = []
with jaxrank.ray_cluster(cluster.address, 2) as workers:
    thread = threading.Thread(target=globals()[event], args=[workers])
    thread.start()
    jaxrank.search(
        pairs,
        store,
        workdir=workdir,
        cluster=workers,
        save_budget=1.0,
        device_profile=jaxrank.read_device_profile(profile),
        **OPTIONS,
    )
    thread.join()
    print("happened", len(happened))
cluster.shutdown()
"""


@pytest.mark.long
@needs_ray
@pytest.mark.parametrize("event", ["remove_node", "kill_workers"])
def test_lost_machines_and_workers_change_no_bit(
    on_one: Path, small_files: tuple[Path, Path], tmp_path: Path, event: str
) -> None:
    words_of_search(*small_files, tmp_path)
    workdir = tmp_path / "w"
    arguments = [event, *map(str, small_files), str(tmp_path / "profile.json"), str(workdir)]
    ended = subprocess.run(
        [sys.executable, "-c", CLUSTER, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (happened,) = re.findall(r"happened (\d+)", ended.stdout)
    assert int(happened) == (10 if event == "kill_workers" else 1)
    log = (workdir / "training.log").read_text()
    assert "lost its worker" in log
    finished = re.findall(r"cohort (\d+) of \d+ \(", log)
    assert sorted(finished) == sorted(set(finished))  # none is trained twice
    assert len(finished) == NUM_TRIALS
    assert_same_search(on_one, workdir)


@pytest.mark.long
@needs_ray
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("then", ["local", "ray"])
def test_a_search_whose_driver_ends_is_resumed_with_or_without_ray(
    on_one: Path,
    small_files: tuple[Path, Path],
    tmp_path: Path,
    number: signal.Signals,
    then: str,
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
    finish(launch(["--resume", f"--workdir={workdir}", f"--engine={then}"]))
    assert times == {path: path.stat().st_mtime_ns for path in done}
    assert_same_search(on_one, workdir)
