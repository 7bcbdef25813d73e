"""Which photos are one series, and which ones belong together and must not be culled.

Photos of one camera in the order of their times fall into brackets, focus stacks and panoramas,
which are set aside, and bursts of photos of one scene, of which the best is looked for.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.thumbnails import Alignment, align, hash_distance, is_flat

Kind = Literal["burst", "single", "bracket", "focus_stack", "panorama"]

# Photos are of one scene where their difference hashes differ in so many bits at most, or their
# details correlate by so much (benchmarks/grouping.py).
_MOST_BITS, _LEAST_CORRELATION = 18, 0.45
# The same for photos of which something else says so, too.
_MOST_BITS_ROUGHLY, _LEAST_CORRELATION_ROUGHLY = 24, 0.3
# Brackets: EV by which exposures differ, and seconds inside which photos need not be alike.
_LEAST_EV, _BRACKET_SECONDS = 0.25, 3.0
# Focus stacks: by what factor distances differ, in three photos, or in many; and by how much of
# the frame it may move.
_FOCUS_FACTOR, _FOCUS_FACTOR_OF_MANY, _MANY, _STILL = 1.1, 1.005, 6, 0.035
# Panoramas: by how much of the frame it moves, how well the rest correlates, and the least pause:
# a burst that follows a moving subject is faster.
_LEAST_MOVE, _OVERLAP_CORRELATION, _PANORAMA_SECONDS = 0.2, 0.5, 0.5
# A shutter that is said to be open for longer is not believed.
_LONGEST_EXPOSURE = 3600.0


class Group(NamedTuple):
    """Photos that belong together.

    Attributes:
      kind: of a burst the best photo is looked for; all others are never culled.
      photos: their names, in the order of their times.
      reason: in words.
    """

    kind: Kind
    photos: tuple[str, ...]
    reason: str


class _Likeness(NamedTuple):
    """How alike two photos are; `bits` is in how many their difference hashes differ."""

    bits: int
    alignment: Alignment

    @property
    def is_same_scene(self) -> bool:
        return self.bits <= _MOST_BITS or self.alignment.same >= _LEAST_CORRELATION

    @property
    def is_roughly_same_scene(self) -> bool:
        correlates = self.alignment.same >= _LEAST_CORRELATION_ROUGHLY
        return self.bits <= _MOST_BITS_ROUGHLY or correlates


class _Step(NamedTuple):
    """From a photo to the next one of its camera, shortly after.

    Attributes:
      seconds: between their times.
      open_seconds: of these, how many a shutter may have been open.
      likeness: of the two.
    """

    seconds: float
    open_seconds: float
    likeness: _Likeness


class _Piece(NamedTuple):
    """Photos one after the other, and the steps between them; None where there is a pause."""

    photos: Sequence[PhotoRecord]
    steps: Sequence[_Step | None]

    def cut(self, start: int, stop: int) -> "_Piece":
        return _Piece(self.photos[start:stop], self.steps[start : max(start, stop - 1)])


class _Span(NamedTuple):
    """Photos of a piece from `start` to before `stop`."""

    start: int
    stop: int
    reason: str


_UNLIKE = _Likeness(64, Alignment(0.0, 0.0, 0.0, 0.0))
_Finder: TypeAlias = Callable[[_Piece], list[_Span]]


def group_photos(records: Iterable[PhotoRecord], *, gap_seconds: float = 10.0) -> list[Group]:
    """Groups photos by time, camera and likeness; each photo is in one group.

    Args:
      records: of the photos, in any order.
      gap_seconds: the longest pause between the photos of one group, from the end of an exposure.

    Returns:
      The groups, in the order of their first photos' cameras and times.
    """
    streams: dict[tuple[str, bool], list[PhotoRecord]] = {}
    groups = []
    for record in sorted(records, key=lambda record: record.name):
        if record.capture.time is None:
            reason = "the photo does not say when it was taken"
            groups.append(Group("single", (record.name,), reason))
        else:
            key = record.capture.camera, record.capture.has_offset
            streams.setdefault(key, []).append(record)
    for stream in streams.values():
        stream.sort(key=_time)  # stable: by name where times are the same
        steps = [_step(a, b, gap_seconds) for a, b in itertools.pairwise(stream)]
        groups += _groups_of(_Piece(stream, steps))
    return groups


def _time(record: PhotoRecord) -> float:
    return record.capture.time or 0.0


def _step(a: PhotoRecord, b: PhotoRecord, gap_seconds: float) -> _Step | None:
    # Of some cameras the time is that of the exposure's beginning, of others that of its end.
    exposures = (photo.capture.exposure_seconds or 0.0 for photo in (a, b))
    open_seconds = min(max(exposures), _LONGEST_EXPOSURE)
    seconds = _time(b) - _time(a)
    if seconds > gap_seconds + open_seconds and not _of_one_burst(a, b):
        return None
    return _Step(seconds, open_seconds, _likeness(a, b))


def _likeness(a: PhotoRecord, b: PhotoRecord) -> _Likeness:
    one, other = a.thumbnail, b.thumbnail
    # A portrait and a landscape are two framings; of a flat image there is nothing to compare.
    differ = (one.width, one.height) != (other.width, other.height)
    if differ or is_flat(one) or is_flat(other):
        return _UNLIKE
    return _Likeness(hash_distance(one, other), align(one, other))


def _of_one_burst(a: PhotoRecord, b: PhotoRecord) -> bool:
    return bool(a.capture.burst_id) and a.capture.burst_id == b.capture.burst_id


def _groups_of(piece: _Piece) -> list[Group]:
    """The groups of a camera's photos. Each finder takes its own out; none looks across them."""
    finders: tuple[tuple[Kind, _Finder], ...] = (
        ("bracket", _brackets),
        ("focus_stack", _focus_stacks),
        ("panorama", _panoramas),
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
                groups.append((_time(piece.photos[start]), Group(kind, names, reason)))
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
            groups.append((_time(photo), Group("single", (photo.name,), reason)))
    return [group for _, group in sorted(groups)]


def _brackets(piece: _Piece) -> list[_Span]:
    """Photos that the camera calls a bracket, and runs of at least three exposures that all
    differ: in their bias, or in their shutter speed where the photographer set it."""
    photos = piece.photos
    linked = [
        step is not None
        and (
            step.seconds <= _BRACKET_SECONDS + step.open_seconds
            or step.likeness.is_roughly_same_scene
        )
        for step in piece.steps
    ]
    marked = [photo.capture.drive == "exposure bracket" for photo in photos]
    for i in range(len(photos) - 2):
        three = photos[i : i + 3]
        if all(linked[i : i + 2]) and (_all_differ(map(_bias, three)) or _shutters_differ(three)):
            marked[i : i + 3] = [True] * 3
    return [
        _Span(start, stop, _bracket_reason(photos[start:stop]))
        for start, stop in _runs(marked, linked)
    ]


def _bias(photo: PhotoRecord) -> float | None:
    return photo.capture.exposure_bias


def _shutters_differ(photos: Sequence[PhotoRecord]) -> bool:
    """Whether only the shutter speed differs, and the photographer set it."""
    captures = [photo.capture for photo in photos]
    if not all(capture.manual for capture in captures):
        return False
    if len({(capture.f_number, capture.iso) for capture in captures}) > 1:
        return False
    return _all_differ(
        math.log2(capture.exposure_seconds) if capture.exposure_seconds else None
        for capture in captures
    )


def _all_differ(levels: Iterable[float | None]) -> bool:
    levels = list(levels)
    known = sorted(level for level in levels if level is not None)
    apart = all(b - a >= _LEAST_EV for a, b in itertools.pairwise(known))
    return len(known) == len(levels) and apart


def _bracket_reason(photos: Sequence[PhotoRecord]) -> str:
    biases = [photo.capture.exposure_bias for photo in photos]
    if len({*biases}) > 1 and None not in biases:
        shown = ", ".join(f"{bias:+.1f}" for bias in biases[:9] if bias is not None)
        return f"exposure bracket: bias {shown}{', ...' if len(biases) > 9 else ''} EV"
    if any(photo.capture.drive == "exposure bracket" for photo in photos):
        return "exposure bracket: the camera says so"
    return "exposure bracket: only the shutter speed differs, set by hand"


def _focus_stacks(piece: _Piece) -> list[_Span]:
    """Photos that the camera calls a focus bracket, and runs of one framing and exposure in which
    the focus moves one way."""
    photos = piece.photos
    marked = [photo.capture.drive == "focus bracket" for photo in photos]
    spans = [
        _Span(start, stop, "focus stack: the camera says so")
        for start, stop in _runs(marked, [step is not None for step in piece.steps])
    ]
    start = 0
    while start < len(photos) - 2 and not any(marked):
        stop, factors = start + 1, list[float]()
        while stop < len(photos) and (factor := _focus_factor(piece, stop - 1)):
            if factors and (factor > 1) != (factors[0] > 1):
                break
            factors.append(factor)
            stop += 1
        least = min((max(factor, 1 / factor) for factor in factors), default=1.0)
        if stop - start >= _MANY or (stop - start >= 3 and least >= _FOCUS_FACTOR):
            first, last = (photos[i].capture.focus_distance for i in (start, stop - 1))
            reason = f"focus stack: one framing, focus from {first:.3g} to {last:.3g} m"
            spans.append(_Span(start, stop, reason))
            start = stop
        else:
            start = max(start + 1, stop - 1)
    return spans


def _focus_factor(piece: _Piece, i: int) -> float:
    """The ratio of the next photo's focus distance to a photo's; 0 where no stack continues."""
    a, b, step = piece.photos[i].capture, piece.photos[i + 1].capture, piece.steps[i]
    if step is None or not step.likeness.is_roughly_same_scene:
        return 0.0
    if max(abs(step.likeness.alignment.right), abs(step.likeness.alignment.down)) > _STILL:
        return 0.0
    if "continuous" in (a.drive, b.drive) or a.burst_id or a.exposure_bias != b.exposure_bias:
        return 0.0
    if not a.focus_distance or not b.focus_distance:
        return 0.0
    factor = b.focus_distance / a.focus_distance
    return factor if max(factor, 1 / factor) >= _FOCUS_FACTOR_OF_MANY else 0.0


def _panoramas(piece: _Piece) -> list[_Span]:
    """At least three photos whose frames move the same way and overlap."""
    moves = [_move(piece, i) for i in range(len(piece.steps))]
    marked = [False] * len(piece.photos)
    for i in range(len(moves) - 1):
        if moves[i] and moves[i] == moves[i + 1]:
            marked[i : i + 3] = [True] * 3
    linked = [bool(move) for move in moves]
    return [
        _Span(start, stop, f"panorama: overlapping frames, moving {moves[start]}")
        for start, stop in _runs(marked, linked)
    ]


def _move(piece: _Piece, i: int) -> str:
    """Where the frame moves from a photo to the next one of a panorama, or nothing."""
    step, capture = piece.steps[i], piece.photos[i].capture
    if step is None or step.seconds < _PANORAMA_SECONDS:
        return ""
    if capture.drive == "continuous" or capture.burst_id:
        return ""
    _, overlapping, right, down = step.likeness.alignment
    if overlapping < _OVERLAP_CORRELATION or max(abs(right), abs(down)) < _LEAST_MOVE:
        return ""
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def _bursts(piece: _Piece) -> list[_Span]:
    """At least two photos, each of the scene of the one before it or of its camera's burst."""
    linked = [_is_one_scene(piece, i) for i in range(len(piece.steps))]
    spans = []
    for start, stop in _runs([True] * len(piece.photos), linked):
        if stop - start > 1:
            reason = _burst_reason(piece.photos[start:stop])
            spans.append(_Span(start, stop, reason))
    return spans


def _is_one_scene(piece: _Piece, i: int) -> bool:
    """Whether a photo and the next one show one scene. One that is blurred, or in which something
    moved, may be only roughly like both its neighbours: then these have to be like each other."""
    step, photos = piece.steps[i], piece.photos
    if step is None:
        return False
    if step.likeness.is_same_scene or _of_one_burst(photos[i], photos[i + 1]):
        return True
    if not step.likeness.is_roughly_same_scene:
        return False
    pairs = [(a, a + 2) for a in (i - 1, i) if a >= 0 and a + 2 < len(photos)]
    return any(
        all(piece.steps[a:b]) and _likeness(photos[a], photos[b]).is_same_scene for a, b in pairs
    )


def _burst_reason(photos: Sequence[PhotoRecord]) -> str:
    if all(_of_one_burst(photos[0], photo) for photo in photos):
        return "a burst, by its camera"
    return f"one scene, within {max(_time(photos[-1]) - _time(photos[0]), 0.1):.1f} s"


def _runs(marked: Sequence[bool], linked: Sequence[bool]) -> list[tuple[int, int]]:
    """Start and stop of each longest run of marked photos that are linked."""
    runs: list[tuple[int, int]] = []
    for i, is_marked in enumerate(marked):
        if not is_marked:
            continue
        if runs and runs[-1][1] == i and linked[i - 1]:
            runs[-1] = runs[-1][0], i + 1
        else:
            runs.append((i, i + 1))
    return runs
