"""Reads marks (rating, label, flag) in XMP packets, and adds ratings and labels.

XMP is RDF in XML (ISO 16684-1). A property of a photo is an attribute or a child element of an
`rdf:Description`. Programs use both forms and prefixes of their own, so a property is identified
by its namespace:

- `xmp:Rating`: -1 (rejected, as Bridge and darktable write it), 0 (none), 1 to 5;
- `xmp:Label`: any text, the name of a colour in most programs;
- `xmpDM:pick`, as Lightroom Classic writes its flags since 13.2: -1, 0 or 1;
- `digiKam:PickLabel`: 0 (none), 1 (rejected), 2 (pending), 3 (accepted).

Packets are untrusted: a packet that declares entities is refused, and lxml's limits on depth and on
the size of a text apply.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Literal, NamedTuple

from jaxrank.culling.decisions import is_ours
from jaxrank.errors import UserError

Pick = Literal["pick", "reject"]

# Larger packets and sidecars are refused; drawn masks take a few megabytes at most.
MOST_BYTES = 16 << 20
# Bytes at the start and at the end of a photo that are searched for packets.
_HEAD, _TAIL = 8 << 20, 2 << 20
# Most packets of a photo that are read; phones write one for each auxiliary image.
_MOST_PACKETS = 32

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP = "http://ns.adobe.com/xap/1.0/"
RATING, LABEL, METADATA_DATE = (f"{{{_XMP}}}{name}" for name in ("Rating", "Label", "MetadataDate"))
_FLAGS: tuple[tuple[str, str, Mapping[str, Pick]], ...] = (
    (
        "xmpDM:pick",
        "{http://ns.adobe.com/xmp/1.0/DynamicMedia/}pick",
        {"1": "pick", "-1": "reject"},
    ),
    (
        "digiKam:PickLabel",
        "{http://www.digikam.org/ns/1.0/}PickLabel",
        {"3": "pick", "1": "reject"},
    ),
)
FLAGS = tuple(flag for flag, _, _ in _FLAGS)

# Root of a packet: Windows names it xmp:xmpmeta, old programs x:xapmeta, some programs omit it.
_PACKET = re.compile(rb"<([A-Za-z]{1,9}:(?:xmpmeta|xapmeta|RDF))[\s>]")
# Text before the root: a byte order mark, blanks, processing instructions, comments.
_PROLOGUE = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|<\?.*?\?>|<!--.*?-->)*", re.DOTALL)
_EMPTY = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="jaxrank">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description rdf:about="" xmlns:xmp="{_XMP}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
""".encode()


class BadXmp(Exception):
    """A packet that can't be read or can't be changed safely; the message is the reason."""


class Marks(NamedTuple):
    """Marks of a photo.

    Attributes:
      rating: rating from -1 to 5; None if missing or invalid.
      label: text of the label, or empty.
      pick: flag; None for no flag.
      where: name of the XMP property of each existing mark: `rating`, `label`, `pick`.
    """

    rating: int | None
    label: str
    pick: Pick | None
    where: Mapping[str, str]


NO_MARKS = Marks(None, "", None, {})


def read_packet(data: bytes) -> Marks:
    """Reads the marks in the bytes of a sidecar or of a packet.

    Raises:
      BadXmp: the bytes are not XMP.
    """
    descriptions = _descriptions(_parse(data))
    where: dict[str, str] = {}
    ratings = [r for text in _texts(descriptions, RATING) if (r := _rating(text)) is not None]
    rating = next(filter(None, ratings), 0) if ratings else None
    if rating is not None:
        where["rating"] = "xmp:Rating"
    label = next(filter(None, _texts(descriptions, LABEL)), "")
    if label:
        where["label"] = "xmp:Label"
    for flag, name, meanings in _FLAGS:
        for text in _texts(descriptions, name):
            if text in meanings:
                where["pick"] = flag
                return Marks(rating, label, meanings[text], where)
    return Marks(rating, label, None, where)


