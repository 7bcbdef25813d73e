"""Extractions that are killed, interrupted, or meet a decoder that crashes."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import jpeg, scene
from photo_stores import IQA, SMALL, fill, rows
from PIL import Image

from jaxrank.data import feature_store
from jaxrank.errors import UserError
from jaxrank.extraction import pipeline, workers
from jaxrank.extraction.extractors import make_extractors
from jaxrank.extraction.photos import Photo, list_folder
from jaxrank.extraction.pipeline import extract
from jaxrank.io import atomic

SLOW = """
import sys, time
from jaxrank.extraction import extractors, pipeline
from jaxrank.extraction import partial_rows
partial_rows._EVERY = 0.0
def slow(options):
    made = extractors.make_extractors(options)
    def slower(extractor):
        def encode(batch):
            time.sleep(0.15)
            print("batch", flush=True)
            values = extractor.encode(batch)
            return values + 1e-4 * values.mean()  # a photo's neighbours show in its bits
        return extractor._replace(encode=encode, batch=4)
    return {block: slower(extractor) for block, extractor in made.items()}
pipeline.make_extractors = slow
from jaxrank.extraction.photos import list_folder
if __name__ == "__main__":
    values = {"cnn_model": "test_resnet", "cnn_weights": "none"}
    options = extractors.Options(("cnn", "iqa"), values=values)
    pipeline.extract(list_folder(sys.argv[1]), sys.argv[2], options, num_workers=2)
"""


def test_a_run_killed_anywhere_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 30)
    (folder / "005.jpg").write_bytes(b"")  # a bad one does not shift the batches
    script = tmp_path / "slow.py"
    script.write_text(SLOW)

    def start(store: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, script, folder, store])

    assert start(tmp_path / "whole").wait() == 0
    killed = tmp_path / "killed"
    saved = []
    for _ in range(2):
        process = start(killed)
        before = len(list(killed.glob(".partial/cnn-*/*.npy")))
        until = time.monotonic() + 600
        while len(list(killed.glob(".partial/cnn-*/*.npy"))) <= before:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved.append(len(list(killed.glob(".partial/cnn-*/*.npy"))))
    assert not (killed / feature_store.MANIFEST).exists()  # else it was not killed in the middle
    assert saved == sorted(set(saved))
    assert start(killed).wait() == 0
    for block in ("cnn", "iqa"):
        expected, found = (
            feature_store.open_feature_store(store)[block] for store in (tmp_path / "whole", killed)
        )
        assert expected.photos == found.photos
        assert np.array_equal(expected.values, found.values)
        assert expected.sha256 == found.sha256
    assert not (killed / ".partial").exists()


def test_a_run_that_ends_before_its_manifest_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "photos", 5)
    extract(list_folder(folder), tmp_path / "whole", SMALL)
    write = atomic.write_text

    def killed_at_the_manifest(path: Path, text: str) -> None:
        if path.name == feature_store.MANIFEST:
            raise SystemExit
        write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "write_text", killed_at_the_manifest)
        with pytest.raises(SystemExit):
            extract(list_folder(folder), tmp_path / "killed", SMALL)
    # All files of both blocks are there, and nothing says so yet.
    assert {path.name[:4] for path in (tmp_path / "killed").glob("*.npy")} >= {"cnn-", "iqa-"}
    assert not (tmp_path / "killed" / feature_store.MANIFEST).exists()
    monkeypatch.setattr(pipeline.workers, "process_all", read_without_encoding)
    found = extract(list_folder(folder), tmp_path / "killed", SMALL)
    assert found.made == {"cnn": 5, "iqa": 5}
    for block in ("cnn", "iqa"):
        stores = [
            feature_store.open_feature_store(tmp_path / name)[block] for name in ("whole", "killed")
        ]
        assert stores[0].sha256 == stores[1].sha256


def read_without_encoding(*arguments: Any) -> Iterator[workers.PhotoResult]:
    """What is read of photos none of whose rows is missing."""
    photos, root, _, known, _ = arguments
    for photo in photos:
        seen = workers.read_and_view(photo, root, {}, {})
        assert all(seen.sha256 in of_block for of_block in known.values())
        yield seen


def test_damaged_partial_rows_are_made_again(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 3)
    extract(list_folder(folder), tmp_path / "whole", IQA)
    (extractor,) = make_extractors(IQA).values()
    sha256 = list(extract(list_folder(folder), tmp_path / "whole", IQA).good.values())

    def partial_rows() -> pipeline.PartialRows:
        return pipeline.PartialRows(tmp_path / "store", "iqa", extractor.recipe, 4)

    wrong = np.ones((1, 4), np.float32)  # rows that show where they were believed
    for damage in (None, "cut", "flipped", "narrow", "float64", "scalar", "other"):
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        there = partial_rows()
        there.add(sha256[:1], wrong)
        there.save()
        (path,) = (tmp_path / "store").glob(".partial/iqa-*/*.npy")
        saved = np.load(path)
        if damage is None:
            assert len(partial_rows()) == 1
            continue
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-30])
        elif damage == "other":
            path.with_name("copy of 000000.npy").write_bytes(b"")
            path.unlink()
        elif damage == "flipped":
            saved["values"][0, 2] += 1
            np.save(path, saved)
        else:
            no_records: dict[str, Any] = {
                "narrow": saved[["crc", "sha256"]],
                "float64": saved["values"].astype(np.float64),
                "scalar": np.array(1, np.float32),
            }
            np.save(path, no_records[damage])
        extract(list_folder(folder), tmp_path / "store", IQA)
        for photo, row in rows(tmp_path / "whole", "iqa").items():
            assert np.array_equal(rows(tmp_path / "store", "iqa")[photo], row), damage


FEW_DESCRIPTORS = """
import resource, sys
from jaxrank.extraction import extractors, partial_rows, pipeline
from jaxrank.extraction.photos import list_folder
from photo_stores import IQA

