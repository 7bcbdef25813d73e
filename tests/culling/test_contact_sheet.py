"""The contact sheet's file, as a program reads it."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from contact_sheets import HOSTILE, burst, sheet, thumbnail
from photo_files import broken_photos, encoded, exif, jpeg, odd_photos, scene, swapped_profile
from PIL import Image

from jaxrank.culling.contact_sheet import SIDE, make_thumbnail, write_sheet
from jaxrank.extraction.decoding import UnreadablePhoto
from jaxrank.io.printable import printable


class Page(HTMLParser):
    """The elements of a page, and the text of its style and its scripts."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style", "title"):
            self._inside = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data

    @property
    def photos(self) -> dict[str, list]:
        found: dict[str, list] = json.loads(self.texts["photos"])
        return found


def test_hostile_names_change_no_element(tmp_path: Path) -> None:
    plain = [f"{number}.jpg" for number in range(len(HOSTILE))]
    hostile = burst(HOSTILE).assign(series=HOSTILE[0], reasons=HOSTILE[1], kind=HOSTILE[2])
    page = Page(sheet(tmp_path / "hostile.html", hostile))
    other = Page(sheet(tmp_path / "plain.html", burst(plain)))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in other.elements]
    assert page.photos["path"] == HOSTILE
    assert page.photos["series"] == [HOSTILE[0]] * len(HOSTILE)


