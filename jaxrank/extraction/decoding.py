"""Decodes a photo file's bytes into an upright sRGB image of bounded size.

All blocks read the same image. A photo is therefore decoded once, and the rows of one block do not
depend on which other blocks are extracted.
"""

import io
import math
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

# Shorter side, in pixels, to which larger photos are reduced; long panoramas are reduced further.
SHORT_SIDE = 768
# A JPEG is decoded at 1/2, 1/4 or 1/8 if that leaves this many times the wanted size. A filter
# reduces it the rest of the way, so that photos of different sizes are reduced much alike.
_DRAFT_MARGIN = 1.5
# Photos with more pixels are refused: a decompression bomb of 16 bytes can request any amount of
# memory. Cameras have 200 million pixels at most.
MOST_PIXELS = 250_000_000
# Number of 16-bit pixels that are converted at once, as 32-bit numbers.
_STRIP_PIXELS = 4_000_000
# Memory that a process needs for a photo of MOST_PIXELS: 4 bytes per pixel in Pillow, and the
# bytes of the file.
MOST_BYTES = 5 * MOST_PIXELS
# Formats of photos. Pillow reads more, some of which run other programs (EPS) or hold no pixels.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF")
# File suffixes of these formats, in lower case.
SUFFIXES = (".jpg .jpeg .jpe .jfif .mpo .png .tif .tiff .webp .gif .bmp .dib .ppm .pgm .pbm "
    ".pnm .jp2 .j2k .jpx .avif .heic .heif .hif").split()  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")

_EXIF_ORIENTATION, _EXIF_DATE, _EXIF_MODEL, _EXIF_IFD = 0x0112, 0x0132, 0x0110, 0x8769
_EXIF_TAKEN, _EXIF_SUBSECOND = 0x9003, 0x9291
# Transpose that turns a stored image upright, by orientation (EXIF 2.32, tag Orientation).
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


class UnreadablePhoto(Exception):
    """A photo that can't be used; the message is the reason."""


class PhotoInfo(NamedTuple):
    """Size, capture time and camera of a photo.

    Attributes:
      width, height: size of the upright photo, in pixels.
      taken: capture time by the camera's clock, `YYYY:MM:DD HH:MM:SS[.fraction]`, or empty.
      camera: model of the camera, or empty.
    """

    width: int
    height: int
    taken: str
    camera: str


def prepare_pillow() -> None:
    """Configures Pillow in a process that decodes: its limit of pixels, and HEIF if installed.

    Pillow's default limit would refuse photos.
    """
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


def decode(data: bytes, short_side: int = SHORT_SIDE) -> tuple[Image.Image, PhotoInfo]:
    """Decodes a photo: mode RGB, sRGB, upright, its shorter side at most `short_side` pixels.

    Of several frames, the first is used. Transparent parts become white, and 16 bits become 8.

    Raises:
      UnreadablePhoto: the bytes are not an image, or not a whole one.
    """
    return read_image(partial(_decode, short_side=short_side), data)


def describe(data: bytes) -> PhotoInfo:
    """Reads a photo's size, time and camera without decoding pixels; raises as `decode` does."""
    return read_image(_describe, data)


def read_image(read: Callable[[Image.Image], T], data: bytes) -> T:
    """Returns `read` of an opened image; every failure becomes one kind of error.

    Raises:
      UnreadablePhoto: the bytes are not an image, or `read` fails on them.
    """
    if not data:
        raise UnreadablePhoto("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _opened(data) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                if image.format != "PNG":
                    return read(image)
                image.verify()  # the checksums, which decoding does not verify
            with _opened(data) as image:
                return read(image)
    except UnreadablePhoto:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadablePhoto(f"more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
            raise UnreadablePhoto("HEIC; pip install pillow-heif") from None
        raise UnreadablePhoto("not an image in a known format") from None
    except MemoryError:
        raise UnreadablePhoto("too large for this machine's memory") from None
    except Exception as error:  # damaged bytes raise many kinds of error
        text = str(error).splitlines()
        raise UnreadablePhoto(
            f"damaged ({text[0][:100] if text else type(error).__name__})"
        ) from None


def _opened(data: bytes) -> Image.Image:
    Image.init()  # registers all of Pillow's formats
    known = [name for name in FORMATS if name in Image.OPEN]
    return Image.open(io.BytesIO(data), formats=known)


def _describe(image: Image.Image) -> PhotoInfo:
    orientation, taken, camera = _exif(image)
    width, height = image.size
    if orientation >= 5:
        width, height = height, width
    return PhotoInfo(width, height, taken, camera)


def _decode(image: Image.Image, short_side: int) -> tuple[Image.Image, PhotoInfo]:
    info = _describe(image)
    orientation, _, _ = _exif(image)
    profile = image.info.get("icc_profile")
    wanted = _reduced(*image.size, short_side)
    if image.format in ("JPEG", "MPO"):
        width, height = (math.ceil(_DRAFT_MARGIN * side) for side in wanted)
        image.draft(None, (width, height))
    image.load()
    # Reduced before it is converted, so that a large photo needs less memory.
    small = _resizable(image)
    if small.size != wanted:
        small = small.resize(wanted, Image.Resampling.BICUBIC)
    srgb = _to_srgb(_flattened(small), profile)
    return (srgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else srgb), info


def _reduced(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Reduced size, with a shorter side of `short_side`; never larger than the original.

    The shorter side is less if the longer side is more than eight times as long.
    """
    most_pixels = 8 * short_side**2
    scale = min(1.0, short_side / min(width, height), math.sqrt(most_pixels / (width * height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _exif(image: Image.Image) -> tuple[int, str, str]:
    """Orientation, time, camera; defaults if EXIF is damaged, since the pixels may be fine."""
    try:
        exif = image.getexif()
        inner = exif.get_ifd(_EXIF_IFD)
        taken = _text(inner.get(_EXIF_TAKEN)) or _text(exif.get(_EXIF_DATE))
        fraction = _text(inner.get(_EXIF_SUBSECOND))
        if taken and fraction.isdigit():
            taken = f"{taken.partition('.')[0]}.{fraction}"
        orientation = exif.get(_EXIF_ORIENTATION)
        camera = _text(exif.get(_EXIF_MODEL))
    except Exception:  # Pillow's EXIF parser raises many kinds of error for damaged bytes
        return 1, "", ""
    return orientation if orientation in _UPRIGHT else 1, taken, camera


def _text(value: object) -> str:
    """EXIF text in printable ASCII; empty for other types."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in value if " " <= letter <= "~").strip()


def _resizable(image: Image.Image) -> Image.Image:
    """Converts an image to a mode that filters support: no palette, 8 bits."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow reads as 32 from some formats
        return _of_8_bits(image)
    if image.mode == "F":
        raise UnreadablePhoto("32-bit floating-point pixels of unknown range")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.convert("L") if image.mode == "1" else image


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Converts a grey image of 16 bits, strip by strip.

    As 32-bit numbers, the whole image would take several times the memory of its pixels.
    """
    width, height = image.size
    values = np.empty((height, width), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        bright = np.asarray(strip, np.float32) / 257
        values[top : top + rows] = np.clip(bright, 0, 255).round()
    return Image.fromarray(values)


def _flattened(image: Image.Image) -> Image.Image:
    """Converts an image to mode L, RGB or CMYK; transparent parts become white."""
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts an image to sRGB by its colour profile; an unusable profile counts as sRGB."""
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
