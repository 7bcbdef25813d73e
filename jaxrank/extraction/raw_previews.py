"""Previews in RAW files: images that the camera stored, without development of the raw data.

A preview is read by rawpy (LibRaw), or by the program exiftool if rawpy is missing or finds none.
"""

import io
import shutil
import subprocess
from pathlib import Path

from PIL import Image

from jaxrank.extraction.decoding import UnreadablePhoto

# Suffixes of RAW files, in lower case.
RAW_SUFFIXES = (".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw "
    ".nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f").split()  # fmt: skip
# Options of exiftool for previews, the largest preview first.
_PREVIEWS = ("-JpgFromRaw", "-PreviewImage", "-OtherImage")
# Seconds after which exiftool is stopped.
_TIMEOUT_SECONDS = 60.0


def read_preview(path: Path) -> bytes:
    """Reads the preview of a RAW file, as the bytes of an image file.

    Raises:
      UnreadablePhoto: there is no preview, or no installed program that reads it.
    """
    exiftool = shutil.which("exiftool")
    preview, reason = _by_rawpy(path)
    if not preview and exiftool:
        preview, reason = _by_exiftool(exiftool, path), "no preview in the RAW file"
    if not preview:
        raise UnreadablePhoto(reason)
    return preview


def _by_rawpy(path: Path) -> tuple[bytes, str]:
    """Returns the preview, or empty bytes and the reason."""
    try:
        import rawpy
    except ImportError:
        return b"", "RAW; its preview needs pip install rawpy, or exiftool"
    try:
        with rawpy.imread(str(path)) as raw:
            preview = raw.extract_thumb()
    except rawpy.LibRawError as error:
        return b"", f"no preview in the RAW file ({str(error)[:100]})"
    if preview.format == rawpy.ThumbFormat.JPEG:
        return bytes(preview.data), ""
    file = io.BytesIO()
    Image.fromarray(preview.data).save(file, "PPM")
    return file.getvalue(), ""


def _by_exiftool(exiftool: str, path: Path) -> bytes:
    """Returns the largest preview, or empty bytes."""
    for preview in _PREVIEWS:
        # An absolute path can't be parsed as an option.
        command = [exiftool, "-b", preview, str(path.absolute())]
        try:
            found = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnreadablePhoto(
                f"exiftool had not ended after {_TIMEOUT_SECONDS:g} seconds"
            ) from None
        if found.stdout:
            return found.stdout
    return b""
