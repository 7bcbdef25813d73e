"""Contact sheet of culled photos: one HTML file that needs only a browser, and no network.

Its parts are `contact_sheet.html`, `.css` and `.js` beside this module. The page holds the names
and texts of photos as JSON; its script shows them as text, never as HTML. Thumbnails come last,
each in a script element that is not executed. The page therefore appears before they are read, and
only thumbnails on the screen are decoded.
"""

import base64
import hashlib
import html
import io
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
from PIL import Image

from jaxrank.extraction import decoding
from jaxrank.io import atomic, documents
from jaxrank.io.printable import printable

# The longer side of a thumbnail in pixels, and the quality of its JPEG.
SIDE, QUALITY = 320, 70

_TEXTS = ["path", "series", "kind", "decision", "reasons", "changed"]
_NUMBERS = ["rank", "score", "p_best", "rating"]
# JSON escapes of the characters that could end a script element or hide its end. The JSON writer
# escapes characters that are not ASCII.
_IN_SCRIPT = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&"})


def make_thumbnail(data: bytes) -> bytes:
    """Makes a small upright sRGB JPEG of a photo, without EXIF, XMP, comments or colour profile.

    Args:
      data: bytes of the photo's file.

    Raises:
      UnreadablePhoto: the bytes are not a whole image.
    """
    image, _ = decoding.decode(data, SIDE)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    # Pillow would write the comment of the original; a new image has none.
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    file = io.BytesIO()
    bare.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def write_sheet(
    path: Path,
    rows: pd.DataFrame,
    thumbnail: Callable[[str], bytes | None],
    *,
    title: str,
    notes: Iterable[str],
) -> None:
    """Writes the contact sheet atomically; equal arguments give equal bytes.

    Args:
      path: path of the HTML file.
      rows: table with one row per photo. Its columns are `path`; `series`; `kind` (burst, single,
        bracket, focus_stack or panorama); `rank`, `score`, `p_best` and `rating`, NaN if missing;
        `decision` (pick, alternate, reject, undecided, or empty where nothing was culled);
        `reasons`, a text; `changed`, the columns that a person changed; `marked`, whether the photo
        has a person's stars or flags. Series are shown in
        the order of their first rows, photos by rank.
      thumbnail: function from `path` to a JPEG without metadata, or to None without a preview. It
        is called once per photo, in the order of the page. No thumbnail is kept in memory.
      title: heading of the page.
      notes: sentences below the heading.

    Raises:
      OSError: the file can't be written.
    """
    ordered = _in_page_order(rows)
    with atomic.atomic_file(path, "wb") as file:
        file.write(_page(path, ordered, title, notes).encode())
        for number, photo in enumerate(ordered["path"]):
            content = base64.b64encode(thumbnail(str(photo)) or b"")
            file.write(b'<script type="text/plain" id="t%d">%b</script>\n' % (number, content))
        file.write(b"</body>\n</html>\n")


def _in_page_order(rows: pd.DataFrame) -> pd.DataFrame:
    series = pd.factorize(rows["series"])[0]
    rank = rows["rank"].to_numpy(float, na_value=np.inf)
    return rows.iloc[np.lexsort((rank, series))]


def _page(path: Path, rows: pd.DataFrame, title: str, notes: Iterable[str]) -> str:
    """HTML of the page up to its thumbnails."""
    style, script = _part("contact_sheet.css"), _part("contact_sheet.js")
    photos = _photos_as_json(rows)
    return Template(_part("contact_sheet.html")).substitute(
        policy="; ".join(_policy(style, script)),
        title=html.escape(printable(title)),
        notes="\n".join(f"<p>{html.escape(printable(note))}</p>" for note in notes),
        # Key of the changes in the browser's storage, which all pages on a disk share.
        name=f"jaxrank-{hashlib.sha256(f'{path.absolute()}{photos}'.encode()).hexdigest()[:24]}",
        style=style,
        script=script,
        photos=photos,
    )


def _part(name: str) -> str:
    return resources.files("jaxrank.culling").joinpath(name).read_text("utf-8")


def _policy(style: str, script: str) -> Iterator[str]:
    """Content-Security-Policy: only the page's own style, script and thumbnails."""
    yield "default-src 'none'"
    yield "img-src data:"
    for kind, text in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        yield f"{kind}-src 'sha256-{digest}'"
    yield "base-uri 'none'"
    yield "form-action 'none'"


def _photos_as_json(rows: pd.DataFrame) -> str:
    """Columns of the table as strict JSON that is safe in a script element."""
    columns: dict[str, list] = {
        name: ["" if pd.isna(text) else str(text) for text in rows[name]] for name in _TEXTS
    }
    columns |= {name: rows[name].tolist() for name in _NUMBERS}
    columns["marked"] = rows["marked"].tolist()
    return documents.strict_json(columns).translate(_IN_SCRIPT)