def one_by_one(options):
    made = extractors.make_extractors(options)
    return {block: extractor._replace(batch=1) for block, extractor in made.items()}

def killed(this_pass):
    raise SystemExit(9)

if __name__ == "__main__":
    partial_rows._EVERY = 0.0
    pipeline.make_extractors = one_by_one
    if sys.argv[3] == "killed":
        pipeline._Pass.write_blocks = killed
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    pipeline.extract(list_folder(sys.argv[1]), sys.argv[2], IQA, num_workers=1)
"""


def test_saved_rows_take_no_file_descriptors(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 70)
    script = tmp_path / "few.py"
    script.write_text(FEW_DESCRIPTORS)
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), *sys.path]))
    for end, status in (("killed", 9), ("whole", 0)):
        command = [sys.executable, str(script), str(folder), str(tmp_path / "store"), end]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        if end == "killed":
            assert len(list((tmp_path / "store").glob(".partial/iqa-*/*.npy"))) == 70
    extract(list_folder(folder), tmp_path / "expected", IQA)
    expected = rows(tmp_path / "expected", "iqa")
    found = rows(tmp_path / "store", "iqa")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[photo], row) for photo, row in expected.items())


def test_rows_do_not_count_as_missing_without_a_file_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = pipeline.PartialRows(tmp_path, "iqa", {}, 4)
    saved.add(["0" * 64], np.ones((1, 4), np.float32))
    saved.save()

    def too_many(*_: Any, **__: Any) -> np.ndarray:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(np.lib.format, "open_memmap", too_many)
    with pytest.raises(UserError, match=r"000000.npy: can't be read \(Too many open files\)"):
        pipeline.PartialRows(tmp_path, "iqa", {}, 4)


def crash(image: Image.Image) -> np.ndarray:
    if image.size == (50, 40):
        os.kill(os.getpid(), signal.SIGSEGV)
    return np.zeros(2, np.float32)


def size(image: Image.Image) -> np.ndarray:
    return np.array(image.size, np.float32)


def hang(image: Image.Image) -> np.ndarray:
    if image.size == (50, 40):
        time.sleep(600)
    return np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("view", "reason"),
    [(crash, "its decoder crashed"), (hang, "its decoder had not ended after 5 seconds")],
)
def test_a_decoder_that_crashes_or_hangs_costs_one_photo(
    tmp_path: Path, view: Callable[[Image.Image], np.ndarray], reason: str
) -> None:
    folder = fill(tmp_path / "photos", 12)
    (folder / "004.jpg").write_bytes(jpeg(scene(4, 50, 40)))
    listing = list_folder(folder)
    seen = list(
        workers.process_all(listing.photos, folder, {"b": view}, {"b": frozenset()}, 2, timeout=5)
    )
    assert [s.reason for s in seen] == [reason if i == 4 else "" for i in range(12)]


def test_processes_that_are_killed_while_idle_are_started_again(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 12)
    listing = list_folder(folder)
    seen = []
    for one in workers.process_all(listing.photos, folder, {"b": size}, {"b": frozenset()}, 1):
        seen.append(one)
        if len(seen) == 3:
            time.sleep(2.0)  # what is ahead is done meanwhile
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
            time.sleep(1.0)
    assert [one.reason for one in seen] == [""] * 12


def kill_three_times(image: Image.Image) -> np.ndarray:
    """Two processes are killed at the photo, the third is not: no fault of the photo's."""
    if image.size == (50, 40):
        count = Path(os.environ["JAXRANK_TEST_KILLS"])
        count.write_text(count.read_text() + "x")
        if len(count.read_text()) < 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return np.zeros(2, np.float32)


