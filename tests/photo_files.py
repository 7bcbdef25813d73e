"""Image files that the tests make: whole ones, odd ones, broken ones."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from pillow_heif import register_heif_opener

register_heif_opener()


def scene(seed: int = 0, width: int = 96, height: int = 64) -> Image.Image:
    """A picture with soft and sharp parts, other colours in each corner."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image).astype(np.int16)
    pixels[: height // 3, : width // 3] += rng.integers(-40, 40, (height // 3, width // 3, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def jpeg(image: Image.Image | None = None, **options: Any) -> bytes:
    return encoded(image or scene(), "JPEG", **{"quality": 92} | options)


def exif(orientation: int = 1, taken: str = "", fraction: str = "", camera: str = "") -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    if camera:
        tags[0x0110] = camera
    if taken:
        inner = tags.get_ifd(0x8769)
        inner[0x9003] = taken
        if fraction:
            inner[0x9291] = fraction
    return tags


def png_header(width: int, height: int) -> bytes:
    """A PNG of a stated size that has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def swapped_profile() -> bytes:
    """A colour profile like sRGB's with red and green exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = (profile.index(name, 128) for name in (b"rXYZ", b"gXYZ"))
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def odd_photos() -> dict[str, bytes]:
    """By name, files that are unusual and whole."""
    image = scene()
    grey = image.convert("L")
    alpha = image.convert("RGBA")
    alpha.putalpha(grey)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    frames = [scene(seed).convert("P") for seed in range(3)]
    odd = {
        "cmyk.jpg": jpeg(image.convert("CMYK")),
        "grey.jpg": jpeg(grey),
        "progressive.jpg": jpeg(image, progressive=True),
        "rotated.jpg": jpeg(image, exif=exif(6)),
        "wrong_orientation.jpg": jpeg(image, exif=exif(77)),
        "damaged_exif.jpg": jpeg(image, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "damaged_profile.jpg": jpeg(image, icc_profile=b"not a profile"),
        "trailing.jpg": jpeg() + b"more bytes behind the image",
        "png_called.jpg": encoded(image, "PNG"),
        "palette.png": encoded(image.quantize(256), "PNG"),
        "transparent_palette.png": encoded(image.convert("P"), "PNG", transparency=3),
        "alpha.png": encoded(alpha, "PNG"),
        "grey_alpha.png": encoded(alpha.convert("LA"), "PNG"),
        "sixteen.png": encoded(sixteen, "PNG"),
        "sixteen.tif": encoded(sixteen, "TIFF"),
        "bilevel.png": encoded(grey.convert("1"), "PNG"),
        "lab.tif": encoded(image.convert("LAB"), "TIFF"),
        "cmyk.tif": encoded(image.convert("CMYK"), "TIFF"),
        "lzw.tif": encoded(image, "TIFF", compression="tiff_lzw"),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "plain.bmp": encoded(image, "BMP"),
        "plain.ppm": encoded(image, "PPM"),
        "plain.jp2": encoded(image, "JPEG2000"),
        "two_views.mpo": encoded(image, "MPO", save_all=True, append_images=[scene(1)]),
        "plain.avif": encoded(image, "AVIF"),
        "plain.heic": encoded(image, "HEIF", quality=90),
        "one_pixel.png": encoded(image.resize((1, 1)), "PNG"),
        "thin.png": encoded(image.resize((400, 1)), "PNG"),
    }
    return odd


def broken_photos() -> dict[str, bytes]:
    """By name, files that can't be used."""
    whole = jpeg()
    png = encoded(scene(), "PNG")
    middle = len(png) // 2
    floats = Image.fromarray(np.linspace(0, 1e9, 96, dtype=np.float32).reshape(8, 12))
    return {
        "empty.jpg": b"",
        "zeros.jpg": bytes(4096),
        "text.jpg": b"this is no photo\n" * 50,
        "page.png": b"<html><body>404</body></html>",
        "archive.jpg": b"PK\x03\x04" + bytes(200),
        "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "document.png": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "marker_only.jpg": b"\xff\xd8",
        "header_only.jpg": whole[:20],
        "half.jpg": whole[: len(whole) // 2],
        "almost.jpg": whole[:-200],
        "half.png": png[:middle],
        "flipped.png": png[:middle] + bytes([png[middle] ^ 0xFF]) + png[middle + 1 :],
        "header_only.png": png[:33],
        "no_data.png": png_header(3, 0),
        "bomb.png": png_header(60_000, 60_000),
        "great_bomb.png": png_header(2**31 - 1, 2**31 - 1),
        "half.gif": encoded(scene().convert("P"), "GIF")[:300],
        "half.webp": encoded(scene(), "WEBP")[:100],
        "half.tif": encoded(scene(), "TIFF")[:200],
        "circle.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "half.bmp": encoded(scene(), "BMP")[:500],
        "half.ppm": b"P6 96 64 255\n" + bytes(100),
        "huge_claim.ppm": b"P6 99999 99999 255\n" + bytes(100),
        "floats.tif": encoded(floats, "TIFF"),
        "half.jp2": encoded(scene(), "JPEG2000")[:150],
        "unknown.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "random.jpg": np.random.default_rng(0).bytes(2000),
    }
