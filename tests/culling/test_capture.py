"""How a photo was taken, from EXIF, XMP and names; absurd values count as not said."""

import io
from functools import partial
from typing import Any

import pytest
from photo_files import encoded, jpeg, scene
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from jaxrank.culling.capture import Capture, read_capture
from jaxrank.culling.maker_notes import FAR
from jaxrank.extraction.decoding import read_image

MAKER, MODEL, DATE, IFD = 0x010F, 0x0110, 0x0132, 0x8769
TAKEN, SUBSECOND, OFFSET, SERIAL = 0x9003, 0x9291, 0x9011, 0xA431
BIAS, SECONDS, F_NUMBER, ISO, DISTANCE, MODE = 0x9204, 0x829A, 0x829D, 0x8827, 0x9206, 0xA402
MAKER_NOTE = 0x927C
NOON = 1704103200.0  # 2024-01-01 10:00:00


def tagged(outer: dict[int, Any] | None = None, inner: dict[int, Any] | None = None) -> Image.Exif:
    tags = Image.Exif()
    tags.update(outer or {})
    tags.get_ifd(IFD).update(inner or {})
    return tags


def read(data: bytes, name: str = "a.jpg") -> Capture:
    return read_image(partial(read_capture, name=name), data)


def capture(tags: Image.Exif, name: str = "a.jpg", **options: Any) -> Capture:
    return read(jpeg(exif=tags, **options), name)


def test_everything_that_exif_says() -> None:
    inner = {
        TAKEN: "2024:01:01 10:00:00", SUBSECOND: "25", OFFSET: "+02:00", SERIAL: "0012",
        BIAS: IFDRational(-2, 3), SECONDS: IFDRational(1, 125), F_NUMBER: IFDRational(28, 10),
        ISO: 400, DISTANCE: IFDRational(15, 10), MODE: 1,
    }  # fmt: skip
    found = capture(tagged({MAKER: "Maker", MODEL: "M1", DATE: "2025:01:01 10:00:00"}, inner))
    assert found == Capture(
        time=NOON + 0.25 - 7200,
        has_offset=True,
        camera="Maker M1 0012",
        manual=True,
        exposure_bias=-2 / 3,
        exposure_seconds=1 / 125,
        f_number=2.8,
        iso=400.0,
        focus_distance=1.5,
    )


def test_a_photo_that_says_nothing() -> None:
    assert read_capture(scene(), "a.png") == Capture()


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_other_formats_say_it_too(format_: str) -> None:
    tags = tagged({MODEL: "M1"}, {TAKEN: "2024:01:01 10:00:00", BIAS: IFDRational(-1, 1)})
    data = encoded(scene(), format_, exif=tags.tobytes())
    found = read(data)
    assert (found.time, found.camera, found.exposure_bias) == (NOON, "M1", -1.0)


@pytest.mark.parametrize(
    ("tag", "value", "field", "expected"),
    [
        (TAKEN, "0000:00:00 00:00:00", "time", None),
        (TAKEN, "\0\0", "time", None),
        (OFFSET, "+99:00", "has_offset", False),
        (OFFSET, "   :  ", "has_offset", False),
        (BIAS, IFDRational(1, 0), "exposure_bias", None),
        (BIAS, IFDRational(1000, 1), "exposure_bias", None),
        (BIAS, "text", "exposure_bias", None),
        (SECONDS, IFDRational(0, 1), "exposure_seconds", None),
        (ISO, (200, 0), "iso", 200.0),
        (DISTANCE, IFDRational(0, 1), "focus_distance", None),
        (DISTANCE, IFDRational(4294967295, 1), "focus_distance", FAR),
        (MODE, 2, "drive", "exposure bracket"),
        (SERIAL, "x" * 10_000, "camera", "x" * 100),
        (SERIAL, "a\x1b[31mb", "camera", "a[31mb"),
    ],
)
def test_absurd_values_count_as_not_said(tag: int, value: Any, field: str, expected: Any) -> None:
    tags = tagged({}, {TAKEN: "2024:01:01 10:00:00", tag: value})
    assert getattr(read(jpeg(exif=tags)), field) == expected