def read_embedded(file: BinaryIO, size: int) -> Marks:
    """Reads the marks in a photo's file, from the first XMP packet that has a mark.

    Packets are found by their text in the first 8 MB and the last 2 MB of the file (XMP
    specification, part 3). As a rule, no format compresses this text.

    Args:
      file: file of the photo, opened for reading bytes.
      size: size of the file in bytes.

    Raises:
      BadXmp: there are packets, and none can be read.
      OSError: the file can't be read.
    """
    pieces = [file.read(_HEAD)]
    if size > _HEAD:
        file.seek(max(_HEAD, size - _TAIL))
        pieces.append(file.read(_TAIL))
    bad, good = None, None
    for packet in _packets(pieces):
        try:
            good = read_packet(packet)
        except BadXmp as error:
            bad = bad or error
            continue
        if good.rating or good.label or good.pick:
            return good
    if good is None and bad is not None:
        raise bad
    return good or NO_MARKS


def _packets(pieces: list[bytes]) -> Iterator[bytes]:
    number = 0
    for data in pieces:
        start = _PACKET.search(data)
        while start is not None and number < _MOST_PACKETS:
            closing = b"</" + start[1] + b">"
            end = data.find(closing, start.end())
            if end < 0:
                break
            yield data[start.start() : end + len(closing)]
            number += 1
            start = _PACKET.search(data, end)


def with_marks(data: bytes | None, rating: int, label: str, date: str) -> bytes | None:
    """Adds a rating, a label and the date of the change to a sidecar's bytes.

    A person's marks stay: any rating but 0, and any label. Marks that `cull` wrote are replaced,
    also by the rating 0 and an empty label. Nothing but `xmp:Rating`, `xmp:Label` and
    `xmp:MetadataDate` differs.

    Args:
      data: bytes of the sidecar; None for a new one.
      rating: rating to add; 0 for none.
      label: label to add; empty for none.
      date: date of the change, in ISO 8601.

    Returns:
      The new bytes; None if nothing changes.

    Raises:
      BadXmp: the bytes are not XMP, or have a form that can't be changed safely.
    """
    before = _EMPTY if data is None else data
    root = _parse(before)
    descriptions = _descriptions(root)
    stars = [text for text in _texts(descriptions, RATING) if not _is_zero(text)]
    labels = [text for text in _texts(descriptions, LABEL) if text]
    changes: dict[str, str] = {}
    if is_ours(_whole(stars), "".join(labels)):
        # Marks that `cull` wrote are replaced; an old label must not stay beside a person's stars.
        changes |= {RATING: str(rating)} if _whole(stars) != rating else {}
        changes |= {LABEL: label} if labels != [label] else {}
    elif not is_ours(rating, label) or not (stars or labels):
        # `cull` writes its stars and label together or not at all: `is_ours` needs both.
        changes |= {RATING: str(rating)} if rating and not stars else {}
        changes |= {LABEL: label} if label and not labels else {}
    if not changes:
        return None
    for name, value in (changes | {METADATA_DATE: date}).items():
        _set(descriptions, name, value)
    after = _spliced(before, root)
    _check_rest(before, after)
    return after


def _whole(texts: Sequence[str]) -> int | None:
    """Whole number in a single text; None for several texts or other text."""
    number = _number(texts[0]) if len(texts) == 1 else None
    return int(number) if number is not None and number.is_integer() else None


def _etree() -> Any:
    try:
        from lxml import etree
    except ImportError:
        raise UserError("XMP needs lxml, which is missing: pip install 'jaxrank[photos]'") from None
    return etree


def _parse(data: bytes) -> Any:
    """Parses a packet and returns its root element."""
    etree = _etree()
    if len(data) > MOST_BYTES:
        raise BadXmp(f"more than {MOST_BYTES >> 20} MB")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, strip_cdata=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        text = str(error).splitlines()
        raise BadXmp(f"not XML ({text[0][:100] if text else type(error).__name__})") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise BadXmp("it declares a document type or entities, which XMP does not allow")
    return root


