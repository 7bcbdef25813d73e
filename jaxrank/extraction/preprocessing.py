"""Preprocessing of a decoded photo into the input of a network."""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from jaxrank.errors import UserError
from jaxrank.extraction.decoding import SHORT_SIDE

# Fit of a photo into the network's frame: its middle, the whole photo with borders, or the whole
# photo stretched.
Fit: TypeAlias = Literal["crop", "pad", "stretch"]
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


class Preprocessing(NamedTuple):
    """Preprocessing for a network; part of the network's recipe.

    Attributes:
      height, width: size of the network's input, in pixels.
      fit: fit of the photo into the input's frame; see `Fit`.
      crop_share: share of the resized photo's side that `crop` keeps.
      interpolation: name of a Pillow filter; it uses all pixels when it reduces.
      mean, deviation: mean and standard deviation of red, green and blue in [0, 1], by which the
        network's input is scaled.
      fill: grey of the borders of `pad`, 0 to 255.
    """

    height: int
    width: int
    fit: Fit
    crop_share: float
    interpolation: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    fill: int = 0


def checked(preprocessing: Preprocessing, model: str) -> Preprocessing:
    """Returns the preprocessing; raises UserError if photos can't be prepared this way."""
    if max(preprocessing.height, preprocessing.width) > SHORT_SIDE:
        raise UserError(
            f"{model} reads {preprocessing.width} x {preprocessing.height} pixels, but photos are "
            f"decoded at {SHORT_SIDE}; choose a smaller model"
        )
    if preprocessing.interpolation not in _FILTERS or len(preprocessing.mean) != 3:
        raise UserError(
            f"{model}: interpolation '{preprocessing.interpolation}' and "
            f"{len(preprocessing.mean)} colours can't be prepared; choose another model"
        )
    return preprocessing


def network_input(image: Image.Image, p: Preprocessing) -> np.ndarray:
    """Fits a photo into the network's frame, uint8 [height, width, 3]; the encoder scales it."""
    resample = _FILTERS[p.interpolation]
    if p.fit == "stretch":
        return np.asarray(image.resize((p.width, p.height), resample))
    shares = p.width / image.width, p.height / image.height
    if p.fit == "pad":
        scale = min(shares)
        size = round(image.width * scale), round(image.height * scale)
        framed = Image.new("RGB", (p.width, p.height), (p.fill,) * 3)
        size = max(1, size[0]), max(1, size[1])
        framed.paste(
            image.resize(size, resample), ((p.width - size[0]) // 2, (p.height - size[1]) // 2)
        )
        return np.asarray(framed)
    # The photo is cropped before it is resized, so that a long panorama stays small.
    scale = max(shares) / p.crop_share
    wide, high = p.width / scale, p.height / scale
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    box = max(left, 0), max(top, 0), min(left + wide, image.width), min(top + high, image.height)
    return np.asarray(image.resize((p.width, p.height), resample, box=box))
