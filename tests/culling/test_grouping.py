"""Groups of photos: by time, camera and likeness; what is set aside and never culled."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from jaxrank.culling.capture import Capture
from jaxrank.culling.grouping import Group, group_photos
from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.thumbnails import Thumbnail, make_thumbnail

NOON = 1704103200.0


def world(seed: int) -> Image.Image:
    """A large picture to take photos of."""
    rng = np.random.default_rng(seed)
    total = np.zeros((400, 1200))
    for cells in (4, 8, 16, 32, 64):
        coarse = Image.fromarray(rng.normal(0, 1, (cells, 3 * cells)).astype(np.float32))
        total += np.asarray(coarse.resize((1200, 400), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(128 + 35 * total, 0, 255).astype(np.uint8))


WORLDS = [world(seed) for seed in range(4)]


def seen(scene: int, left: int = 300, top: int = 100, blur: float = 0.0) -> Thumbnail:
    frame = WORLDS[scene].crop((left, top, left + 300, top + 200))
    return make_thumbnail(frame.filter(ImageFilter.GaussianBlur(blur)) if blur else frame)


def photo(
    number: int, seconds: float | None, thumbnail: Thumbnail | int = 0, **capture: Any
) -> PhotoRecord:
    """A photo some seconds after noon; a number stands for a scene, seen from one place."""
    if isinstance(thumbnail, int):
        thumbnail = seen(thumbnail, left=300 + number % 3)
    time = None if seconds is None else NOON + seconds
    name = f"{number:04d}.jpg"
    return PhotoRecord(
        name=name, files=(name,), size=1, modified=1,
        capture=Capture(**({"time": time, "camera": "A"} | capture)), thumbnail=thumbnail,
    )  # fmt: skip


def found(records: Sequence[PhotoRecord], **options: Any) -> list[tuple[str, list[int]]]:
    groups = group_photos(records, **options)
    return [(group.kind, [int(name[:4]) for name in group.photos]) for group in groups]


def test_a_burst_is_photos_of_one_scene_with_no_pause() -> None:
    records = [photo(i, s) for i, s in enumerate((0, 1, 1.5, 10.0, 20.5, 21))]
    assert found(records) == [("burst", [0, 1, 2, 3]), ("burst", [4, 5])]
    assert found(records, gap_seconds=11) == [("burst", [0, 1, 2, 3, 4, 5])]
    assert found(records, gap_seconds=0.5) == [
        ("single", [0]), ("burst", [1, 2]), ("single", [3]), ("burst", [4, 5]),
    ]  # fmt: skip
    assert found(records[::-1]) == found(records)
    assert group_photos(records)[0].reason == "one scene, within 10.0 s"


def test_other_scenes_seconds_apart_stand_alone() -> None:
    records = [photo(i, i, scene) for i, scene in enumerate((0, 1, 2, 2, 3, 0))]
    assert found(records) == [
        ("single", [0]), ("single", [1]), ("burst", [2, 3]), ("single", [4]), ("single", [5]),
    ]  # fmt: skip
    assert group_photos(records)[0].reason == "the photos before and after it show other scenes"


def test_sub_seconds_and_names_order_photos() -> None:
    """By name the scenes would alternate."""
    records = [photo(0, 0.0, 0), photo(1, 0.7, 1), photo(2, 0.2, 0), photo(3, 0.7, 1)]
    assert found(records) == [("burst", [0, 2]), ("burst", [1, 3])]


def test_cameras_do_not_mix() -> None:
    records = [photo(i, i, camera="AB"[i % 2]) for i in range(6)]
    assert found(records) == [("burst", [0, 2, 4]), ("burst", [1, 3, 5])]
    clocks = [photo(i, i, has_offset=bool(i % 2)) for i in range(4)]
    assert found(clocks) == [("burst", [0, 2]), ("burst", [1, 3])]


def test_a_photo_without_a_time_stands_alone() -> None:
    groups = group_photos([photo(0, 0), photo(1, None), photo(2, 1)])
    assert groups[0] == Group("single", ("0001.jpg",), "no capture time in the photo")
    assert groups[1].photos == ("0000.jpg", "0002.jpg")


def test_a_cameras_burst_is_one_though_its_photos_differ() -> None:
    records = [photo(i, i, i, burst_id="x") for i in range(3)]
    assert found(records) == [("burst", [0, 1, 2])]
    assert group_photos(records)[0].reason == "burst ID of the camera"
    others = [photo(i, i, i, burst_id=str(i)) for i in range(3)]
    assert found(others) == [("single", [0]), ("single", [1]), ("single", [2])]


def test_a_portrait_and_a_landscape_are_two_framings_and_flat_photos_are_none() -> None:
    upright = make_thumbnail(WORLDS[0].crop((300, 100, 500, 400)))
    flat = [make_thumbnail(Image.new("L", (300, 200), level)) for level in (0, 0)]
    records = [photo(0, 0), photo(1, 1, upright), photo(2, 2, flat[0]), photo(3, 3, flat[1])]
    assert [kind for kind, _ in found(records)] == ["single"] * 4


def test_a_spoilt_photo_joins_the_two_around_it_that_are_alike() -> None:
    spoilt = make_thumbnail(
        Image.blend(WORLDS[0].crop((300, 100, 600, 300)), WORLDS[1].crop((0, 0, 300, 200)), 0.65)
    )
    both = [photo(0, 0), photo(1, 1, spoilt), photo(2, 2)]
    assert found(both) == [("burst", [0, 1, 2])]
    assert found([photo(0, 0), photo(1, 1, spoilt), photo(2, 2, 3)])[0] == ("single", [0])


@pytest.mark.parametrize("order", [(0, -2, 2), (-2, 0, 2), (2, 0, -2)])
def test_a_run_of_differing_biases_is_a_bracket(order: tuple[float, ...]) -> None:
    records = [photo(i, i * 0.3, exposure_bias=float(ev)) for i, ev in enumerate(order)]
    assert found(records) == [("bracket", [0, 1, 2])]
    assert "bias" in group_photos(records)[0].reason


def test_one_changed_bias_is_no_bracket() -> None:
    biases = (0.0, 0.0, -1.0, -1.0, -1.0)
    records = [photo(i, i, exposure_bias=bias) for i, bias in enumerate(biases)]
    assert found(records) == [("burst", [0, 1, 2, 3, 4])]
    wavering = [photo(i, i, exposure_bias=0.1 * i) for i in range(4)]
    assert found(wavering) == [("burst", [0, 1, 2, 3])]
    unknown = [photo(i, i) for i in range(4)]
    assert found(unknown) == [("burst", [0, 1, 2, 3])]


@pytest.mark.parametrize(
    "biases",
    [p for n in (3, 5) for p in itertools.permutations(range(-(n // 2), n // 2 + 1))],
)
def test_no_photo_of_a_bracket_is_in_a_burst_whatever_is_around_it(
    biases: tuple[int, ...],
) -> None:
    """Between bursts of the same scene, whose photos have one of the bracket's own biases."""
    around = [0.0, 0.0, 0.0]
    levels = around + [float(bias) for bias in biases] + around
    flat = make_thumbnail(Image.new("L", (300, 200), 255))  # overexposed photos show nothing
    records = [
        photo(i, i * 0.5, flat if level > 1 else 0, exposure_bias=level)
        for i, level in enumerate(levels)
    ]
    in_bursts = {i for kind, members in found(records) if kind == "burst" for i in members}
    assert not in_bursts & set(range(3, 3 + len(biases)))
    assert in_bursts  # nor is all of it set aside


