"""Contact sheets that the tests make."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from photo_files import jpeg, scene

from jaxrank.culling.contact_sheet import write_sheet

# Names that would end a script element, hide its end, add an element, run a formula, or turn the
# direction of writing; each is a file's name on some system.
HOSTILE = [
    "</script><script>window.broken = 1</script>.jpg",
    "<!--<script>.jpg",
    '"><img src=x onerror="window.broken = 1">.jpg',
    "'; window.broken = 1; '.jpg",
    "$policy${title}.jpg",
    "&lt;b&gt;&amp;.jpg",
    "line\u2028paragraph\u2029.jpg",
    "=1+1.jpg",
    'comma, "quotes".jpg',
    "\u202egpj.exe.jpg",
    "\ud800half.jpg",
    "\u65e5\u672c \U0001f600.jpg",
    "__proto__",
    f"{'long' * 60}.jpg",
]


def burst(
    names: Sequence[str],
    series: str = "burst",
    decisions: Sequence[str] = ("pick", "alternate", "reject"),
    kind: str = "burst",
) -> pd.DataFrame:
    """Photos in the order of their ranks; the last decision is that of all further ones."""
    count = len(names)
    decided = [decisions[min(place, len(decisions) - 1)] for place in range(count)]
    p_best = np.exp(-np.arange(count))
    return pd.DataFrame({
        "path": pd.Series(names, dtype=object), "series": series, "kind": kind,
        "rank": range(1, count + 1),
        "score": -0.1 * np.arange(count), "p_best": p_best / p_best.sum(), "decision": decided,
        "keep": True, "reasons": "sharper by 0.21", "rating": np.nan,
        "changed": "", "marked": False,
    })  # fmt: skip


def thumbnail(path: str) -> bytes:
    return jpeg(scene(sum(map(ord, path)), 48, 32), quality=50)


def sheet(path: Path, *series: pd.DataFrame, title: str = "Cull") -> Path:
    rows = pd.concat(series, ignore_index=True)
    write_sheet(path, rows, thumbnail, title=title, notes=["A note."])
    return path
