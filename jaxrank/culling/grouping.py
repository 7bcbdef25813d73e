"""Groups photos into bursts, which are culled, and into sets that must not be culled.

The photos of each camera are grouped in the order of their times. Brackets, focus stacks and
panoramas are set aside. Bursts are photos of one scene, of which `cull` picks the best.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.sequences import (
    Piece,
    Span,
    likeness_of,
    of_one_burst,
    runs,
    step_between,
    time_of,
)
from jaxrank.culling.set_aside import brackets, focus_stacks, panoramas

Kind = Literal["burst", "single", "bracket", "focus_stack", "panorama"]


class Group(NamedTuple):
    """Photos that belong together.

    Attributes:
      kind: kind of the group; only bursts are culled.
      photos: names of the photos, in the order of their times.
      reason: reason for the group, in words.
    """

    kind: Kind
    photos: tuple[str, ...]
    reason: str


_Finder: TypeAlias = Callable[[Piece], list[Span]]


def group_photos(records: Iterable[PhotoRecord], *, gap_seconds: float = 10.0) -> list[Group]:
    """Groups photos by time, camera and likeness; each photo is in one group.

    Args:
      records: records of the photos, in any order.
      gap_seconds: longest pause between photos of one group, from the end of an exposure.

    Returns:
      The groups: first single photos without a time, then camera by camera in the order of time.
    """
    streams: dict[tuple[str, bool], list[PhotoRecord]] = {}
    groups = []
    for record in sorted(records, key=lambda record: record.name):
        if record.capture.time is None:
            reason = "no capture time in the photo"
            groups.append(Group("single", (record.name,), reason))
        else:
            key = record.capture.camera, record.capture.has_offset
            streams.setdefault(key, []).append(record)
    for stream in streams.values():
        stream.sort(key=time_of)  # stable: photos of equal times stay in the order of names
        steps = [step_between(a, b, gap_seconds) for a, b in itertools.pairwise(stream)]
        groups += _groups_of(Piece(stream, steps))
    return groups


def _groups_of(piece: Piece) -> list[Group]:
    """Groups a camera's photos; no group spans photos that an earlier finder has grouped."""
    finders: tuple[tuple[Kind, _Finder], ...] = (
        ("bracket", brackets),
        ("focus_stack", focus_stacks),
        ("panorama", panoramas),
        ("burst", _bursts),
    )
    rest = [piece]
    groups: list[tuple[float, Group]] = []
    for kind, find in finders:
        pieces, rest = rest, []
        for piece in pieces:
            end = 0
            for start, stop, reason in find(piece):
                names = tuple(photo.name for photo in piece.photos[start:stop])
                groups.append((time_of(piece.photos[start]), Group(kind, names, reason)))
                rest.append(piece.cut(end, start))
                end = stop
            rest.append(piece.cut(end, len(piece.photos)))
    for piece in rest:
        for i, photo in enumerate(piece.photos):
            near = any(piece.steps[max(i - 1, 0) : i + 1])
            reason = (
                "the photos before and after it show other scenes"
                if near
                else "no photo of its camera shortly before or after, or only of other groups"
            )
            groups.append((time_of(photo), Group("single", (photo.name,), reason)))
    return [group for _, group in sorted(groups)]


def _bursts(piece: Piece) -> list[Span]:
    """Finds bursts: at least two photos, each of the same scene or burst ID as the one before."""
    linked = [_is_one_scene(piece, i) for i in range(len(piece.steps))]
    spans = []
    for start, stop in runs([True] * len(piece.photos), linked):
        if stop - start > 1:
            reason = _burst_reason(piece.photos[start:stop])
            spans.append(Span(start, stop, reason))
    return spans


def _is_one_scene(piece: Piece, i: int) -> bool:
    """Whether a photo and the next one show one scene.

    A photo that is blurred, or in which something moved, may be only roughly like its neighbours.
    It then belongs to their scene if the two neighbours are like each other.
    """
    step, photos = piece.steps[i], piece.photos
    if step is None:
        return False
    if step.likeness.is_same_scene or of_one_burst(photos[i], photos[i + 1]):
        return True
    if not step.likeness.is_roughly_same_scene:
        return False
    pairs = [(a, a + 2) for a in (i - 1, i) if a >= 0 and a + 2 < len(photos)]
    return any(
        all(piece.steps[a:b]) and likeness_of(photos[a], photos[b]).is_same_scene for a, b in pairs
    )


def _burst_reason(photos: Sequence[PhotoRecord]) -> str:
    if all(of_one_burst(photos[0], photo) for photo in photos):
        return "burst ID of the camera"
    return f"one scene, within {max(time_of(photos[-1]) - time_of(photos[0]), 0.1):.1f} s"