def test_a_bracket_set_by_hand_differs_in_its_shutter_alone() -> None:
    def by_hand(manual: bool, iso: Sequence[float]) -> list[PhotoRecord]:
        return [
            photo(i, i, manual=manual, exposure_bias=0.0, exposure_seconds=0.01 * 2**i,
                  f_number=8.0, iso=iso[i])
            for i in range(3)
        ]  # fmt: skip

    assert found(by_hand(True, [100] * 3)) == [("bracket", [0, 1, 2])]
    assert found(by_hand(False, [100] * 3)) == [("burst", [0, 1, 2])]
    assert found(by_hand(True, [100, 200, 400])) == [("burst", [0, 1, 2])]


def test_what_the_camera_calls_a_bracket_is_one() -> None:
    records = [photo(i, i, drive="exposure bracket") for i in range(2)]
    assert found(records) == [("bracket", [0, 1])]
    alone = [photo(0, 0), photo(1, 1, drive="exposure bracket"), photo(2, 2)]
    assert found(alone) == [("single", [0]), ("bracket", [1]), ("single", [2])]
    focus = [photo(i, i, drive="focus bracket") for i in range(2)]
    assert found(focus) == [("focus_stack", [0, 1])]


def test_long_exposures_do_not_end_a_bracket() -> None:
    records = [
        photo(i, s, exposure_bias=float(i), exposure_seconds=t)
        for i, (s, t) in enumerate([(0, 15.0), (16, 30.0), (47, 60.0)])
    ]
    assert found(records) == [("bracket", [0, 1, 2])]
    absurd = [photo(i, 1e9 * i, exposure_seconds=1e300) for i in range(2)]
    assert found(absurd) == [("single", [0]), ("single", [1])]