def test_damaged_exif_says_nothing() -> None:
    data = jpeg(exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read(data) == Capture()


def test_a_maker_note_is_found_in_the_exif_block() -> None:
    note = b"Panasonic\0\0\0" + b"\1\0" + b"\x2a\0\3\0\1\0\0\0\3\0\0\0"
    tags = tagged({MAKER: "Panasonic"}, {MAKER_NOTE: note})
    assert capture(tags).drive == ""  # Pillow writes high byte first, this note is low byte first
    note = b"Panasonic\0\0\0" + b"\0\1" + b"\0\x2a\0\3\0\0\0\1\0\3\0\0"
    tags = tagged({MAKER: "Panasonic"}, {MAKER_NOTE: note})
    tags.endian = ">"
    assert {capture(tags).drive for tags in (tags,)} == {"focus bracket"}


def test_xmp_names_the_burst() -> None:
    element = b"<x:xmpmeta><GCamera:BurstID>ab-12</GCamera:BurstID></x:xmpmeta>"
    attribute = b'<x:xmpmeta><rdf:Description GCamera:BurstID="cd.34"/></x:xmpmeta>'
    assert capture(tagged(), xmp=element).burst_id == "ab-12"
    assert capture(tagged(), xmp=attribute).burst_id == "cd.34"
    assert capture(tagged(), xmp=attribute[:45]).burst_id == ""


@pytest.mark.parametrize(
    ("name", "burst_id"),
    [
        ("00001IMG_00001_BURST20171111030039.jpg", "BURST20171111030039"),
        ("x/00000IMG_00000_BURST20171111030039_COVER.jpg", "BURST20171111030039"),
        ("DSC_0001_BURST20230709220904977.JPG", "BURST20230709220904977"),
        ("IMG_20231014_183246_BURST001_COVER.jpg", "IMG_20231014_183246"),
        ("PXL_20250417_131910377.BURST-01.COVER.jpg", "PXL_20250417_131910377"),
        ("20231207_101605_001.jpg", "20231207_101605"),
        ("20231207_101605.jpg", ""),
        ("IMG_0001.jpg", ""),
        ("BURST.jpg", ""),
    ],
)
def test_names_of_bursts(name: str, burst_id: str) -> None:
    assert read_capture(scene(), name).burst_id == burst_id


def test_a_raw_file_of_tiff_kind_says_it_itself() -> None:
    tags = tagged({MODEL: "R1"}, {TAKEN: "2024:01:01 10:00:00"})
    head = encoded(scene(), "TIFF", exif=tags.tobytes())
    found = read_capture(scene(), "a.nef", head)
    assert (found.time, found.camera) == (NOON, "R1")
    preview = Image.open(
        io.BytesIO(jpeg(exif=tagged({MODEL: "P"}, {TAKEN: "2024:01:01 10:00:01"})))
    )
    assert read_capture(preview, "a.nef", b"unknown" * 9).time == NOON + 1


@pytest.mark.parametrize("magic", [b"IIRO", b"IIU\0", b"FUJIFILMCCD-RAW 0201" + bytes(99)])
def test_other_raw_files_say_it_with_other_beginnings(magic: bytes) -> None:
    tags = tagged({MODEL: "R1"}, {TAKEN: "2024:01:01 10:00:00", BIAS: IFDRational(-1, 1)})
    if magic.startswith(b"II"):
        head = magic + encoded(scene(), "TIFF", exif=tags.tobytes())[4:]
    else:
        head = magic + jpeg(exif=tags)
    assert read_capture(scene(), "a.orf", head).exposure_bias == -1.0


def test_a_cr3_file_has_its_tags_in_boxes() -> None:
    def box(name: bytes, tags: Image.Exif) -> bytes:
        content = tags.tobytes().removeprefix(b"Exif\0\0")
        return (len(content) + 8).to_bytes(4, "big") + name + content

    outer, inner = Image.Exif(), Image.Exif()
    outer[MAKER], outer[MODEL] = "Canon", "R5"
    inner[TAKEN], inner[SUBSECOND] = "2024:01:01 10:00:00", "5"
    head = b"\0\0\0\x18ftypcrx " + bytes(12) + box(b"CMT1", outer) + box(b"CMT2", inner)
    found = read_capture(scene(), "a.cr3", head)
    assert (found.time, found.camera) == (NOON + 0.5, "Canon R5")
    for cut in range(0, len(head), 7):
        read_capture(scene(), "a.cr3", head[:cut])
    assert read_capture(scene(), "a.cr3", head.replace(b"MM\0*", b"\xff" * 4)) == Capture()
