"""Maker notes: the tags that say how the camera was released, and bytes of any kind."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrank.culling.maker_notes import FAR, MakerNote, read_maker_note

SHORT, SIGNED_SHORT, TEXT = 3, 8, 2


def directory(entries: list[tuple[int, int, Any]], order: str, base: int) -> bytes:
    """A TIFF directory whose longer values follow it; `base` is where it begins, for offsets."""
    letters = {SHORT: "H", SIGNED_SHORT: "h"}
    head, tail = struct.pack(order + "H", len(entries)), b""
    end = base + 2 + 12 * len(entries)
    for tag, kind, value in entries:
        if kind == TEXT:
            data, count = value, len(value)
        else:
            data, count = struct.pack(f"{order}{len(value)}{letters[kind]}", *value), len(value)
        head += struct.pack(order + "HHI", tag, kind, count)
        if len(data) <= 4:
            head += data.ljust(4, b"\0")
        else:
            head += struct.pack(order + "I", end + len(tail))
            tail += data
    return head + tail


def tiff(header: bytes, entries: list[tuple[int, int, Any]], order: str = "<") -> tuple[bytes, int]:
    """An EXIF block with a note at byte 20 whose offsets count from the block's beginning."""
    block = (b"II*\0" if order == "<" else b"MM\0*") + bytes(16)
    return block + header + directory(entries, order, 20 + len(header)), 20


def test_apple_bursts_share_an_id() -> None:
    head = b"Apple iOS\0\0\1MM"
    note = head + directory([(0x0B, TEXT, b"65A7DF0A-1F09\0")], ">", len(head))
    assert read_maker_note(bytes(30) + note, 30, "Apple") == MakerNote(burst_id="65A7DF0A-1F09")


@pytest.mark.parametrize(
    ("mode", "drive"),
    [(0, "single"), (1, "continuous"), (0x10, "exposure bracket"), (0x11, "exposure bracket"),
     (0x50, "single"), (0x110, "single")],
)  # fmt: skip
@pytest.mark.parametrize("order", "<>")
def test_nikon_has_a_header_of_its_own(mode: int, drive: str, order: str) -> None:
    own = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    note = b"Nikon\0\2\x10\0\0" + own + directory([(0x89, SHORT, [mode])], order, 8)
    assert read_maker_note(bytes(12) + note, 12, "NIKON").drive == drive


@pytest.mark.parametrize("order", "<>")
def test_sony_and_panasonic_say_brackets(order: str) -> None:
    block, start = tiff(b"SONY DSC \0\0\0", [(0xB049, SHORT, [5])], order)
    assert read_maker_note(block, start, "SONY").drive == "exposure bracket"
    block, start = tiff(b"Panasonic\0\0\0", [(1, SHORT, [2]), (0x2A, SHORT, [3])], order)
    assert read_maker_note(block, start, "Panasonic").drive == "focus bracket"
    block, start = tiff(b"Panasonic\0\0\0", [(0x2A, SHORT, [77])], order)
    assert read_maker_note(block, start, "Panasonic") == MakerNote()


def canon(drive: int, bracketing: int, far: int, near: int, newer: bool = False) -> MakerNote:
    settings, shot, info = [0] * 10, [0] * 30, [0] * 30
    settings[5], shot[16] = drive, bracketing
    if newer:
        info[20:22] = far, near
    else:
        shot[19:21] = far, near
    entries = [(tag, SIGNED_SHORT, v) for tag, v in ((1, settings), (4, shot), (0x93, info))]
    block, start = tiff(b"", entries)
    return read_maker_note(block, start, "Canon")


def test_canon_says_drive_bracketing_and_focus() -> None:
    assert canon(0, 0, 0, 0) == MakerNote("single")
    assert canon(5, 0, 219, 113) == MakerNote("continuous", "", 1.66)
    assert canon(5, 0, 219, 113, newer=True) == MakerNote("continuous", "", 1.66)
    assert canon(0, -1, 0, 0) == MakerNote("exposure bracket")
    assert canon(0, 0, -1, 400) == MakerNote("single", "", FAR)  # 65535 as a signed number


@given(st.binary(max_size=300), st.integers(0, 40), st.sampled_from(["Canon", "", "SONY"]))
def test_any_bytes_are_read(data: bytes, start: int, maker: str) -> None:
    heads = (b"", b"Apple iOS\0\0\1MM", b"Nikon\0\2\x10\0\0II*\0", b"SONY DSC \0\0\0",
             b"Panasonic\0\0\0")  # fmt: skip
    for head in heads:
        assert isinstance(read_maker_note(bytes(start) + head + data, start, maker), MakerNote)


def test_a_directory_that_claims_the_world_costs_nothing() -> None:
    entries = struct.pack("<H", 65535) + struct.pack("<HHII", 1, 3, 2**32 - 1, 0) * 3
    assert read_maker_note(b"II*\0" + entries, 4, "Canon") == MakerNote()
