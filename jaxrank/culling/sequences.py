"""Photos of one camera one after the other: the steps between them, and runs of them."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.thumbnails import Alignment, align, hash_distance, is_flat

# Photos are of one scene where their difference hashes differ in so many bits at most, or their
# details correlate by so much (benchmarks/grouping.py).
_MOST_BITS, _LEAST_CORRELATION = 18, 0.45
# The same for photos of which something else says so, too.
_MOST_BITS_ROUGHLY, _LEAST_CORRELATION_ROUGHLY = 24, 0.3
# A shutter that is said to be open for longer is not believed.
_LONGEST_EXPOSURE = 3600.0


class Likeness(NamedTuple):
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


_UNLIKE = Likeness(64, Alignment(0.0, 0.0, 0.0, 0.0))


class Step(NamedTuple):
    """From a photo to the next one of its camera, shortly after.

    Attributes:
      seconds: between their times.
      open_seconds: of these, how many a shutter may have been open.
      likeness: of the two.
    """

    seconds: float
    open_seconds: float
    likeness: Likeness


class Piece(NamedTuple):
    """Photos one after the other, and the steps between them; None where there is a pause."""

    photos: Sequence[PhotoRecord]
    steps: Sequence[Step | None]

    def cut(self, start: int, stop: int) -> "Piece":
        return Piece(self.photos[start:stop], self.steps[start : max(start, stop - 1)])


class Span(NamedTuple):
    """Photos of a piece from `start` to before `stop`."""

    start: int
    stop: int
    reason: str


def time_of(record: PhotoRecord) -> float:
    """Seconds, as of `Capture.time`; 0 for a photo without a time."""
    return record.capture.time or 0.0


def step_between(a: PhotoRecord, b: PhotoRecord, gap_seconds: float) -> Step | None:
    """The step from a photo to the next one; None after a pause longer than `gap_seconds`."""
    # Of some cameras the time is that of the exposure's beginning, of others that of its end.
    exposures = (photo.capture.exposure_seconds or 0.0 for photo in (a, b))
    open_seconds = min(max(exposures), _LONGEST_EXPOSURE)
    seconds = time_of(b) - time_of(a)
    if seconds > gap_seconds + open_seconds and not of_one_burst(a, b):
        return None
    return Step(seconds, open_seconds, likeness_of(a, b))


def likeness_of(a: PhotoRecord, b: PhotoRecord) -> Likeness:
    """How alike two photos are by their thumbnails."""
    one, other = a.thumbnail, b.thumbnail
    # A portrait and a landscape are two framings; of a flat image there is nothing to compare.
    differ = (one.width, one.height) != (other.width, other.height)
    if differ or is_flat(one) or is_flat(other):
        return _UNLIKE
    return Likeness(hash_distance(one, other), align(one, other))


def of_one_burst(a: PhotoRecord, b: PhotoRecord) -> bool:
    """Whether their camera says that two photos are of one burst."""
    return bool(a.capture.burst_id) and a.capture.burst_id == b.capture.burst_id


def runs(marked: Sequence[bool], linked: Sequence[bool]) -> list[tuple[int, int]]:
    """Start and stop of each longest run of marked photos that are linked."""
    found: list[tuple[int, int]] = []
    for i, is_marked in enumerate(marked):
        if not is_marked:
            continue
        if found and found[-1][1] == i and linked[i - 1]:
            found[-1] = found[-1][0], i + 1
        else:
            found.append((i, i + 1))
    return found
