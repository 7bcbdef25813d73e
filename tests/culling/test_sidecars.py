"""XMP sidecars: names, marks read from them and from photos, marks added to them."""

import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from photo_files import encoded, jpeg, scene
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from xmp_files import XMP, packet, variants

from jaxrank.culling.decisions import ALTERNATE, PICK, label_of
from jaxrank.culling.sidecars import read_marks, sidecar_paths, write_marks
from jaxrank.culling.xmp import BadXmp

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OURS = {f"{{{XMP}}}{name}" for name in ("Rating", "Label", "MetadataDate")}
VARIANTS = variants()


def rest(data: bytes) -> list[object]:
    """All that a sidecar says but the three properties, by Python's own parser, which keeps
    comments and processing instructions too."""
    builder = ElementTree.TreeBuilder(insert_comments=True, insert_pis=True)
    root = ElementTree.fromstring(data, ElementTree.XMLParser(target=builder))
    said: list[object] = []
    for element in root.iter():
        if element.tag not in OURS:
            kept = {name: value for name, value in element.attrib.items() if name not in OURS}
            said.append((element.tag, kept, (element.text or "").strip()))
    return said


def test_there_are_40_variants() -> None:
    assert len(VARIANTS) == 40
    assert len({data for data, _, _ in VARIANTS.values()}) == 40


@pytest.mark.parametrize("name", VARIANTS)
def test_only_what_was_empty_is_filled(name: str, tmp_path: Path) -> None:
    data, rating, label = VARIANTS[name]
    path = tmp_path / "IMG_1.xmp"
    path.write_bytes(data)
    path.chmod(0o640)
    before = read_marks(path)
    assert (before.rating or 0, before.label) == (rating, label)

    written = write_marks(path, rating=5, label="Green", now=NOW)
    after = read_marks(path)
    assert (after.rating, after.label) == (rating or 5, label or "Green")
    assert rest(path.read_bytes()) == rest(data)
    backup = tmp_path / "IMG_1.xmp.bak"
    if rating and label:
        assert written.outcome == "unchanged"
        assert path.read_bytes() == data
        assert not backup.exists()
        return
    assert written.outcome == "merged"
    assert "2026-11-30T12:00:00+00:00" in path.read_text()
    assert backup.read_bytes() == data
    assert path.stat().st_mode & 0o777 == backup.stat().st_mode & 0o777 == 0o640
    # What stands around the root keeps its bytes.
    assert path.read_bytes().startswith(data[: data.index(b"<x:xmpmeta")])
    assert path.read_bytes().endswith(data[data.index(b"</x:xmpmeta>") :])

    again = path.read_bytes()
    assert write_marks(path, rating=4, label="Blue").outcome == "unchanged"
    assert path.read_bytes() == again
    assert sorted(os.listdir(tmp_path)) == ["IMG_1.xmp", "IMG_1.xmp.bak"]


EXIFTOOL = shutil.which("exiftool")


def said_by_exiftool(folder: Path) -> dict[str, dict[str, Any]]:
    words = ["exiftool", "-json", "-G1", "-struct", "-all", "--File:all", "--System:all", "."]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    return {found.pop("SourceFile"): found for found in json.loads(done.stdout)}


@pytest.mark.skipif(
    EXIFTOOL is None, reason="exiftool is missing: apt-get install libimage-exiftool-perl"
)
def test_exiftool_sees_no_other_difference(tmp_path: Path) -> None:
    for number, (data, _, _) in enumerate(VARIANTS.values()):
        (tmp_path / f"{number}.xmp").write_bytes(data)
    before = said_by_exiftool(tmp_path)
    for number in range(len(VARIANTS)):
        write_marks(tmp_path / f"{number}.xmp", rating=5, label="Green", now=NOW)
        (tmp_path / f"{number}.xmp.bak").unlink(missing_ok=True)
    after = said_by_exiftool(tmp_path)
    assert len(after) == len(before) == 40
    for name, found in after.items():
        changed = {k for k in {*found, *before[name]} if found.get(k) != before[name].get(k)}
        assert changed <= {"XMP-xmp:Rating", "XMP-xmp:Label", "XMP-xmp:MetadataDate"}, name
    number_of = {name: f"./{number}.xmp" for number, name in enumerate(VARIANTS)}
    for name, (_, rating, label) in VARIANTS.items():
        found = after[number_of[name]]
        assert found["XMP-xmp:Rating"] == (rating or 5), name
        assert found["XMP-xmp:Label"] == (label or "Green"), name


