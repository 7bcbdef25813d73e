"""Image-quality numbers, against arithmetic by hand on tiny images."""

import numpy as np
import pytest
from PIL import Image

from jaxrank.extraction import iqa

CORNER = np.array([[0, 0], [0, 255]], np.float32)
# Its Laplacian with repeated edges: 0, 255, 255, 2 * 255 - 4 * 255 = -510, whose mean is 0.
CORNER_VARIANCE = (255**2 + 255**2 + 510**2) / 4


def grey(luma: np.ndarray) -> Image.Image:
    return Image.fromarray(luma.astype(np.uint8)).convert("RGB")


def test_the_laplacian_sees_repeated_edges() -> None:
    assert iqa.laplacian_of(CORNER).tolist() == [[0, 255], [255, -510]]


def test_sharpness_is_the_logarithm_of_the_laplacians_variance() -> None:
    assert iqa.sharpness(CORNER) == pytest.approx(np.log(1 + CORNER_VARIANCE))
    assert iqa.sharpness(np.full((4, 5), 7, np.float32)) == 0


def test_exposure_is_half_unclipped_share_and_half_entropy() -> None:
    # Three of four pixels in one bin: 0.75 log2(4/3) + 0.25 log2(4) bits of 8, all pixels clipped.
    entropy = 0.75 * np.log2(4 / 3) + 0.25 * 2
    assert iqa.exposure(CORNER) == pytest.approx(0.5 * entropy / 8)
    assert iqa.exposure(np.array([[5.0, 6.0, 249.0, 250.0]])) == pytest.approx(0.25 + 0.5 * 2 / 8)


def test_colorfulness_of_a_red_and_a_blue_pixel() -> None:
    # rg = 255, 0; yb = 127.5, -255.
    rgb = np.array([[[255, 0, 0], [0, 0, 255]]], np.float32)
    expected = np.hypot(127.5, 191.25) + 0.3 * np.hypot(127.5, 63.75)
    assert iqa.colorfulness(rgb) == pytest.approx(expected)
    assert iqa.colorfulness(np.full((3, 3, 3), 90, np.float32)) == 0


def test_contrast_is_the_deviation_over_the_mean() -> None:
    # Mean 255/4, mean square 255^2/4: the deviation is sqrt(3) times the mean.
    assert iqa.contrast(CORNER) == pytest.approx(np.sqrt(3))
    assert iqa.contrast(np.zeros((2, 2), np.float32)) == 0


def test_classic_numbers_are_clipped_and_default_ones_are_not() -> None:
    classic, default = (iqa.measure(grey(CORNER), kind) for kind in ("classic", "default"))
    entropy = 0.75 * np.log2(4 / 3) + 0.25 * 2
    np.testing.assert_allclose(classic, [1, 0.5 * entropy / 8, 0, 1], rtol=1e-5)
    np.testing.assert_allclose(
        default, [np.log(1 + CORNER_VARIANCE), 0.5 * entropy / 8, 0, np.sqrt(3)], atol=2e-5
    )


def test_classic_numbers_below_their_limits_are_scaled() -> None:
    soft = np.array([[100, 104], [104, 108]])
    # The Laplacian is 8, 0, 0, -8 with repeated edges: variance 32; deviation sqrt(8), mean 104.
    np.testing.assert_allclose(
        iqa.measure(grey(soft), "classic")[[0, 3]],
        [32 / 1000, np.sqrt(8) / 104 / 0.8],
        rtol=1e-4,
    )


def test_halving_takes_means_of_four_and_leaves_an_odd_edge() -> None:
    assert iqa.halved(np.array([[0.0, 4.0, 9.0], [8.0, 12.0, 9.0]])).tolist() == [[6.0]]
    assert iqa.halved(np.array([[3.0]])).tolist() == [[3.0]]


def test_the_sharpest_tile_finds_a_sharp_place_on_a_soft_ground() -> None:
    luma = np.zeros((64, 64), np.float32)
    luma[8:16:2, 8:16:2] = 200
    laplacian = iqa.laplacian_of(luma)
    tile = laplacian[8:16, 8:16]
    assert iqa.sharpest_tile(laplacian) == pytest.approx(np.log1p(tile.var()), rel=1e-5)
    assert iqa.sharpest_tile(laplacian) > iqa.sharpness(luma) + 3


def test_noise_of_one_bright_pixel_and_of_gaussian_noise() -> None:
    dot = np.zeros((3, 3), np.float32)
    dot[1, 1] = 1
    # Its responses are the mask itself: 4 + 4 * 2 + 4 * 1 = 16 over nine places.
    assert iqa.noise(dot) == pytest.approx(np.sqrt(np.pi / 2) / 6 * 16 / 9)
    drawn = np.random.default_rng(0).normal(128, 10, (300, 300)).astype(np.float32)
    assert iqa.noise(drawn) == pytest.approx(10, rel=0.03)


def test_blur_points_where_a_photo_varies_least() -> None:
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    np.testing.assert_allclose(iqa.blur_direction(ramp), (-1, 0), atol=1e-6)  # upright: 2a = 180
    np.testing.assert_allclose(iqa.blur_direction(ramp.T), (1, 0), atol=1e-6)
    # x + y grows along the diagonal and is constant across it, at -45 or 135 degrees.
    np.testing.assert_allclose(iqa.blur_direction(ramp + ramp.T), (0, -1), atol=1e-6)
    assert iqa.blur_direction(np.ones((5, 5), np.float32)) == (0, 0)


def test_over_and_underexposed_shares() -> None:
    numbers = iqa.measure(grey(np.array([[0, 5, 6, 128, 249, 250, 255, 255]])), "extended")
    named = dict(zip(iqa.COLUMNS["extended"], numbers, strict=True))
    assert named["overexposed"] == pytest.approx(3 / 8)
    assert named["underexposed"] == pytest.approx(2 / 8)


@pytest.mark.parametrize("kind", ["default", "classic", "extended"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 1), (7, 5)])
def test_photos_of_any_size_have_finite_numbers(kind: iqa.Kind, size: tuple[int, int]) -> None:
    numbers = iqa.measure(Image.new("RGB", size, (0, 0, 0)), kind)
    assert numbers.shape == (len(iqa.COLUMNS[kind]),)
    assert np.isfinite(numbers).all()
