"""Fixtures that the tests share."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from jax._src.lru_cache import LRUCache
from small_data import PHOTO_TRIAGE, TINY, TINY_CONFIG, make_data

from jaxrank.data import feature_store, splits
from jaxrank.data.dataset import Dataset, align
from jaxrank.data.feature_store import Block
from jaxrank.data.preferences import Preferences
from jaxrank.training import compilation_cache

_COMPILED = pytest.StashKey[str]()
# jaxlib 0.10.2 compiles an epoch of five small trials in 0.7 s of CPU time; with the first two
# alone in 3.0 s, with the first alone in 5.6 s (2026-11-30, on a busy machine). jaxlib 0.11.2 knows
# all four.
FAST_TO_COMPILE = (
    "--xla_cpu_multi_thread_eigen=false",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
# No test fails because the machine is busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers of pytest-xdist start, which inherit the environment.

    They share compiled programs, of which many tests need the same ones, on disk; a bounded cache
    is one that JAX locks. Before it keeps a program, it looks at all that are there, which costs
    50 us each or more, to drop the oldest; here nothing is dropped. A worker's threads would only
    wait for those of the others. Most of the time of tests is compilation, and most of that is
    optimisation; `make test-long` has it.
    """
    LRUCache._evict_if_needed = _evict_nothing  # type: ignore[method-assign,assignment]
    if "PYTEST_XDIST_WORKER" in os.environ or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = config.stash[_COMPILED] = tempfile.mkdtemp(prefix="jaxrank-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(4 * 2**30)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    if config.getoption("numprocesses", None):
        os.environ.setdefault("XLA_FLAGS", " ".join(FAST_TO_COMPILE))
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def _evict_nothing(cache: LRUCache, *, additional_size: int = 0) -> None:
    """In place of JAX's."""


def pytest_unconfigure(config: pytest.Config) -> None:
    if _COMPILED in config.stash:
        shutil.rmtree(config.stash[_COMPILED], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a CLIP model of 32 pixels that is made in milliseconds."""
    from jaxrank.extraction import torch_networks

    (open_clip,) = torch_networks.import_libraries("open_clip")
    path = tmp_path_factory.mktemp("configs") / f"{TINY}.json"
    path.write_text(json.dumps(TINY_CONFIG))
    open_clip.add_model_config(path)
    return TINY


@pytest.fixture(autouse=True)
def output_is_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-xdist sets it to the width of the terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True, scope="session")
def interrupts_reach_commands() -> None:
    """A shell that starts the tests in the background makes them ignore Ctrl-C, and every command
    that they start inherits that: tests that interrupt a command would wait in vain."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def too_many_programs_are_dropped() -> Iterator[None]:
    """Also those of tests that train without a search; below the limit modules share programs."""
    yield
    compilation_cache.drop_programs_if_many()


@pytest.fixture(scope="session")
def photo_triage() -> Path:
    """The real tables; they may not be copied into the project."""
    if not PHOTO_TRIAGE.is_dir():
        pytest.skip("the Photo Triage tables are not on this machine")
    return PHOTO_TRIAGE


@pytest.fixture(scope="session")
def small_data() -> tuple[Preferences, dict[str, Block]]:
    return make_data()


@pytest.fixture(scope="session")
def dataset(small_data: tuple[Preferences, dict[str, Block]]) -> Dataset:
    return align(*small_data)


@pytest.fixture(scope="session")
def parts(dataset: Dataset) -> np.ndarray:
    return splits.split_pairs(dataset.table, folds=3)


@pytest.fixture
def small_files(
    tmp_path: Path, small_data: tuple[Preferences, dict[str, Block]]
) -> tuple[Path, Path]:
    """The small data as files: a pair table and a feature store."""
    pairs, store = small_data
    pairs.table.to_csv(tmp_path / "pairs.csv", index=False)
    for name, block in store.items():
        feature_store.write_block(tmp_path / "store", name, block)
    return tmp_path / "pairs.csv", tmp_path / "store"
