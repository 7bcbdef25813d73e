"""Copies files behind URLs such as `s3://bucket/pairs.csv` through fsspec (extra `remote`).

Copies are kept in the user's cache folder, in one folder for each URL.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from jaxrank.errors import UserError
from jaxrank.io import atomic, tables
from jaxrank.io.cache import cache_folder

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(given: object) -> bool:
    """Whether `given` is text that begins with a scheme and `://`."""
    return isinstance(given, str) and _URL.match(given) is not None


@contextmanager
def copies_of(url: str) -> Iterator[Path]:
    """Locks and yields the folder for copies of a URL's files.

    Raises:
      UserError: the folder can't be written.
    """
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        folder = cache_folder() / "jaxrank" / "remote" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / atomic.LOCK):
            yield folder
    except (OSError, RuntimeError) as error:
        raise UserError(f"{url}: no copy can be made here ({tables.reason(error)})") from None


def copy_file(url: str, target: Path, sha256: str = "") -> None:
    """Copies the file of a URL as a whole or not at all.

    Args:
      url: URL of the file.
      target: path of the copy; an existing file is replaced.
      sha256: first digits of the expected SHA-256; by default any content is accepted.

    Raises:
      UserError: fsspec, or its package for this scheme, is not installed; the file can't be read,
        or its content is not as expected.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UserError(f"{url}: URLs need fsspec: pip install 'jaxrank[remote]'") from None
    with atomic.partial_file(atomic.temporary_path(target)) as partial:
        try:
            system, path = url_to_fs(url)
            about = system.info(path)
            if about["type"] != "file":
                raise ValueError("it is not a file")
            system.get_file(path, str(partial))
        except Exception as error:  # each scheme's package has its own exceptions
            raise UserError(f"{url}: can't be read ({_reason(error)})") from None
        size = about.get("size")
        if size is not None and partial.stat().st_size != size:
            raise UserError(f"{url}: {partial.stat().st_size:,} of {size:,} bytes came; try again")
        with partial.open("rb") as file:
            if not hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256):
                raise UserError(f"{url}: the content is not what the manifest recorded; try again")
        os.replace(partial, target)


def exists(url: str) -> bool:
    """Whether a URL names a file; `copy_file` must have worked before for a file beside it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return bool(system.isfile(path))


def _reason(error: Exception) -> str:
    missing = isinstance(error, FileNotFoundError)
    return "no such file" if missing else f"{type(error).__name__}: {tables.reason(error)}"