def test_a_new_sidecar_holds_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.CR3.xmp"
    assert write_marks(path, rating=0).outcome == "unchanged"
    assert not path.exists()
    assert write_marks(path, rating=4, label='"<&>" ü', now=NOW).outcome == "new"
    marks = read_marks(path)
    assert (marks.rating, marks.label, marks.pick) == (4, '"<&>" ü', None)
    assert marks.where == {"rating": "xmp:Rating", "label": "xmp:Label"}
    assert os.listdir(tmp_path) == ["IMG_1.CR3.xmp"]


def test_a_reject_is_written_on_demand_only(tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    with pytest.raises(ValueError, match="rejects=True"):
        write_marks(path, rating=-1)
    assert not path.exists()
    write_marks(path, rating=-1, rejects=True)
    assert read_marks(path).rating == -1


def test_a_backup_is_made_once(tmp_path: Path) -> None:
    path, backup = tmp_path / "a.xmp", tmp_path / "a.xmp.bak"
    path.write_bytes(packet('xmp:Rating="0"'))
    backup.write_text("older")
    assert write_marks(path, rating=5).outcome == "merged"
    assert backup.read_text() == "older"


def test_a_sidecar_in_upper_case_is_the_one(tmp_path: Path) -> None:
    (tmp_path / "A.XMP").write_bytes(packet(""))
    assert write_marks(tmp_path / "A.xmp", rating=5).path == tmp_path / "A.XMP"
    assert sorted(os.listdir(tmp_path)) == ["A.XMP", "A.XMP.bak"]


@pytest.mark.parametrize(
    ("attributes", "rating"),
    [
        ('xmp:Rating="5"', 5),
        ('xmp:Rating="4.0"', 4),
        ('xmp:Rating=" 3 "', 3),
        ('xmp:Rating="-1"', -1),
        ('xmp:Rating="75"', None),
        ('xmp:Rating="nan"', None),
        ('xmp:Rating="inf"', None),
        ('xmp:Rating="1e999"', None),
        ('xmp:Rating="1e0"', None),
        ('xmp:Rating=""', None),
    ],
)
def test_a_rating_is_a_number_between_minus_1_and_5(
    attributes: str, rating: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.xmp"
    path.write_bytes(packet(attributes))
    assert read_marks(path).rating == rating
    if rating is None and 'Rating=""' not in attributes:  # whatever it is, it is the person's
        assert write_marks(path, rating=5).outcome == "unchanged"


def test_stars_between_two_numbers_are_a_persons_whatever_the_label(tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    path.write_bytes(packet(f'xmp:Rating="3.7" xmp:Label="{label_of(ALTERNATE)}"'))
    assert write_marks(path, rating=5, label=label_of(PICK)).outcome == "unchanged"
    assert read_marks(path).rating == 4


@pytest.mark.parametrize(
    ("attributes", "pick", "flag"),
    [
        ('xmpDM:pick="1"', "pick", "xmpDM:pick"),
        ('xmpDM:pick="-1"', "reject", "xmpDM:pick"),
        ('xmpDM:pick="0"', None, None),
        ('digiKam:PickLabel="0"', None, None),
        ('digiKam:PickLabel="1"', "reject", "digiKam:PickLabel"),
        ('digiKam:PickLabel="2"', None, None),
        ('digiKam:PickLabel="3"', "pick", "digiKam:PickLabel"),
        ('xmpDM:pick="0" digiKam:PickLabel="3"', "pick", "digiKam:PickLabel"),
    ],
)
def test_flags_are_read(attributes: str, pick: str, flag: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    path.write_bytes(packet(attributes))
    marks = read_marks(path)
    assert (marks.pick, marks.where.get("pick")) == (pick, flag)


def test_what_a_history_says_is_not_the_photos(tmp_path: Path) -> None:
    nested = b'<xmp:X><rdf:Description xmp:Rating="5"/></xmp:X>'
    data = packet("").replace(b"/></rdf:RDF>", b">" + nested + b"</rdf:Description></rdf:RDF>")
    path = tmp_path / "a.xmp"
    path.write_bytes(data)
    assert read_marks(path).rating is None
    write_marks(path, rating=3)
    assert read_marks(path).rating == 3
    assert nested in path.read_bytes()


def test_every_place_of_a_property_gets_the_value(tmp_path: Path) -> None:
    data = packet('xmp:Rating="0"')
    data = data.replace(b"/></rdf:RDF>", b"><xmp:Rating>0</xmp:Rating></rdf:Description></rdf:RDF>")
    path = tmp_path / "a.xmp"
    path.write_bytes(data)
    write_marks(path, rating=3)
    assert path.read_bytes().count(b'Rating="3"') == 1
    assert b"<xmp:Rating>3</xmp:Rating>" in path.read_bytes()


def photos_with(data: bytes) -> dict[str, bytes]:
    png, tiff = PngInfo(), ImageFileDirectory_v2()
    png.add_itxt("XML:com.adobe.xmp", data.decode())
    tiff[700] = data
    image = scene()
    raw = io.BytesIO()
    raw.write(b"II*\0" + bytes(9 << 20) + data)  # far behind the head of a large file
    return {
        "a.jpg": jpeg(xmp=data),
        "a.png": encoded(image, "PNG", pnginfo=png),
        "a.tif": encoded(image, "TIFF", tiffinfo=tiff),
        "a.webp": encoded(image, "WEBP", xmp=data),
        "a.heic": encoded(image, "HEIF", xmp=data),
        "a.nef": raw.getvalue(),
    }


@pytest.mark.parametrize("name", photos_with(b""))
def test_marks_in_photos_are_read_and_photos_stay(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = photos_with(packet('xmp:Rating="4" xmp:Label="Red" xmpDM:pick="1"'))[name]
    path.write_bytes(data)
    marks = read_marks(path)
    assert (marks.rating, marks.label, marks.pick) == (4, "Red", "pick")
    assert path.read_bytes() == data


def test_a_photo_without_marks_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    assert read_marks(path).rating is None
    # Of several packets the first with marks counts: others are of auxiliary images.
    path.write_bytes(
        b"\xff\xd8" + packet("") + b"<x:xmpmeta></x:xmpmeta>" + packet("xmp:Label='x'")
    )
    assert read_marks(path).label == "x"
    explorer = packet('xmp:Rating="2"').replace(b"x:xmpmeta", b"xmp:xmpmeta")
    path.write_bytes(b"\xff\xd8" + explorer.replace(b"xmlns:x=", b"xmlns:xmp="))
    assert read_marks(path).rating == 2
    path.write_bytes(b"\xff\xd8<x:xmpmeta ></x:xmpmeta>")
    with pytest.raises(BadXmp):
        read_marks(path)


def test_names_and_collisions() -> None:
    photos = [Path("d", name) for name in ("IMG_1.JPG", "IMG_1.CR3", "IMG_2.jpg", "img_3.HEIC")]
    full = sidecar_paths(photos, full=True)
    assert [full.path_of[photo].name for photo in photos] == [
        "IMG_1.JPG.xmp", "IMG_1.CR3.xmp", "IMG_2.jpg.xmp", "img_3.HEIC.xmp",
    ]  # fmt: skip
    assert not full.notes
    short = sidecar_paths([*photos, Path("e/IMG_1.JPG")], full=False)
    assert {str(photo): path.name for photo, path in short.path_of.items()} == {
        "d/IMG_1.CR3": "IMG_1.xmp",
        "d/IMG_2.jpg": "IMG_2.xmp",
        "d/img_3.HEIC": "img_3.xmp",
        "e/IMG_1.JPG": "IMG_1.xmp",
    }
    assert short.notes == [
        "1 photo has no sidecar of its own, such as IMG_1.JPG: IMG_1.xmp is that of IMG_1.CR3"
    ]
    # Whatever the order of the names.
    assert list(sidecar_paths([Path("a.jpg"), Path("a.nef")], full=False).path_of) == [
        Path("a.nef")
    ]


def test_importing_culling_loads_neither_jax_nor_torch() -> None:
    code = (
        "import sys, jaxrank.culling.sidecars;"
        "sys.exit(bool({'jax', 'torch', 'lxml'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_cull_wrote_is_written_anew_and_a_persons_marks_are_not_mixed_with_it(
    tmp_path: Path,
) -> None:
    def marks(path: Path) -> tuple[int | None, str]:
        found = read_marks(path)
        return found.rating, found.label

    path = tmp_path / "a.xmp"
    write_marks(path, rating=5, label="jaxrank pick")
    write_marks(path, rating=3, label="jaxrank alternate")
    assert marks(path) == (3, "jaxrank alternate")
    write_marks(path, rating=4)  # a person's, of a contact sheet
    assert marks(path) == (4, "")
    write_marks(path, rating=5, label="jaxrank pick")
    assert marks(path) == (4, "")  # theirs now
    for stars, label in ((5, ""), (0, "Red"), (2, "Red")):
        path = tmp_path / f"{stars}{label}.xmp"
        write_marks(path, rating=stars, label=label)
        before = path.read_bytes()
        assert write_marks(path, rating=5, label="jaxrank pick").outcome == "unchanged"
        assert path.read_bytes() == before
