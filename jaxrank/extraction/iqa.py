"""Image-quality numbers of a photo.

All are computed from the upright photo, its shorter side reduced to `decoding.SHORT_SIDE` pixels.
Unless noted otherwise they use the luma Y = 0.299 R + 0.587 G + 0.114 B in [0, 255] (ITU-R BT.601).
Differences at the border repeat the edge pixels.
"""

from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from jaxrank.extraction.decoding import SHORT_SIDE
from jaxrank.extraction.extractors import Extractor, Options

# Set of numbers: jaxrank's own; the clipped ones of older work; jaxrank's own and more.
Kind: TypeAlias = Literal["default", "classic", "extended"]

_BASIC = ("sharpness", "exposure", "colorfulness", "contrast")
_MORE = ("sharpness_half", "sharpness_quarter", "sharpness_tile", "noise", "overexposed",
    "underexposed", "blur_cos", "blur_sin")  # fmt: skip
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "default": _BASIC,
    "classic": _BASIC,
    "extended": _BASIC + _MORE,
}
# Luma that counts as clipped: from the first value up, and from the second value down.
_OVEREXPOSED, _UNDEREXPOSED = 250, 5
# Number of tiles per side, for the sharpness of the sharpest tile.
_TILES = 8


def make_extractor(options: Options) -> Extractor:
    kind: Kind = options.value("iqa")
    return Extractor(
        columns=COLUMNS[kind],
        recipe={"numbers": kind, "version": 1},
        source=f"image-quality numbers ({kind}) at {SHORT_SIDE} pixels",
        caveat="",
        view=partial(measure, kind=kind),
        encode=np.asarray,
        batch=64,
    )


def measure(image: Image.Image, kind: Kind) -> np.ndarray:
    """Computes the numbers of an RGB image, float32 [columns], in the order of `COLUMNS[kind]`."""
    rgb = np.asarray(image, np.float32)
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    laplacian = laplacian_of(luma)
    variance = float(laplacian.var(dtype=np.float64))
    numbers = [variance, exposure(luma), colorfulness(rgb), contrast(luma)]
    if kind == "classic":
        scales = (1000.0, 1.0, 100.0, 0.8)
        numbers = [min(value / scale, 1.0) for value, scale in zip(numbers, scales, strict=True)]
    else:
        numbers[0] = float(np.log1p(variance))
    if kind == "extended":
        numbers += [
            sharpness(halved(luma)),
            sharpness(halved(halved(luma))),
            sharpest_tile(laplacian),
            noise(luma),
            float(np.mean(levels_of(luma) >= _OVEREXPOSED)),
            float(np.mean(levels_of(luma) <= _UNDEREXPOSED)),
            *blur_direction(luma),
        ]
    return np.array(numbers, np.float32)


def laplacian_of(luma: np.ndarray) -> np.ndarray:
    """Laplacian [H, W]: the sum of the four neighbours minus four times the pixel."""
    p = np.pad(luma, 1, mode="edge")
    return p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * luma


def levels_of(luma: np.ndarray) -> np.ndarray:
    """Y rounded to whole numbers, since the luma of a grey pixel has rounding errors."""
    return np.rint(luma).astype(np.intp)


def sharpness(luma: np.ndarray) -> float:
    """Sharpness: ln(1 + variance of the Laplacian).

    Pech-Pacheco et al. (2000) use the variance without logarithm. The logarithm turns equal ratios
    into equal steps. Nothing is clipped, so photos don't tie.
    """
    return float(np.log1p(laplacian_of(luma).var(dtype=np.float64)))


def exposure(luma: np.ndarray) -> float:
    """Quality of the exposure in [0, 1]: mean of the unclipped share and the scaled entropy of Y.

    The unclipped share is the share of pixels with 5 < Y < 250. The entropy is that of Y's
    histogram (256 bins), as a share of its largest value, 8 bits.
    """
    levels = levels_of(luma)
    counts = np.bincount(levels.ravel(), minlength=256)
    share = counts[counts > 0] / luma.size
    entropy = float(-(share * np.log2(share)).sum())
    unclipped = float(np.mean((levels > _UNDEREXPOSED) & (levels < _OVEREXPOSED)))
    return 0.5 * unclipped + 0.5 * max(entropy, 0.0) / 8


def colorfulness(rgb: np.ndarray) -> float:
    """Colourfulness M of Hasler and Suesstrunk (2003), equation 6.

    M = sqrt(s_rg^2 + s_yb^2) + 0.3 sqrt(m_rg^2 + m_yb^2), with means m and standard deviations s of
    rg = R - G and yb = (R + G)/2 - B.
    """
    red, green, blue = np.moveaxis(rgb, -1, 0)
    rg, yb = red - green, 0.5 * (red + green) - blue
    deviation = np.hypot(rg.std(dtype=np.float64), yb.std(dtype=np.float64))
    mean = np.hypot(rg.mean(dtype=np.float64), yb.mean(dtype=np.float64))
    return float(deviation + 0.3 * mean)


def contrast(luma: np.ndarray) -> float:
    """RMS contrast: standard deviation of Y over its mean (Peli 1990); 0 for a black image."""
    mean = luma.mean(dtype=np.float64)
    return float(luma.std(dtype=np.float64) / mean) if mean > 0 else 0.0


def halved(luma: np.ndarray) -> np.ndarray:
    """Means of blocks of 2 x 2 pixels; a side of one pixel stays."""
    for axis in (0, 1):
        even = luma.shape[axis] // 2 * 2
        if even:
            first, second = (luma.take(range(k, even, 2), axis) for k in (0, 1))
            luma = 0.5 * (first + second)
    return luma


def sharpest_tile(laplacian: np.ndarray) -> float:
    """Sharpness of the sharpest of 8 x 8 tiles, for a sharp subject before a soft background."""
    rows = np.array_split(laplacian, min(_TILES, laplacian.shape[0]), axis=0)
    tiles = [t for row in rows for t in np.array_split(row, min(_TILES, row.shape[1]), axis=1)]
    return float(np.log1p(max(tile.var(dtype=np.float64) for tile in tiles)))


def noise(luma: np.ndarray) -> float:
    """Standard deviation of the noise (Immerkaer 1996).

    It is sqrt(pi/2) / 6 times the mean of |Y * N|, the convolution with
    N = [[1, -2, 1], [-2, 4, -2], [1, -2, 1]].
    """
    p = np.pad(luma, 1, mode="edge")
    across = p[:, :-2] - 2 * p[:, 1:-1] + p[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(both).mean(dtype=np.float64))


def blur_direction(luma: np.ndarray) -> tuple[float, float]:
    """Direction of least variation, as camera shake leaves it: c (cos 2a, sin 2a).

    a is the angle from the x axis to that direction, with y downwards. c in [0, 1] is the coherence
    of the structure tensor (Bigun and Granlund 1987): 0 if all directions are alike.
    """
    dy, dx = (
        np.gradient(luma, axis=axis) if luma.shape[axis] > 1 else np.zeros_like(luma)
        for axis in (0, 1)
    )
    xx, yy, xy = (float((u * v).mean(dtype=np.float64)) for u, v in ((dx, dx), (dy, dy), (dx, dy)))
    energy = xx + yy
    return ((yy - xx) / energy, -2 * xy / energy) if energy > 0 else (0.0, 0.0)