def _descriptions(root: Any) -> list[Any]:
    """Elements with the photo's properties, without the elements of its history."""
    rdf = next(root.iter(f"{{{_RDF}}}RDF"), None)
    found = [] if rdf is None else rdf.findall(f"{{{_RDF}}}Description")
    if not found:
        raise BadXmp("not XMP (it has no rdf:Description)")
    return found


def _texts(descriptions: list[Any], name: str) -> list[str]:
    """Values of a property in all its forms and places, without outer blanks."""
    found = []
    for description in descriptions:
        if name in description.attrib:
            found.append(description.attrib[name].strip())
        for element in description.iterchildren(name):
            value = element.findtext(f"{{{_RDF}}}value")  # where the property has qualifiers
            found.append(((element.text if value is None else value) or "").strip())
    return found


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?", text) else None


def _rating(text: str) -> int | None:
    number = _number(text)
    return None if number is None or not -1 <= number <= 5 else round(number)


def _is_zero(text: str) -> bool:
    return not text or _number(text) == 0


def _set(descriptions: list[Any], name: str, value: str) -> None:
    """Sets a property wherever it occurs, or adds it."""
    found = False
    for description in descriptions:
        if name in description.attrib:
            description.attrib[name] = value
            found = True
        for element in description.iterchildren(name):
            if len(element) or element.attrib:
                raise BadXmp("a rating, label or date has a form that is not changed")
            element.text = value
            found = True
    if not found:
        _add(descriptions[0], name, value)


def _add(description: Any, name: str, value: str) -> None:
    prefixes = [prefix for prefix, uri in description.nsmap.items() if prefix and uri == _XMP]
    if prefixes:
        description.set(name, value)
    else:
        _etree().SubElement(description, name, nsmap={"xmp": _XMP}).text = value


def _spliced(before: bytes, root: Any) -> bytes:
    """Replaces the root element of a file, and keeps all bytes around it.

    Around it are, for example, the byte order mark, the padding and the ends of the packet.
    """
    declared = root.getroottree().docinfo.encoding or "UTF-8"
    # UTF-16 need not be declared; zero bytes reveal it.
    if b"\0" in before or declared.upper() not in ("UTF-8", "UTF8", "US-ASCII", "ASCII"):
        raise BadXmp("not UTF-8; only UTF-8 files are changed")
    start = _PROLOGUE.match(before)
    assert start is not None  # the pattern also matches the empty string
    prefix = f"{root.prefix}:" if root.prefix else ""
    closing = f"</{prefix}{root.tag.rpartition('}')[2]}".encode()
    end = before.find(b">", before.rfind(closing)) + 1
    new = _etree().tostring(root, encoding="utf-8", with_tail=False)
    return before[: start.end()] + new + before[end:]


def _check_rest(before: bytes, after: bytes) -> None:
    """Raises BadXmp if more than the three properties differs, in canonical XML."""
    if _without_marks(before) != _without_marks(after):
        raise BadXmp("it has a form that can't be changed safely")


def _without_marks(data: bytes) -> bytes:
    root = _parse(data)
    for description in _descriptions(root):
        for name in (RATING, LABEL, METADATA_DATE):
            description.attrib.pop(name, None)
            for element in list(description.iterchildren(name)):
                _remove(element)
    etree = _etree()
    try:
        text: bytes = etree.tostring(root.getroottree(), method="c14n")
    except etree.C14NError:  # such as for a relative namespace
        raise BadXmp("it has no canonical form, so it is not changed") from None
    return text


def _remove(element: Any) -> None:
    """Removes an element but keeps the text after it."""
    parent, before = element.getparent(), element.getprevious()
    if before is None:
        parent.text = (parent.text or "") + (element.tail or "")
    else:
        before.tail = (before.tail or "") + (element.tail or "")
    element.tail = None
    parent.remove(element)
