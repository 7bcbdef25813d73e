"""Fixtures of the hostile suite: small inputs, one finished search, a watchdog for each case."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from attack import Attack, Hung, Inputs, make_inputs
from filelock import FileLock
from hypothesis import HealthCheck, settings

import jaxrank

# Far above what any case takes on a busy machine: only a case that hangs comes to it.
WATCHDOG_SECONDS = 300

# JAXRANK_FUZZ=long is another search for new bytes each time; the short one is always the same.
_FUZZ: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
settings.register_profile("hostile-short", max_examples=60, derandomize=True, **_FUZZ)
settings.register_profile("hostile-long", max_examples=3000, **_FUZZ)


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    def hung(number: int, frame: FrameType | None) -> None:
        raise Hung(f"not ended after {WATCHDOG_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to the current folder by mistake is noticed."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def attack(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Attack:
    return Attack(tmp_path, capfd)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return make_inputs(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search, which no test may change; the workers of pytest-xdist share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():  # its plan names its paths: it can't be made elsewhere and moved
            made = make_inputs(folder)
            jaxrank.search(made.pairs, made.store, workdir=made.workdir, **SMALL)
    return folder


SMALL: dict[str, Any] = {
    "experiments": ["iqa_only"],
    "overrides": {"max_epochs": 1, "mlp_hidden_dims": "4"},
}


@pytest.fixture
def searched(finished: Path, tmp_path: Path) -> Inputs:
    """Copies of a finished search and its inputs: the same content in another folder."""
    for path in finished.iterdir():
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, tmp_path / path.name)
    return Inputs(tmp_path, tmp_path / "pairs.csv", tmp_path / "store", tmp_path / "w")


@pytest.fixture
def model(searched: Inputs) -> Path:
    return searched.workdir / "iqa_only" / "model"
