"""RAW files: the preview in them, by rawpy or exiftool; what is said where neither is there."""

import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import jpeg, scene

from jaxrank.extraction import raw_previews
from jaxrank.extraction.decoding import UnreadablePhoto, decode
from jaxrank.extraction.photos import Photo, read_photo


@pytest.fixture
def raw(tmp_path: Path) -> Photo:
    (tmp_path / "a.CR2").write_bytes(b"RAW" + bytes(100))
    return Photo("a.CR2", tmp_path / "a.CR2")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with programs, and no rawpy."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    return folder


def program(folder: Path, body: str) -> None:
    path = folder / "exiftool"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_without_a_reader_the_reason_says_what_to_install(raw: Photo, tools: Path) -> None:
    with pytest.raises(
        UnreadablePhoto, match="RAW; its preview needs pip install rawpy, or exiftool"
    ):
        read_photo(raw, raw.path.parent)


def test_exiftool_gives_the_largest_preview(raw: Photo, tools: Path) -> None:
    (tools / "preview").write_bytes(jpeg(scene(3)))
    asked = tools / "asked"
    copy = f'[ "$2" = -PreviewImage ] && exec /bin/cat "{tools}/preview"'
    program(tools, f'echo "$@" >> "{asked}"\n{copy}\nexit 0')
    data = read_photo(raw, raw.path.parent)
    assert data == jpeg(scene(3))
    assert decode(data)[1].width == 96
    assert asked.read_text().splitlines() == [
        f"-b -JpgFromRaw {raw.path}",
        f"-b -PreviewImage {raw.path}",
    ]


def test_an_exiftool_that_finds_none_or_never_ends(
    raw: Photo, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tools, "exit 1")
    with pytest.raises(UnreadablePhoto, match="no preview in the RAW file"):
        read_photo(raw, raw.path.parent)
    monkeypatch.setattr(raw_previews, "_TIMEOUT_SECONDS", 0.2)
    program(tools, "exec /bin/sleep 30")
    with pytest.raises(UnreadablePhoto, match=r"exiftool had not ended after 0\.2 seconds"):
        read_photo(raw, raw.path.parent)


def test_a_name_like_an_option_is_a_path(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-delete_original.nef").write_bytes(b"RAW")
    program(tools, 'echo "$3"')
    given = raw_previews.read_preview(Path("-delete_original.nef"))
    assert given.decode().strip() == os.fspath(tmp_path / "-delete_original.nef")


class FakeRaw:
    """What rawpy opens; `preview` is what extract_thumb gives, or an error."""

    preview: Any

    def __enter__(self) -> "FakeRaw":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def extract_thumb(self) -> Any:
        if isinstance(self.preview, Exception):
            raise self.preview
        return self.preview


@pytest.fixture
def rawpy(tools: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = types.ModuleType("rawpy")
    module.ThumbFormat = types.SimpleNamespace(JPEG="jpeg", BITMAP="bitmap")
    module.LibRawError = type("LibRawError", (Exception,), {})
    module.imread = lambda path: FakeRaw()
    monkeypatch.setitem(sys.modules, "rawpy", module)
    return module


def test_rawpy_gives_a_jpeg_or_pixels(raw: Photo, rawpy: Any) -> None:
    FakeRaw.preview = types.SimpleNamespace(format="jpeg", data=jpeg(scene(4)))
    assert read_photo(raw, raw.path.parent) == jpeg(scene(4))
    pixels = np.asarray(scene(5))
    FakeRaw.preview = types.SimpleNamespace(format="bitmap", data=pixels)
    image, _ = decode(read_photo(raw, raw.path.parent))
    assert np.array_equal(np.asarray(image), pixels)


def test_what_rawpy_can_not_read_exiftool_may(raw: Photo, rawpy: Any, tools: Path) -> None:
    FakeRaw.preview = rawpy.LibRawError("no thumbnail")
    with pytest.raises(UnreadablePhoto, match=r"no preview in the RAW file \(no thumbnail\)"):
        read_photo(raw, raw.path.parent)
    program(tools, "echo preview")
    assert read_photo(raw, raw.path.parent) == b"preview\n"
