"""Small grey images of photos, and the likeness of two of them.

The difference hash is Krawetz's (2013), as `dhash` of ImageHash computes it. Its three lines are
written out here because ImageHash depends on PyWavelets.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft
from PIL import Image
from scipy.ndimage import gaussian_filter

# Longer side of a thumbnail, in pixels.
SIDE = 64
# Standard deviation, in pixels, of the Gaussian blur that is subtracted: brightness and its slow
# changes, such as a sky's, are alike in photos of different scenes.
_DETAIL = 4.0
# Standard deviation, in grey levels, below which an image has no detail to compare.
_FLAT = 2.0
# Least share of the frame that two photos have in common: for one framing, and for any overlap.
SAME_FRAMING, LEAST_OVERLAP = 0.6, 0.25


class Thumbnail(NamedTuple):
    """Grey image whose longer side is SIDE pixels; `pixels` has one byte per pixel, row by row."""

    width: int
    height: int
    pixels: bytes


class Alignment(NamedTuple):
    """Best alignment of two photos of one size.

    Attributes:
      same: highest correlation of their details over shifts that overlap by SAME_FRAMING or more.
      overlapping: highest correlation over shifts that overlap by LEAST_OVERLAP or more.
      right, down: movement of the second photo's frame at `overlapping`, in widths and heights.
    """

    same: float
    overlapping: float
    right: float
    down: float


def make_thumbnail(image: Image.Image) -> Thumbnail:
    grey = image.convert("L")
    scale = SIDE / max(grey.size)
    width, height = (max(1, round(side * scale)) for side in grey.size)
    small = grey.resize((width, height), Image.Resampling.BOX)
    return Thumbnail(width, height, small.tobytes())


def _image(thumbnail: Thumbnail) -> Image.Image:
    return Image.frombytes("L", (thumbnail.width, thumbnail.height), thumbnail.pixels)


def is_flat(thumbnail: Thumbnail) -> bool:
    """Whether a photo has no detail to compare, such as one taken with the lens cap on."""
    return float(np.frombuffer(thumbnail.pixels, np.uint8).std()) < _FLAT


def hash_distance(a: Thumbnail, b: Thumbnail) -> int:
    """Number of bits, of 64, in which the difference hashes differ."""
    return int(np.count_nonzero(difference_hash(a) != difference_hash(b)))


def difference_hash(thumbnail: Thumbnail) -> np.ndarray:
    """Whether each pixel of a 9 x 8 image is brighter than its left neighbour, bool [8, 8]."""
    small = np.asarray(_image(thumbnail).resize((9, 8), Image.Resampling.LANCZOS))
    return small[:, 1:] > small[:, :-1]


def align(a: Thumbnail, b: Thumbnail) -> Alignment:
    """Correlates the overlap of two photos of one size at every shift (Padfield 2012)."""
    height, width = a.height, a.width
    ones, count = _overlaps(height, width)
    one, other = _transforms(a), _transforms(b)
    sum_a, sum_b = _correlated(one.values, ones), _correlated(ones, other.values)
    both = _correlated(one.values, other.values) - sum_a * sum_b / count
    spread_a = _correlated(one.squares, ones) - sum_a**2 / count
    spread_b = _correlated(ones, other.squares) - sum_b**2 / count
    # In a flat overlap only rounding errors would correlate: the variances get a lower bound.
    flat = count * _FLAT**2 / 4
    correlation = both / np.sqrt(np.maximum(spread_a, flat) * np.maximum(spread_b, flat))
    overlap = count / (height * width)
    same = float(correlation[overlap >= SAME_FRAMING].max())
    fits = np.where(overlap >= LEAST_OVERLAP, correlation, -1.0)
    down, right = np.unravel_index(int(fits.argmax()), fits.shape)
    return Alignment(
        same,
        float(fits.max()),
        _signed(int(right), fits.shape[1]) / width,
        _signed(int(down), fits.shape[0]) / height,
    )


def _signed(shift: int, padded: int) -> int:
    """Signed shift; an index above half of the padded side is a shift in the other direction."""
    return shift - padded if shift > padded // 2 else shift


class _Transforms(NamedTuple):
    """Fourier transforms of a photo's details and of their squares."""

    values: np.ndarray
    squares: np.ndarray


@lru_cache(maxsize=4)  # a photo is compared with the one before it and the one after it
def _transforms(thumbnail: Thumbnail) -> _Transforms:
    grey = np.asarray(_image(thumbnail), np.float64)
    details = grey - gaussian_filter(grey, _DETAIL, mode="nearest")
    return _Transforms(_transform(details), _transform(details**2))


@lru_cache(maxsize=16)
def _overlaps(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Transform of a frame of ones, and the number of overlapping pixels per shift, at least 1."""
    ones = _transform(np.ones((height, width)))
    return ones, np.maximum(_correlated(ones, ones), 1.0)


def _transform(values: np.ndarray) -> np.ndarray:
    """Fourier transform, padded so that no shift wraps around."""
    return scipy.fft.rfft2(values, [_padded(side) for side in values.shape])


def _padded(side: int) -> int:
    """Padded length; it is even, so that the transform's length determines it."""
    return 2 * scipy.fft.next_fast_len(side, real=True)


def _correlated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of products at every shift of the second image, from two Fourier transforms."""
    rows, columns = a.shape
    return scipy.fft.irfft2(a * np.conj(b), (rows, 2 * (columns - 1)))
