"""Groups of photos that are never culled: brackets, focus stacks and panoramas."""

import itertools
import math
from collections.abc import Iterable, Sequence

from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.sequences import Piece, Span, runs

# Brackets: least difference of exposures in EV; pause in seconds within which photos need not be
# alike.
_LEAST_EV, _BRACKET_SECONDS = 0.25, 3.0
# Focus stacks: least factor between focus distances for three photos, and for many; number of
# photos that counts as many; largest movement of the frame, as a share of it.
_FOCUS_FACTOR, _FOCUS_FACTOR_OF_MANY, _MANY, _STILL = 1.1, 1.005, 6, 0.035
# Panoramas: least movement of the frame, as a share of it; least correlation of the overlap; least
# pause in seconds, since a burst that follows a moving subject is faster.
_LEAST_MOVE, _OVERLAP_CORRELATION, _PANORAMA_SECONDS = 0.2, 0.5, 0.5


def brackets(piece: Piece) -> list[Span]:
    """Finds exposure brackets: photos that the camera marks as a bracket, and runs by exposure.

    A run consists of threes of consecutive photos whose exposures all differ: in their bias, or in
    the shutter speed if the photographer set it.
    """
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
        Span(start, stop, _bracket_reason(photos[start:stop]))
        for start, stop in runs(marked, linked)
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
        return "exposure bracket: marked by the camera"
    return "exposure bracket: only the shutter speed differs, set by hand"


def focus_stacks(piece: Piece) -> list[Span]:
    """Finds focus stacks: photos that the camera marks as a focus bracket, or runs by focus.

    A run has one framing and one exposure bias, and its focus moves in one direction. Runs are
    searched for only if the camera marks no photo of the piece.
    """
    photos = piece.photos
    marked = [photo.capture.drive == "focus bracket" for photo in photos]
    spans = [
        Span(start, stop, "focus stack: marked by the camera")
        for start, stop in runs(marked, [step is not None for step in piece.steps])
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
            spans.append(Span(start, stop, reason))
            start = stop
        else:
            start = max(start + 1, stop - 1)
    return spans


def _focus_factor(piece: Piece, i: int) -> float:
    """Ratio of the next photo's focus distance to this photo's; 0 if no stack continues."""
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


def panoramas(piece: Piece) -> list[Span]:
    """Finds panoramas: at least three photos whose frames overlap and move in one direction."""
    moves = [_move(piece, i) for i in range(len(piece.steps))]
    marked = [False] * len(piece.photos)
    for i in range(len(moves) - 1):
        if moves[i] and moves[i] == moves[i + 1]:
            marked[i : i + 3] = [True] * 3
    linked = [bool(move) for move in moves]
    return [
        Span(start, stop, f"panorama: overlapping frames, moving {moves[start]}")
        for start, stop in runs(marked, linked)
    ]


def _move(piece: Piece, i: int) -> str:
    """Direction in which a panorama's frame moves to the next photo; empty if none continues."""
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
