"""What is in the place of a file is looked at before it is opened."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxrank.data import importers
from jaxrank.data.feature_store import map_npy, open_feature_store
from jaxrank.data.preferences import read_preferences
from jaxrank.errors import UserError
from jaxrank.inference.saved_model import load_model
from jaxrank.io import documents, reading, tables
from jaxrank.runner.device_profile import read_device_profile

CSV = b"series_id,image_a,image_b,preference\n1,a,b,0.9\n"


@contextmanager
def no_end_is_waited_for(path: Path) -> Iterator[None]:
    """Should a reader open a pipe after all, it gets an end of file after five seconds."""

    def close() -> None:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    timer = threading.Timer(5, close)
    timer.start()
    try:
        yield
        assert timer.is_alive(), "a reader waited for the pipe"
    finally:
        timer.cancel()


def names_of(path: Path) -> Path:
    (path.parent / "names.txt").write_text("a\nb\n")
    return path.parent / "names.txt"


READERS: dict[str, Callable[[Path], object]] = {
    "array.npy": lambda path: importers.read_block_npy(path, names_of(path), block="x"),
    "mapped.npy": lambda path: map_npy(path, ""),
    "vectors.safetensors": lambda path: importers.read_block_safetensors(path, block="x"),
    "manifest.json": lambda path: open_feature_store(path.parent),
    "model.json": lambda path: load_model(path.parent),
    "profile.json": read_device_profile,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_no_reader_waits_for_what_is_not_a_file(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        server = socket.socket(socket.AF_UNIX)
        os.chdir(tmp_path)  # a socket's path is short
        server.bind(name)
        server.close()
    with no_end_is_waited_for(path), pytest.raises(UserError) as error:
        READERS[name](path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_document_that_is_a_pipe_raises_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with (
        no_end_is_waited_for(tmp_path / "x.json"),
        pytest.raises(OSError, match="it is a named pipe, not a file"),
    ):
        documents.read_json(tmp_path / "x.json")


def test_devices_are_refused() -> None:
    with pytest.raises(UserError, match="it is a device, not a file"):
        tables.read_table("/dev/zero")


def test_a_table_may_come_through_a_pipe(tmp_path: Path) -> None:
    """As the shell's <(command) gives it."""
    path = tmp_path / "pairs"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(CSV,))
    writer.start()
    assert len(read_preferences(path).table) == 1
    writer.join()


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "pairs.txt"])
def test_a_table_that_memory_has_no_room_for_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(reading, "available_bytes", lambda: 3e9)
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(8 * 10**9)  # sparse: it takes no room on the disk
    with pytest.raises(UserError) as error:
        read_preferences(path)
    assert str(error.value) == (
        f"{path}: can't be read (8,000 MB; the free memory has room for a file of 200 MB)"
    )


def test_an_endless_pipe_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "available_bytes", lambda: 45e6)
    read, write = os.pipe()

    def pour() -> None:
        with os.fdopen(write, "wb") as file:
            try:
                while True:
                    file.write(b"1,2,3,4\n" * 10_000)
                    file.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), write)  # for what is left to flush

    writer = threading.Thread(target=pour)
    writer.start()
    with pytest.raises(UserError, match="room for a file of 3 MB"):
        tables.read_csv(f"/dev/fd/{read}")
    os.close(read)
    writer.join()


def test_documents_and_archives_that_memory_has_no_room_for_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "available_bytes", lambda: 3e9)
    for name in ("profile.json", "x.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(8 * 10**9)
    with pytest.raises(UserError, match="8,000 MB; the free memory has room"):
        read_device_profile(tmp_path / "profile.json")
    with pytest.raises(UserError, match="8,000 MB; the free memory has room"):
        importers.read_block_safetensors(tmp_path / "x.safetensors", block="x")