def test_a_photo_whose_process_was_killed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kills").write_text("")
    monkeypatch.setenv("JAXRANK_TEST_KILLS", str(tmp_path / "kills"))
    folder = fill(tmp_path / "photos", 3)
    (folder / "000.jpg").write_bytes(jpeg(scene(4, 50, 40)))
    photos = list_folder(folder).photos
    views = {"b": kill_three_times}
    seen = list(workers.process_all(photos, folder, views, {"b": frozenset()}, 1))
    assert [one.reason for one in seen] == [""] * 3


@pytest.mark.parametrize(("breakdowns", "ends"), [(2, False), (5, False), (6, True)])
def test_processes_that_end_at_the_start_are_started_again_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakdowns: int, ends: bool
) -> None:
    listing = list_folder(fill(tmp_path / "photos", 2))
    begun = 0

    def see(ahead: list[Photo], coming: Iterator[Photo], *_: Any) -> Iterator[workers.PhotoResult]:
        nonlocal begun
        begun += 1
        ahead.extend(coming)  # once; a breakdown leaves them there
        if begun <= breakdowns:
            raise BrokenProcessPool
        for _photo in list(ahead):
            yield workers.PhotoResult("")

    monkeypatch.setattr(workers, "_results_of_pool", see)
    coming = workers.process_all(listing.photos, tmp_path, {}, {}, 1)
    if ends:
        with pytest.raises(
            UserError, match="end before they decode a photo: --workers may be too many"
        ):
            list(coming)
    else:
        assert len(list(coming)) == 2


def test_decoding_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 30)
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    process = subprocess.Popen([sys.executable, script, folder, tmp_path / "store"])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.parent.is_dir():
        process.kill()
        pytest.skip("this system does not list a process's children")
    until = time.monotonic() + 600
    while not list((tmp_path / "store").glob(".partial/cnn-*/*.npy")):
        assert time.monotonic() < until
        time.sleep(0.01)
    born = [int(pid) for pid in children.read_text().split()]
    process.kill()
    process.wait()
    assert born
    until = time.monotonic() + 20
    while any(_runs(pid) for pid in born):
        assert time.monotonic() < until
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


STARTING = """
import sys, time
from pathlib import Path
from jaxrank.extraction import workers
gone = Path(sys.argv[1])
while __name__ == "__mp_main__" and not gone.exists():
    time.sleep(0.01)
if __name__ == "__main__":
    context = workers._Context()
    lock = context.RLock()
    process = context.Process(target=print, args=(lock,))
    process.start()
    del lock
    gone.touch()
    process.join()
    print("ended with", process.exitcode)
"""


def test_a_process_whose_pool_is_stopped_while_it_starts_says_nothing(tmp_path: Path) -> None:
    script = tmp_path / "starting.py"
    script.write_text(STARTING)
    command = [sys.executable, str(script), str(tmp_path / "gone")]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert (done.stdout, done.stderr) == ("ended with 1\n", "")


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 40)
    script = tmp_path / "slow.py"
    script.write_text(
        SLOW.split("from jaxrank.extraction.photos")[0].replace("_EVERY = 0.0", "_EVERY = 1e9")
        + "from jaxrank.cli import main\n"
        + "if __name__ == '__main__':\n    sys.exit(main(sys.argv))\n"
    )
    words = [
        f"--photos={folder}", f"--features={tmp_path / 'store'}", "--blocks=cnn,iqa",
        "--cnn_model=test_resnet", "--cnn_weights=none",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, script, "extract", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    batches = 0
    while batches < 2:  # when the second begins, the first is done
        batches += b"batch" in process.stdout.readline()
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode() == "jaxrank: stopped; the same command resumes from here\n"
    # Nothing was due to be saved; stopping saved it.
    assert list((tmp_path / "store").glob(".partial/*/000000.npy"))
    found = extract(list_folder(folder), tmp_path / "store", SMALL)
    assert len(found.good) == 40
