"""Decoding: what a photo's file holds, upright, in sRGB; and what is said of broken files."""

import io
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from photo_files import (
    broken_photos,
    encoded,
    exif,
    jpeg,
    odd_photos,
    scene,
    swapped_profile,
)
from PIL import Image, ImageOps

from jaxrank.extraction import decoding
from jaxrank.extraction.decoding import SHORT_SIDE, UnreadablePhoto, decode, describe


@pytest.fixture(autouse=True)
def pillow_as_in_a_worker() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    decoding.prepare_pillow()
    yield
    Image.MAX_IMAGE_PIXELS = before


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data)[0]).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(orientation: int) -> None:
    stored = scene()
    data = encoded(stored, "PNG", exif=exif(orientation))
    image, info = decode(data)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert (info.width, info.height) == image.size
    assert describe(data) == info


def test_orientations_differ() -> None:
    turned = {pixels(encoded(scene(), "PNG", exif=exif(k))).tobytes() for k in range(1, 9)}
    assert len(turned) == 8


def test_time_and_camera_are_read() -> None:
    tags = exif(1, "2024:05:06 07:08:09", "25", "Model \x00X")
    _, info = decode(jpeg(exif=tags))
    assert info.taken == "2024:05:06 07:08:09.25"
    assert info.camera in ("Model X", "Model")
    assert decode(jpeg())[1][2:] == ("", "")


def test_large_photos_are_reduced_and_small_ones_are_not_enlarged() -> None:
    image, info = decode(jpeg(scene(0, 3000, 2000)))
    assert image.size == (round(3000 * SHORT_SIDE / 2000), SHORT_SIDE)
    assert (info.width, info.height) == (3000, 2000)
    assert decode(jpeg(scene()))[0].size == (96, 64)


def test_a_jpeg_decoded_at_half_its_size_looks_like_one_decoded_whole() -> None:
    large = scene(1, 4000, 3000)
    data = jpeg(large, quality=95)
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    drafted = Image.open(io.BytesIO(data))
    drafted.draft(None, (1536, 1152))
    assert drafted.size == (2000, 1500)  # else there is nothing to compare
    wanted = whole.resize((1024, SHORT_SIDE), Image.Resampling.BICUBIC)
    assert np.abs(pixels(data) - np.asarray(wanted)).mean() < 1


def test_16_bits_are_converted_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strips leave no seams, and no copy of the photo in 32 bits is made."""
    monkeypatch.setattr(decoding, "_STRIP_PIXELS", 7_000)
    deep = np.random.default_rng(0).integers(0, 65536, (700, 3000), np.uint16)
    data = encoded(Image.fromarray(deep), "PNG")
    tracemalloc.start()
    image, _ = decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(np.asarray(image)[..., 0], (deep.astype(np.float32) / 257).round())
    assert peak < 2 * deep.size + len(data)


def test_grey_16_bit_becomes_the_same_as_8_bit() -> None:
    grey = scene().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for format_ in ("PNG", "TIFF"):
        assert np.array_equal(pixels(encoded(deep, format_)), np.asarray(grey.convert("RGB"))), (
            format_
        )


def test_a_dark_16_bit_photo_stays_dark() -> None:
    dark = Image.fromarray(np.full((8, 8), 200, np.uint16))
    assert pixels(encoded(dark, "PNG")).max() == 1


def test_transparent_parts_become_white() -> None:
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    assert pixels(encoded(image, "PNG")).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    shades = Image.new("LA", (2, 1), (40, 255))
    shades.putpixel((1, 0), (40, 0))
    assert pixels(encoded(shades, "PNG"))[0, :, 0].tolist() == [40, 255]


def test_cmyk_is_not_inverted() -> None:
    assert np.abs(pixels(jpeg(scene().convert("CMYK"))) - np.asarray(scene())).mean() < 6


def test_colours_follow_the_profile() -> None:
    # A profile whose red is sRGB's green: what it calls pure red is pure green.
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    plain, swapped = (
        pixels(encoded(red, "PNG", icc_profile=profile))[0, 0]
        for profile in (None, swapped_profile())
    )
    assert plain.tolist() == [255, 0, 0]
    assert swapped[1] > 250
    assert swapped[0] < 5


def test_an_animation_gives_its_first_frame() -> None:
    first, second = scene(0).convert("P"), scene(1).convert("P")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert np.abs(pixels(data) - np.asarray(first.convert("RGB"))).mean() < 1


@pytest.mark.parametrize("name", odd_photos())
def test_odd_photos_are_read(name: str) -> None:
    image, info = decode(odd_photos()[name])
    assert image.mode == "RGB"
    assert describe(odd_photos()[name]) == info


@pytest.mark.parametrize(
    "name", ["cmyk.jpg", "lab.tif", "lossless.webp", "plain.jp2", "palette.png", "plain.heic"]
)
def test_odd_photos_look_like_the_plain_one(name: str) -> None:
    assert np.abs(pixels(odd_photos()[name]) - np.asarray(scene())).mean() < 12


@pytest.mark.parametrize("name", broken_photos())
def test_broken_photos_are_told(name: str) -> None:
    with pytest.raises(UnreadablePhoto) as caught:
        decode(broken_photos()[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "not an image in a known format"),
        ("script.jpg", "not an image in a known format"),
        ("bomb.png", "more than 250,000,000 pixels"),
        ("great_bomb.png", "more than 250,000,000 pixels"),
        ("half.jpg", "damaged (image file is truncated"),
        ("floats.tif", "floating-point"),
        ("unknown.heic", "not an image in a known format"),
    ],
)
def test_reasons(name: str, reason: str) -> None:
    with pytest.raises(UnreadablePhoto) as caught:
        decode(broken_photos()[name])
    assert str(caught.value).startswith(reason) or reason in str(caught.value)


def test_heic_without_its_reader_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(UnreadablePhoto, match="HEIC; pip install pillow-heif"):
        decode(odd_photos()["plain.heic"])


def test_there_are_enough_broken_and_odd_files() -> None:
    assert len(broken_photos()) >= 25
    assert len(odd_photos()) >= 25
