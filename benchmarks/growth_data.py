"""Time and memory by data size: tables of pairs, feature stores, host memory of a search.

    python benchmarks/growth_data.py [--photos=10000,100000] [--columns=64] [--parts=tables,...]

Photos, pairs and features are random numbers (simulated): series of four photos with four pairs
each, so there are as many pairs as photos. Every part runs in a process of its own. Memory is the
process's increase since the part began. "anonymous" can't be reclaimed while it is used. "peak"
includes pages of mapped files, which the system may drop. F is the size of the features as 32-bit
numbers, photos x columns x 4 bytes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("tables", "open", "prepare", "inputs", "audit", "append", "merge", "search")
_OF_STORES = {"open", "append", "merge"}  # parts that need no pairs
_BLOCKS = {"clip": 0.7, "cnn": 0.3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", default="10000,100000")
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=("float16", "float32"))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--scratch", help="folder for the data, kept; by default a temporary one")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(_run_part(given.child, Path(given.scratch), given.columns)))
        return
    print(f"{'photos':>9} {'part':8} {'wall s':>8} {'CPU s':>8} {'anonymous':>18} {'peak':>18}")
    for num_photos in map(int, given.photos.split(",")):
        with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
            parts = given.parts.split(",")
            with_pairs = not _OF_STORES.issuperset(parts)
            make_data(Path(folder), num_photos, given.columns, given.dtype, with_pairs)
            for part in parts:
                found = _in_child(part, folder, given.columns)
                size = 4.0 * num_photos * given.columns
                cells = [
                    f"{found[key] / 1e6:8,.0f} MB {found[key] / size:4.1f} F"
                    for key in ("anonymous", "peak")
                ]
                print(
                    f"{num_photos:9,} {part:8} {found['wall']:8.2f} {found['cpu']:8.2f} "
                    f"{cells[0]:>18} {cells[1]:>18} {found['said']}",
                    flush=True,
                )


def _in_child(part: str, folder: str, columns: int) -> dict[str, Any]:
    command = [sys.executable, __file__, f"--child={part}", f"--scratch={folder}"]
    done = subprocess.run(
        [*command, f"--columns={columns}"], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def make_data(
    folder: Path, num_photos: int, num_columns: int, dtype: str, with_pairs: bool = True
) -> None:
    """Writes a table of pairs, a store of three blocks, and a store of a tenth more photos."""
    from jaxrank.data.feature_store import Block, Extraction, write_block

    rng = np.random.default_rng(0)
    names = [f"album-{i // 1000:05d}/IMG_{i:08d}.JPG" for i in range(num_photos * 11 // 10)]
    with open(folder / "pairs.csv", "w") as file:
        file.write("series_id,image_a,image_b,preference\n")
        for first in range(0, num_photos - 3 if with_pairs else 0, 4):
            for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
                share = rng.integers(11) / 10
                file.write(f"{first // 4},{names[first + a]},{names[first + b]},{share}\n")
    wide = int(_BLOCKS["clip"] * num_columns)
    widths = {"clip": wide, "cnn": num_columns - 4 - wide, "iqa": 4}
    hashes = [f"{i:064x}" for i in range(len(names))]
    for store, start, end in (("store", 0, num_photos), ("more", num_photos, len(names))):
        for block, width in widths.items():
            values = rng.standard_normal((end - start, width), np.float32)
            made = Extraction({"block": block}, hashes[start:end])
            columns = [f"{block}_{i}" for i in range(width)]
            photos = names[start:end]
            block_dtype = np.float32 if block == "iqa" and dtype == "float32" else np.dtype(dtype)
            written = Block(photos, columns, values.astype(block_dtype), "simulated")
            write_block(folder / store, block, written._replace(extraction=made))


class Watch:
    """Context manager that measures the seconds and memory of its block."""

    def __enter__(self) -> "Watch":
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets the peak
        self._before = _status()
        self._most = self._before["RssAnon"]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def _look(self) -> None:
        while not self._ended.wait(0.003):
            self._most = max(self._most, _status()["RssAnon"])

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._wall
        self.cpu = time.process_time() - self._cpu
        self._ended.set()
        self._thread.join()
        self.anonymous = self._most - self._before["RssAnon"]
        self.peak = _status()["VmHWM"] - self._before["VmRSS"]


def _status() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    wanted = (line.split() for line in lines if line.startswith(("Rss", "VmHWM", "VmRSS")))
    return {words[0][:-1]: 1024 * int(words[1]) for words in wanted}


def _run_part(part: str, folder: Path, columns: int) -> dict[str, Any]:
    import pandas as pd
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401, so that no part pays for the import

    import jaxrank

    pd.Series(["text"]).factorize()
    work = _PARTS[part](folder)
    assert jaxrank
    with Watch() as watch:
        said = work()
    return {
        "wall": watch.wall,
        "cpu": watch.cpu,
        "anonymous": watch.anonymous,
        "peak": watch.peak,
        "said": said,
    }


def _tables(folder: Path) -> Callable[[], str]:
    from jaxrank.data.preferences import read_preferences

    return lambda: f"{len(read_preferences(folder / 'pairs.csv').table):,} pairs"


def _open(folder: Path) -> Callable[[], str]:
    from jaxrank.data.feature_store import open_feature_store

    return lambda: f"{len(open_feature_store(folder / 'store')['clip'].photos):,} photos"


def _append(folder: Path) -> Callable[[], str]:
    """Adds a tenth more photos to the store."""
    from jaxrank.data.merge import merge_stores

    return lambda: f"{merge_stores(folder / 'more', folder / 'store')['clip']:,} new"


def _merge(folder: Path) -> Callable[[], str]:
    """Adds the whole store to a new one."""
    from jaxrank.data.merge import merge_stores

    return lambda: f"{merge_stores(folder / 'store', folder / 'merged')['clip']:,} new"


def _prepare(folder: Path) -> Callable[[], str]:
    prepared = _prepared(folder)
    return lambda: prepared().data.sha256[:12]


def _prepared(folder: Path) -> Callable[[], Any]:
    from jaxrank.runner.prepare import prepare

    return lambda: prepare(
        folder / "pairs.csv",
        folder / "store",
        experiments=["tiny_mlp"],
        num_seeds=1,
        overrides={"max_epochs": 1, "patience": 1},
    )


def _inputs(folder: Path) -> Callable[[], str]:
    """Prepares a search and makes the inputs of its first cohort on the host."""
    from jaxrank.training.arrays import make_inputs

    prepared = _prepared(folder)

    def work() -> str:
        search = prepared()
        found = make_inputs(search.cohorts[0], search.split_data, search.trained_folds)
        return f"{found.data.features_ND.dtype} {list(found.data.features_ND.shape)}"

    return work


def _audit(folder: Path) -> Callable[[], str]:
    from jaxrank.runner.background_audit import audit_of

    prepared = _prepared(folder)()
    return lambda: audit_of(folder, prepared, 60.0).headline[:60]


def _search(folder: Path) -> Callable[[], str]:
    from jaxrank import search

    def work() -> str:
        found = search(
            folder / "pairs.csv",
            folder / "store",
            workdir=folder / "search",
            experiments=["tiny_mlp"],
            num_seeds=1,
            overrides={"max_epochs": 2, "patience": 2},
        )
        return f"test accuracy {found.summary['test_accuracy'].iloc[0]:.6f}"

    return work


_PARTS: dict[str, Callable[[Path], Callable[[], str]]] = {
    "tables": _tables,
    "open": _open,
    "append": _append,
    "merge": _merge,
    "prepare": _prepare,
    "inputs": _inputs,
    "audit": _audit,
    "search": _search,
}


if __name__ == "__main__":
    main()