def focused(distances: Sequence[float], **capture: Any) -> list[PhotoRecord]:
    return [
        photo(i, i, seen(0, blur=1 + i % 3), focus_distance=distance, exposure_bias=0.0, **capture)
        for i, distance in enumerate(distances)
    ]


def test_focus_that_moves_one_way_is_a_stack() -> None:
    assert found(focused([0.5, 0.8, 1.3])) == [("focus_stack", [0, 1, 2])]
    assert found(focused([1.3, 0.8, 0.5])) == [("focus_stack", [0, 1, 2])]
    assert found(focused([0.30 * 1.02**i for i in range(6)])) == [("focus_stack", list(range(6)))]
    reason = group_photos(focused([0.5, 0.8, 1.3]))[0].reason
    assert reason == "focus stack: one framing, focus from 0.5 to 1.3 m"


@pytest.mark.parametrize(
    "distances",
    [[0.5, 0.8, 0.5, 0.8], [1.0, 1.01, 1.02, 1.03], [2.0] * 5, [1.0, 1.02, 0.99, 1.01, 1.0]],
)
def test_focus_that_wavers_is_a_burst(distances: list[float]) -> None:
    assert found(focused(distances)) == [("burst", list(range(len(distances))))]


def test_focus_that_follows_a_subject_is_a_burst() -> None:
    approaching = [4.0 / 1.2**i for i in range(6)]
    assert found(focused(approaching, drive="continuous")) == [("burst", list(range(6)))]
    moving = [
        photo(i, i, seen(0, left=300 + 20 * i), focus_distance=d) for i, d in enumerate(approaching)
    ]
    assert found(moving) == [("burst", list(range(6)))]


def row(lefts: Sequence[int], pause: float = 1.5, **capture: Any) -> list[PhotoRecord]:
    return [photo(i, i * pause, seen(1, left=left), **capture) for i, left in enumerate(lefts)]


def test_frames_that_move_one_way_and_overlap_are_a_panorama() -> None:
    assert found(row([0, 150, 310, 450])) == [("panorama", [0, 1, 2, 3])]
    groups = group_photos(row([450, 310, 150]))
    assert groups[0].kind == "panorama"
    assert groups[0].reason == "panorama: overlapping frames, moving left"


def test_frames_that_move_to_and_fro_or_fast_are_no_panorama() -> None:
    assert "panorama" not in {kind for kind, _ in found(row([0, 150, 0, 150]))}
    assert "panorama" not in {kind for kind, _ in found(row([0, 150, 310], pause=0.2))}
    following = row([0, 75, 150, 225], drive="continuous")
    assert found(following) == [("burst", [0, 1, 2, 3])]


def test_each_photo_is_in_one_group() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        records = [
            photo(
                i, float(rng.uniform(0, 60)) if rng.random() < 0.9 else None,
                seen(int(rng.integers(3)), int(rng.integers(0, 5)) * 100),
                exposure_bias=float(rng.choice([-1, 0, 1])),
                focus_distance=float(rng.uniform(0.1, 9)),
                drive=str(rng.choice(["", "continuous", "exposure bracket", "focus bracket"])),
                burst_id=str(rng.choice(["", "", "b"])), camera=str(rng.choice(["A", "B"])),
            )
            for i in range(30)
        ]  # fmt: skip
        members = [name for group in group_photos(records) for name in group.photos]
        assert sorted(members) == [record.name for record in records]
    assert group_photos([]) == []


def test_only_photos_side_by_side_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 photos take 2,000 comparisons and a few, not two million."""
    from jaxrank.culling import grouping, sequences

    compared = 0
    likeness = sequences.likeness_of

    def counted(a: PhotoRecord, b: PhotoRecord) -> Any:
        nonlocal compared
        compared += 1
        return likeness(a, b)

    monkeypatch.setattr(sequences, "likeness_of", counted)
    monkeypatch.setattr(grouping, "likeness_of", counted)
    rng = np.random.default_rng(0)
    records = [photo(i, 2.0 * i, int(rng.integers(4))) for i in range(60)]
    group_photos(records)
    assert 59 <= compared <= 3 * 60
