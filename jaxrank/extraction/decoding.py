"""A photo file's bytes as an upright sRGB image of a bounded size.

Every block sees the same image, so a photo is decoded once, and what one block makes of it does
not depend on which others are wanted.
"""

import io
import math
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

# The shorter side, in pixels, to which larger photos are reduced; long panoramas further.
SHORT_SIDE = 768
# A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves this many times the wanted size: the rest
# of the way is a filter's, so that photos of different sizes are reduced much alike.
_DRAFT_MARGIN = 1.5
# Photos with more pixels are refused: 16 bytes of a bomb can ask for any memory. Cameras have 200
# million at most.
MOST_PIXELS = 250_000_000
# Pixels of 16 bits that are converted at once, as 32-bit numbers.
_STRIP_PIXELS = 4_000_000
# What a process takes to decode a photo of so many pixels: Pillow has 4 bytes of each, and the
# file's bytes are there, too.
MOST_BYTES = 5 * MOST_PIXELS
# Formats of photos. Pillow knows more, some of which run other programs (EPS) or hold no pixels.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF")
# What the names of their files end with, in lower case.
SUFFIXES = (".jpg .jpeg .jpe .jfif .mpo .png .tif .tiff .webp .gif .bmp .dib .ppm .pgm .pbm "
    ".pnm .jp2 .j2k .jpx .avif .heic .heif .hif").split()  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")

_EXIF_ORIENTATION, _EXIF_DATE, _EXIF_MODEL, _EXIF_IFD = 0x0112, 0x0132, 0x0110, 0x8769
_EXIF_TAKEN, _EXIF_SUBSECOND = 0x9003, 0x9291
# What turns a stored image upright (EXIF 2.32, tag Orientation).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


T = TypeVar("T")


class BadPhoto(Exception):
    """A photo that can't be used; the text says why."""


class Facts(NamedTuple):
    """What a photo's file says.

    Attributes:
      width, height: of the upright photo, in pixels.
      taken: when, by the camera's clock, `YYYY:MM:DD HH:MM:SS[.fraction]`, or empty.
      camera: its model, or empty.
    """

    width: int
    height: int
    taken: str
    camera: str


def prepare_pillow() -> None:
    """Pillow's settings for a process that decodes: its own limit of pixels would refuse photos."""
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


def decode(data: bytes, short_side: int = SHORT_SIDE) -> tuple[Image.Image, Facts]:
    """A photo from its file's bytes: mode RGB, sRGB, upright, its shorter side at most `short_side`
    pixels.

    Several frames give the first; transparent parts become white; 16 bits become 8.

    Raises:
      BadPhoto: they are not an image, or not a whole one.
    """
    return read_image(partial(_decode, short_side=short_side), data)


def describe(data: bytes) -> Facts:
    """What a photo's file says, without decoding its pixels; raises as `decode` does."""
    return read_image(_describe, data)


def read_image(read: Callable[[Image.Image], T], data: bytes) -> T:
    """What `read` makes of an opened image, with one kind of error for all that can be wrong.

    Raises:
      BadPhoto: the bytes are not an image, or `read` fails on them.
    """
    if not data:
        raise BadPhoto("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _opened(data) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                if image.format != "PNG":
                    return read(image)
                image.verify()  # the checksums, which decoding does not look at
            with _opened(data) as image:
                return read(image)
    except BadPhoto:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadPhoto(f"more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
            raise BadPhoto("HEIC; pip install pillow-heif") from None
        raise BadPhoto("not an image in a known format") from None
    except MemoryError:
        raise BadPhoto("too large for this machine's memory") from None
    except Exception as error:  # damaged bytes raise many kinds
        text = str(error).splitlines()
        raise BadPhoto(f"damaged ({text[0][:100] if text else type(error).__name__})") from None


def _opened(data: bytes) -> Image.Image:
    Image.init()  # all of Pillow's formats are known after this
    known = [name for name in FORMATS if name in Image.OPEN]
    return Image.open(io.BytesIO(data), formats=known)


def _describe(image: Image.Image) -> Facts:
    orientation, taken, camera = _exif(image)
    width, height = image.size
    if orientation >= 5:
        width, height = height, width
    return Facts(width, height, taken, camera)


def _decode(image: Image.Image, short_side: int) -> tuple[Image.Image, Facts]:
    facts = _describe(image)
    orientation, _, _ = _exif(image)
    profile = image.info.get("icc_profile")
    wanted = _reduced(*image.size, short_side)
    if image.format in ("JPEG", "MPO"):
        width, height = (math.ceil(_DRAFT_MARGIN * side) for side in wanted)
        image.draft(None, (width, height))
    image.load()
    # Reduced before it is converted: a large photo then needs less memory.
    small = _resizable(image)
    if small.size != wanted:
        small = small.resize(wanted, Image.Resampling.BICUBIC)
    srgb = _to_srgb(_flattened(small), profile)
    return (srgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else srgb), facts


def _reduced(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The size of which the shorter side is `short_side`, or less where the longer one is more than
    eight times that; never larger than it was."""
    most_pixels = 8 * short_side**2
    scale = min(1.0, short_side / min(width, height), math.sqrt(most_pixels / (width * height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _exif(image: Image.Image) -> tuple[int, str, str]:
    """Orientation, time, camera; a damaged EXIF part says nothing, the pixels may be fine."""
    try:
        exif = image.getexif()
        inner = exif.get_ifd(_EXIF_IFD)
        taken = _text(inner.get(_EXIF_TAKEN)) or _text(exif.get(_EXIF_DATE))
        fraction = _text(inner.get(_EXIF_SUBSECOND))
        if taken and fraction.isdigit():
            taken = f"{taken.partition('.')[0]}.{fraction}"
        orientation = exif.get(_EXIF_ORIENTATION)
        camera = _text(exif.get(_EXIF_MODEL))
    except Exception:  # Pillow's EXIF parser raises many kinds for damaged bytes
        return 1, "", ""
    return orientation if orientation in _UPRIGHT else 1, taken, camera


def _text(value: object) -> str:
    """What EXIF has as text, in printable ASCII."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in value if " " <= letter <= "~").strip()


def _resizable(image: Image.Image) -> Image.Image:
    """In a mode that filters can work on: no palette, 8 bits."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow reads as 32 from some formats
        return _of_8_bits(image)
    if image.mode == "F":
        raise BadPhoto("its numbers are 32-bit floating point, whose range is not known")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.convert("L") if image.mode == "1" else image


def _of_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits, converted strip by strip: as 32-bit numbers it would take several
    times the memory of its pixels."""
    width, height = image.size
    values = np.empty((height, width), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        bright = np.asarray(strip, np.float32) / 257
        values[top : top + rows] = np.clip(bright, 0, 255).round()
    return Image.fromarray(values)


def _flattened(image: Image.Image) -> Image.Image:
    """In one of the modes L, RGB, CMYK: transparent parts are white."""
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """As sRGB, by the photo's colour profile; a profile that can't be used is taken for sRGB."""
    transform = _transform_of(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None only for a transform in place
    return converted


@lru_cache(maxsize=16)
def _transform_of(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    if mode == "L":  # grey profiles hold a gamma, much like sRGB's
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
