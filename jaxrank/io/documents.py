"""JSON documents: strict writing, and reading with clear errors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxrank.io import atomic, reading


def read_json(path: Path) -> Any:
    """Reads the content of a JSON file.

    Raises:
      OSError: the file can't be read.
      ValueError: the file is not JSON.
    """
    try:
        return json.loads(reading.read_whole(path, reading.TEXT).decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def strict_json(value: object) -> str:
    """Converts a value to strict JSON: numbers that are not finite become null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value


def write_json(path: Path, value: object) -> None:
    atomic.write_text(path, strict_json(value))
