"""From a decoded photo to what a network reads."""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from jaxrank.errors import UserError
from jaxrank.extraction.decoding import SHORT_SIDE

# How a photo is fitted into the network's frame: its middle, or the whole of it with borders, or
# the whole of it stretched.
Fit: TypeAlias = Literal["crop", "pad", "stretch"]
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


class Preprocessing(NamedTuple):
    """What stands between a photo and a network, a part of its recipe.

    Attributes:
      height, width: of the network's input, in pixels.
      fit: see `Fit`.
      crop_share: of the resized photo's side, the share that `crop` keeps.
      interpolation: a filter of Pillow, wide enough to see all pixels when it reduces.
      mean, deviation: of red, green and blue in [0, 1], by which the network's input is scaled.
      fill: the grey of `pad`'s borders, 0 to 255.
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
    """The same, or a UserError where photos can't be prepared so."""
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
    """The photo in the network's frame, uint8 [height, width, 3]; the encoder scales it."""
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
    # The middle is cut out of the original before it is resized: a long panorama stays small.
    scale = max(shares) / p.crop_share
    wide, high = p.width / scale, p.height / scale
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    box = max(left, 0), max(top, 0), min(left + wide, image.width), min(top + high, image.height)
    return np.asarray(image.resize((p.width, p.height), resample, box=box))
