"""Sidecars and photos whose XMP is damaged, forged, endless or elsewhere: left as they are."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from attack import case, fifo_left_alone, little_memory, sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from xmp_files import LIGHTROOM, packet

from jaxrank.culling import xmp
from jaxrank.culling.sidecars import read_marks, write_marks
from jaxrank.culling.xmp import BadXmp

GOOD = LIGHTROOM.replace("$A", "").replace("$E", "").encode()
BOMB = (
    "<!DOCTYPE x ["
    + '<!ENTITY a0 "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    + "]>"
)


def bad_sidecars() -> dict[str, bytes]:
    rated = packet("xmp:Label='&a9;'")
    return {
        "empty": b"",
        "blank": b"\n \n",
        "zeros": bytes(4096),
        "page": b"<html><body>404</body></html>",
        "cut": GOOD[: len(GOOD) // 2],
        "two roots": GOOD + GOOD,
        "no description": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
        "bomb": BOMB.encode() + rated,
        "bomb in UTF-16": (BOMB + rated.decode()).encode("utf-16"),
        "entity of a file": b'<!DOCTYPE x [<!ENTITY a9 SYSTEM "file:///etc/passwd">]>' + rated,
        "parameter entity": b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]>' + rated,
        "document type elsewhere": b'<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd">' + packet(""),
        "undeclared entity": rated,
        "deep": b"<a>" * 100_000,
        "deep XMP": packet("").replace(b"<rdf:RDF", b"<b>" * 300 + b"<rdf:RDF"),
        "long text": packet(f'xmp:Nickname="{"x" * 11_000_000}"'),
        "not UTF-8": packet("xmp:Label='\xe4'").decode().encode("latin-1"),
        "latin-1 by declaration": b"<?xml version='1.0' encoding='ISO-8859-1'?>"
        + packet("xmp:Nickname='\xe4'").decode().encode("latin-1"),
        "unknown encoding": b"<?xml version='1.0' encoding='EBCDIC-XY'?>" + packet(""),
        "UTF-16": packet("").decode().encode("utf-16"),
        "zero byte": packet("xmp:Label='a\0b'"),
        "unknown prefix": packet("nobody:Label='a'"),
        "twice": packet('xmp:Rating="0" xmp:Rating="3"'),
        "structure": packet("").replace(
            b"/></rdf:RDF>",
            b'><xmp:Rating rdf:parseType="Resource"><rdf:value>0</rdf:value></xmp:Rating>'
            b"</rdf:Description></rdf:RDF>",
        ),
        "relative namespace": packet("").replace(b"<rdf:RDF", b'<rdf:RDF xmlns:n="here"'),
        "root in a comment behind": packet("") + b"<!-- </x:xmpmeta> -->",
    }


@pytest.mark.parametrize("name", bad_sidecars())
def test_a_sidecar_that_is_none_is_left(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    data = bad_sidecars()[name]
    path.write_bytes(data)
    written = write_marks(path, rating=5, label="Green")
    assert written.outcome == "left"
    assert written.reason.isprintable()
    assert len(written.reason) < 200
    assert path.read_bytes() == data
    assert sorted(os.listdir(tmp_path)) == ["a.xmp", "cwd"]


@pytest.mark.parametrize(
    "name",
    ["bomb", "bomb in UTF-16", "entity of a file", "parameter entity", "document type elsewhere"],
)
def test_no_entity_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    path.write_bytes(bad_sidecars()[name])
    with pytest.raises(BadXmp):
        read_marks(path)


def test_an_encoding_that_is_not_changed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    path.write_bytes(packet("xmp:Label='\xe4'").decode().encode("utf-16"))
    assert read_marks(path).label == "\xe4"
    assert "only UTF-8 files are changed" in write_marks(path, rating=5).reason


def test_100_megabytes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    sparse(path, head=packet("")[:-20])
    with little_memory(256 << 20):
        assert "more than 16 MB" in write_marks(path, rating=5).reason
        with pytest.raises(BadXmp, match="more than 16 MB"):
            read_marks(path)
    photo = tmp_path / "a.jpg"
    sparse(photo, head=b"\xff\xd8" + packet('xmp:Rating="3"'))
    with little_memory(256 << 20):
        assert read_marks(photo).rating == 3


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "link as a backup"])
def test_nothing_is_written_where_a_link_leads(kind: str, tmp_path: Path) -> None:
    outside, path = tmp_path / "outside.xmp", tmp_path / "a.xmp"
    outside.write_bytes(GOOD)
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(GOOD)
        (tmp_path / "a.xmp.bak").symlink_to(outside)
    outcome = write_marks(path, rating=5).outcome
    assert outcome == ("merged" if kind == "link as a backup" else "left")
    assert outside.read_bytes() == GOOD
    assert not (tmp_path / "nowhere").exists()


def test_a_named_pipe_is_left_alone(tmp_path: Path) -> None:
    for name in ("a.xmp", "a.jpg"):
        with fifo_left_alone(tmp_path / name):
            with pytest.raises(BadXmp, match="named pipe"):
                read_marks(tmp_path / name)
            if name == "a.xmp":
                assert write_marks(tmp_path / name, rating=5).outcome == "left"


def test_a_full_disk_leaves_the_sidecar_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.xmp"
    path.write_bytes(GOOD)

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_marks(path, rating=5)
    assert path.read_bytes() == GOOD
    assert sorted(os.listdir(tmp_path)) == ["a.xmp", "cwd"]


@pytest.mark.parametrize(
    "data",
    [
        case("many starts", b"<x:xmpmeta " * 700_000),
        case("many packets", packet("") * 20_000),
        case("many damaged packets", b"<x:xmpmeta ></x:xmpmeta>" * 300_000),
        case("bomb", BOMB.encode() + packet("xmp:Label='&a9;'")),
    ],
)
def test_a_photo_with_endless_packets_is_answered(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8" + data)
    with contextlib.suppress(BadXmp):
        assert read_marks(path).rating is None


@pytest.mark.fuzz
@settings(settings.get_profile(f"hostile-{os.environ.get('JAXRANK_FUZZ', 'short')}"))
@given(data=st.data())
def test_bytes_changed_at_random_are_left_or_merged(data: Any) -> None:
    damaged = bytearray(GOOD)
    for place in data.draw(st.lists(st.integers(0, len(GOOD) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    before = bytes(damaged)
    try:
        after = xmp.with_marks(before, 5, "Green", "2026-11-30")
    except BadXmp:
        return
    if after is not None:
        assert xmp.read_packet(after)[:2] != xmp.read_packet(before)[:2]
        assert xmp._without_marks(after) == xmp._without_marks(before)