@pytest.mark.parametrize("text", HOSTILE)
def test_title_and_notes_are_escaped(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cull.html"
    write_sheet(path, burst(["a.jpg"]), thumbnail, title=text, notes=[text])
    plain = Page(sheet(tmp_path / "plain.html", burst(["a.jpg"])))
    page = Page(path)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.texts["title"] == printable(text)


def test_nothing_but_the_pages_own_parts_may_load_or_run(tmp_path: Path) -> None:
    path = sheet(tmp_path / "cull.html", burst(["a.jpg", "b.jpg"]))
    page = Page(path)
    policies = [a["content"] for _, a in page.elements if a.get("http-equiv")]
    rules = dict((rule + " ").split(" ", 1) for rule in str(policies[0]).split("; "))
    assert len(policies) == 1
    assert {name: value.strip() for name, value in rules.items()} == {
        "default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
        "style-src": _digest(page.texts["style"]), "script-src": _digest(page.texts["script"]),
    }  # fmt: skip
    # The policy stands before all that it governs.
    tags = [tag for tag, _ in page.elements]
    assert tags.index("meta") < tags.index("style")
    for _, attributes in page.elements:
        assert not {"style", "onclick", "onerror", "src"} & set(attributes)
        assert (attributes.get("href") or "data:,") == "data:,"
    assert not re.search(rb"https?://|@import|url\(", path.read_bytes())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_numbers_read_back_and_nan_is_null(tmp_path: Path) -> None:
    rows = burst(["a.jpg", "b.jpg"]).assign(
        rank=pd.array([1, pd.NA], "Int64"), p_best=[1 / 3, float("nan")], rating=[4.0, -1.0]
    )
    photos = Page(sheet(tmp_path / "cull.html", rows)).photos
    assert photos["rank"] == [1, None]
    assert photos["p_best"] == [1 / 3, None]
    assert photos["rating"] == [4, -1]
    assert "keep" not in photos


def test_series_keep_the_order_of_their_first_rows_and_photos_are_ranked(tmp_path: Path) -> None:
    rows = pd.concat([burst(["a1", "a2", "a3"], "a"), burst(["b1", "b2"], "b")]).iloc[
        [4, 2, 0, 3, 1]
    ]
    unranked = burst(["c2", "c1"], "c").assign(rank=float("nan"))
    asked = []

    def asked_for(path: str) -> None:
        asked.append(path)

    path = tmp_path / "cull.html"
    write_sheet(path, pd.concat([rows, unranked]), asked_for, title="", notes=[])
    assert asked == Page(path).photos["path"] == ["b1", "b2", "a1", "a2", "a3", "c2", "c1"]


def test_equal_photos_give_equal_bytes_and_other_decisions_another_name(tmp_path: Path) -> None:
    rows = burst(["a.jpg", "b.jpg"])
    page = sheet(tmp_path / "1.html", rows)
    first = page.read_bytes()
    assert sheet(page, rows.copy()).read_bytes() == first
    names = {dict(Page(page).elements)["body"]["data-name"]}
    for path, changed in ((page, rows.assign(decision="undecided")), (tmp_path / "2.html", rows)):
        names.add(dict(Page(sheet(path, changed)).elements)["body"]["data-name"])
    assert len(names) == 3  # a sheet of another folder has changes of its own


def test_thumbnails_are_in_the_file_and_not_in_memory(tmp_path: Path) -> None:
    count, size = 100, 300_000
    rows = burst([f"{number}.jpg" for number in range(count)])
    path = tmp_path / "cull.html"
    tracemalloc.start()
    try:
        write_sheet(path, rows, lambda photo: bytes(size), title="", notes=[])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * size
    page_size = path.stat().st_size - count * size * 4 / 3
    assert 0 < page_size < 100_000
    texts = Page(path).texts
    assert all(base64.b64decode(texts[f"t{number}"]) == bytes(size) for number in (0, count - 1))


def test_a_missing_preview_is_an_empty_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "cull.html"
    write_sheet(path, burst(["a.jpg"]), lambda photo: None, title="", notes=[])
    assert "t0" not in Page(path).texts
    assert ("script", {"type": "text/plain", "id": "t0"}) in Page(path).elements


def test_a_failure_leaves_the_sheet_that_was_there(tmp_path: Path) -> None:
    path = sheet(tmp_path / "cull.html", burst(["a.jpg"]))
    before = path.read_bytes()

    def failing(photo: str) -> bytes:
        raise RuntimeError(photo)

    with pytest.raises(RuntimeError, match=r"a\.jpg"):
        write_sheet(path, burst(["a.jpg"]), failing, title="", notes=[])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_photos_make_a_page(tmp_path: Path) -> None:
    assert Page(sheet(tmp_path / "cull.html", burst(["a.jpg"]).head(0))).photos["path"] == []


def test_thumbnails_have_pixels_and_no_metadata() -> None:
    tags = exif(orientation=6, camera="secret camera", taken="2026:01:01 00:00:00")
    tags[0x010E] = "secret description"
    tags.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    photo = jpeg(
        scene(width=1200, height=800),
        exif=tags,
        comment=b"secret comment",
        xmp=b"<x>secret xmp</x>",
        icc_profile=swapped_profile(),
        dpi=(123, 123),
    )
    made = make_thumbnail(photo)
    with Image.open(io.BytesIO(made)) as image:
        assert image.format == "JPEG"
        assert image.size == (SIDE * 800 // 1200, SIDE)
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert image.info["jfif_density"] != (123, 123)
    assert b"secret" not in made
    assert len(made) < 20_000
    assert make_thumbnail(photo) == made


@pytest.mark.parametrize("name", sorted(odd_photos()))
def test_odd_photos_have_thumbnails(name: str) -> None:
    with Image.open(io.BytesIO(make_thumbnail(odd_photos()[name]))) as image:
        assert max(image.size) <= SIDE
        assert image.mode == "RGB"


@pytest.mark.parametrize("name", sorted(broken_photos()))
def test_broken_photos_have_none(name: str) -> None:
    with pytest.raises(UnreadablePhoto):
        make_thumbnail(broken_photos()[name])


def test_long_panoramas_are_no_taller_than_they_are() -> None:
    with Image.open(
        io.BytesIO(make_thumbnail(encoded(scene(width=4000, height=40), "PNG")))
    ) as image:
        assert image.size == (SIDE, 3)


def test_neither_jax_nor_torch_is_imported() -> None:
    code = (
        "import sys; import jaxrank.culling.contact_sheet; "
        "print([name for name in ('jax', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
