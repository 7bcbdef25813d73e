"""Sequences of one camera's photos: steps from photo to photo, and runs of linked photos."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.thumbnails import Alignment, align, hash_distance, is_flat

# Photos show one scene if their difference hashes differ in at most this many bits, or if their
# details correlate at least this much (benchmarks/grouping.py).
_MOST_BITS, _LEAST_CORRELATION = 18, 0.45
# The same limits for photos with other evidence of one scene.
_MOST_BITS_ROUGHLY, _LEAST_CORRELATION_ROUGHLY = 24, 0.3
# Upper limit of exposures in seconds; longer exposures count as this long.
_LONGEST_EXPOSURE = 3600.0


class Likeness(NamedTuple):
    """Likeness of two photos.

    Attributes:
      bits: number of bits in which the difference hashes differ.
      alignment: best alignment of the two photos.
    """

    bits: int
    alignment: Alignment

    @property
    def is_same_scene(self) -> bool:
        return self.bits <= _MOST_BITS or self.alignment.same >= _LEAST_CORRELATION

    @property
    def is_roughly_same_scene(self) -> bool:
        correlates = self.alignment.same >= _LEAST_CORRELATION_ROUGHLY
        return self.bits <= _MOST_BITS_ROUGHLY or correlates


_UNLIKE = Likeness(64, Alignment(0.0, 0.0, 0.0, 0.0))


class Step(NamedTuple):
    """Step from a photo to the next one of its camera, shortly after.

    Attributes:
      seconds: time between the two photos, in seconds.
      open_seconds: time that a shutter may have been open in between: the longer exposure of the
        two, in seconds.
      likeness: likeness of the two photos.
    """

    seconds: float
    open_seconds: float
    likeness: Likeness


class Piece(NamedTuple):
    """Consecutive photos and the steps between them; a step is None at a pause."""

    photos: Sequence[PhotoRecord]
    steps: Sequence[Step | None]

    def cut(self, start: int, stop: int) -> "Piece":
        return Piece(self.photos[start:stop], self.steps[start : max(start, stop - 1)])


class Span(NamedTuple):
    """Photos of a piece from `start` to `stop`, without `stop`."""

    start: int
    stop: int
    reason: str


def time_of(record: PhotoRecord) -> float:
    """Capture time in seconds, see `Capture.time`; 0 for a photo without a time."""
    return record.capture.time or 0.0


def step_between(a: PhotoRecord, b: PhotoRecord, gap_seconds: float) -> Step | None:
    """Step from a photo to the next one; None after a pause longer than `gap_seconds`.

    Photos of one burst by their camera have a step after any pause.
    """
    # Some cameras record the start of the exposure as its time, others its end.
    exposures = (photo.capture.exposure_seconds or 0.0 for photo in (a, b))
    open_seconds = min(max(exposures), _LONGEST_EXPOSURE)
    seconds = time_of(b) - time_of(a)
    if seconds > gap_seconds + open_seconds and not of_one_burst(a, b):
        return None
    return Step(seconds, open_seconds, likeness_of(a, b))


def likeness_of(a: PhotoRecord, b: PhotoRecord) -> Likeness:
    """Likeness of two photos by their thumbnails."""
    one, other = a.thumbnail, b.thumbnail
    # Portrait and landscape formats are different framings; a flat image has no detail to compare.
    differ = (one.width, one.height) != (other.width, other.height)
    if differ or is_flat(one) or is_flat(other):
        return _UNLIKE
    return Likeness(hash_distance(one, other), align(one, other))


def of_one_burst(a: PhotoRecord, b: PhotoRecord) -> bool:
    """Whether two photos are of one burst by their camera's burst ID."""
    return bool(a.capture.burst_id) and a.capture.burst_id == b.capture.burst_id


def runs(marked: Sequence[bool], linked: Sequence[bool]) -> list[tuple[int, int]]:
    """Start and stop of each maximal run of marked photos that are linked."""
    found: list[tuple[int, int]] = []
    for i, is_marked in enumerate(marked):
        if not is_marked:
            continue
        if found and found[-1][1] == i and linked[i - 1]:
            found[-1] = found[-1][0], i + 1
        else:
            found.append((i, i + 1))
    return found
