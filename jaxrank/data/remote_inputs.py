"""Copies pair tables and feature stores behind URLs, which are then read like local files.

A table is copied each time. A store's manifest is copied each time, but its other files only if
they are missing here: they are named by their content and never change. File names are built from
hashes and block names, so none leads out of the folder.
"""

import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TypeVar

from jaxrank.data import feature_store
from jaxrank.data.feature_store import MANIFEST, SERIES_CSV
from jaxrank.errors import UserError
from jaxrank.io import remote

Given = TypeVar("Given")
# Suffixes of feature files; a URL with another suffix is a store.
FILE_SUFFIXES = (".npz", ".parquet", ".csv")


def local_table(pairs: Given) -> Given | Path:
    """Copies the file of a URL and returns the local path; returns other inputs unchanged."""
    if not isinstance(pairs, str) or not remote.is_url(pairs):
        return pairs
    name = PurePosixPath(pairs.partition("://")[2]).name
    if not name.strip("."):
        raise UserError(f"{pairs}: name a file")
    with remote.copies_of(pairs) as folder:
        remote.copy_file(pairs, folder / name)
        return folder / name


def local_features(features: Given) -> Given | Path:
    """Copies the store or file of a URL and returns its path; returns other inputs unchanged."""
    if not isinstance(features, str) or not remote.is_url(features):
        return features
    if PurePosixPath(features).suffix.lower() in FILE_SUFFIXES:
        return local_table(features)
    return _local_store(features.rstrip("/"))


def _local_store(url: str) -> Path:
    with remote.copies_of(url) as folder:
        new = folder / ".new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        remote.copy_file(f"{url}/{MANIFEST}", new / MANIFEST)
        digits_of = feature_store.files_named(new)
        for name, digits in digits_of.items():
            if not (folder / name).is_file():
                remote.copy_file(f"{url}/{name}", folder / name, digits)
        if remote.exists(f"{url}/{SERIES_CSV}"):
            remote.copy_file(f"{url}/{SERIES_CSV}", folder / SERIES_CSV)
        else:
            (folder / SERIES_CSV).unlink(missing_ok=True)
        os.replace(new / MANIFEST, folder / MANIFEST)
        new.rmdir()
        for path in folder.glob("*-*.*"):  # files of earlier manifests
            if path.name not in digits_of:
                path.unlink()
        return folder
