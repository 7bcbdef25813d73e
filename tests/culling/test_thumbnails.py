"""Thumbnails: the hash, and where two photos fit on each other."""

import numpy as np
import pytest
from PIL import Image

from jaxrank.culling.thumbnails import (
    SIDE,
    Thumbnail,
    align,
    difference_hash,
    hash_distance,
    is_flat,
    make_thumbnail,
)


def texture(seed: int, width: int = 300, height: int = 200) -> Image.Image:
    """A picture with detail at several scales everywhere."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cells in (6, 12, 24, 48):
        coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(128 + 40 * total, 0, 255).astype(np.uint8)).convert("RGB")


def of_pixels(pixels: np.ndarray) -> Thumbnail:
    return make_thumbnail(Image.fromarray(pixels.astype(np.uint8)))


def test_a_thumbnail_has_its_photos_shape() -> None:
    assert make_thumbnail(texture(0))[:2] == (SIDE, 43)
    assert make_thumbnail(texture(0, 200, 300))[:2] == (43, SIDE)
    thin = make_thumbnail(Image.new("RGB", (5000, 1)))
    assert thin[:2] == (SIDE, 1)
    assert len(thin.pixels) == SIDE


def test_hashes_by_hand() -> None:
    """A grey wedge that brightens to the right has all bits, mirrored none."""
    wedge = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1))
    assert difference_hash(of_pixels(wedge)).all()
    assert not difference_hash(of_pixels(wedge[:, ::-1])).any()
    half = wedge.copy()
    half[SIDE // 2 :] = wedge[SIDE // 2 :, ::-1]
    assert hash_distance(of_pixels(wedge), of_pixels(half)) == 32


def test_flat_images_are_known() -> None:
    assert is_flat(of_pixels(np.full((64, 64), 7)))
    assert not is_flat(make_thumbnail(texture(0)))


@pytest.mark.parametrize(("right", "down"), [(0, 0), (45, 0), (-60, 10), (0, 40), (150, -20)])
def test_a_moved_frame_is_found(right: int, down: int) -> None:
    """Positive is where the second frame lies to the right of the first, and below it."""
    wide = texture(1, 700, 500)
    frames = [wide.crop((200 + x, 150 + y, 500 + x, 350 + y)) for x, y in ((0, 0), (right, down))]
    found = align(*map(make_thumbnail, frames))
    assert found.overlapping > 0.8
    assert found.right == pytest.approx(right / 300, abs=0.5 / 64)
    assert found.down == pytest.approx(down / 200, abs=0.5 / 43)
    assert (found.same > 0.8) == (abs(right) < 100)


def test_brightness_does_not_matter_and_another_scene_does() -> None:
    image = texture(2)
    dark = image.point(lambda value: value // 2)
    assert align(make_thumbnail(image), make_thumbnail(dark)).same > 0.99
    others = [align(make_thumbnail(image), make_thumbnail(texture(seed))) for seed in range(3, 13)]
    assert max(other.same for other in others) < 0.45


def test_correlations_are_in_their_range() -> None:
    """Also of hard edges and of images of which a part is flat."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (255 * (rng.random((43, 64)) < rng.random()) for _ in range(2))
        a[: rng.integers(43)] = 0
        found = align(of_pixels(a), of_pixels(b))
        assert -1.001 <= found.same <= found.overlapping <= 1.001
