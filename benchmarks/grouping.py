"""Recall and precision of grouping: bursts, brackets, focus stacks, panoramas, single photos.

    python benchmarks/grouping.py [--seeds=20]

Every seed is a MADE day of one camera: photographs that ship in scikit-image, scikit-learn and
matplotlib are cut into scenes, and each scene is taken as one of

- burst: 2 to 8 photos 0.1 to 4 s apart. The hand moves, the exposure varies, some photos are
  blurred, and in half of the bursts a subject moves through a quarter of the frame. A third record
  focus distances, which vary by 2%;
- fast burst: a camera in continuous drive that follows a subject, the background moving by a
  quarter of the frame, as in a panorama;
- bracket: 3, 5 or 7 exposures 0.7, 1 or 2 EV apart, by bias or by a shutter speed set by hand;
  every third follows a burst of the same scene;
- focus stack: 3 to 10 photos whose focus moves one way;
- panorama: 3 to 6 frames that overlap by 35% to 60%, to the right or to the left;
- single: photos of different scenes, each 2 to 8 s after the previous photo.

Scenes follow each other after 2 to 15 s. One scene in three is another part of the same photograph
and has nothing in common with the previous scene. The camera mode is recorded for fast bursts only.

Recall: share of the photos of a kind that are in a group of that kind. Precision: share of the
photos in groups of a kind that are of that kind. Exact: share of the made groups that are found
with the same photos. Pairs: recall and precision of pairs of photos in one burst.
"""

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
import sklearn.datasets
from matplotlib import cbook
from PIL import Image, ImageEnhance, ImageFilter

from jaxrank.culling.capture import Capture
from jaxrank.culling.grouping import Group, group_photos
from jaxrank.culling.records import PhotoRecord
from jaxrank.culling.thumbnails import make_thumbnail

KINDS = ("burst", "fast burst", "bracket", "focus_stack", "panorama", "single")
GROUPS_OF_A_KIND = 6
SIZE = (288, 192)
NAMES = (
    "astronaut brick camera chelsea coffee coins grass gravel motorcycle_left rocket moon retina "
    "hubble_deep_field ihc"
).split()
START = 1.7e9


class View(NamedTuple):
    """A frame in a photograph: its centre and width in pixels, and its angle in degrees."""

    x: float
    y: float
    width: float
    angle: float = 0.0


class Shot(NamedTuple):
    image: Image.Image
    pause: float
    capture: Capture = Capture()


class Made(NamedTuple):
    kind: str
    photos: tuple[str, ...]


def photographs() -> list[Image.Image]:
    folder = Path(skimage.data.__file__).parent
    found: list[Image.Image] = []
    found += [Image.open(next(folder.glob(f"{name}.*"))) for name in NAMES]
    for name in ("china", "flower"):
        found.append(Image.fromarray(sklearn.datasets.load_sample_image(f"{name}.jpg")))
    found.append(Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))))
    return [image.convert("RGB") for image in found]


class Photographer:
    """Simulated photographer who takes scenes from photographs, one after the other."""

    def __init__(self, photos: list[Image.Image], seed: int):
        self._photos = photos
        self._rng = np.random.default_rng(seed)
        self._photo = photos[0]
        self._last: View | None = None
        self._shown: Image.Image | None = None  # the photograph of the last view

    def day(self) -> tuple[list[PhotoRecord], list[Made]]:
        now, records, made = START, list[PhotoRecord](), list[Made]()
        for kind in self._rng.permutation(np.repeat(KINDS, GROUPS_OF_A_KIND)):
            for part_kind, shots in self._scene(str(kind)):
                names = []
                for shot in shots:
                    now += shot.pause
                    names.append(f"{len(records):04d}.jpg")
                    records.append(_record(names[-1], shot, now))
                made.append(Made(part_kind, tuple(names)))
            now += self._rng.uniform(2, 15)
        return records, made

    def _scene(self, kind: str) -> Iterator[tuple[str, list[Shot]]]:
        if kind == "burst":
            yield kind, self._burst(self._view(0.35, 0.6))
        elif kind == "fast burst":
            yield "burst", self._fast_burst()
        elif kind == "bracket":
            view = self._view(0.35, 0.6)
            if self._rng.random() < 1 / 3:
                yield "burst", self._burst(view)
            yield kind, self._bracket(view)
        elif kind == "focus_stack":
            yield kind, self._focus_stack(self._view(0.35, 0.6))
        elif kind == "panorama":
            yield kind, self._panorama()
        else:
            for _ in range(self._rng.integers(1, 6)):
                shot = Shot(self._take(self._view(0.35, 0.6)), self._rng.uniform(2, 8))
                yield kind, [shot]

    def _view(self, least: float, most: float) -> View:
        """Draws a frame of a photograph that does not overlap with the previous frame."""
        while True:
            if self._last is None or self._rng.random() > 1 / 3:
                self._photo = self._photos[self._rng.integers(len(self._photos))]
                self._last = None if self._photo is not self._shown else self._last
            width = self._rng.uniform(least, most) * self._photo.width
            height = width * SIZE[1] / SIZE[0]
            room = self._photo.width - 1.1 * width, self._photo.height - 1.1 * height
            if min(room) < 0:
                continue
            x = 0.55 * width + self._rng.uniform(0, room[0])
            y = 0.55 * height + self._rng.uniform(0, room[1])
            view = View(x, y, width)
            if self._last is None or not _touch(self._last, view):
                self._last, self._shown = view, self._photo
                return view

    def _take(self, view: View, ev: float = 0.0) -> Image.Image:
        """Takes a photo with realistic noise and variation of exposure."""
        image = _framed(self._photo, view)
        image = ImageEnhance.Brightness(image).enhance(2 ** (ev + self._rng.uniform(-0.15, 0.15)))
        pixels = np.asarray(image) + self._rng.normal(0, 6, (SIZE[1], SIZE[0], 3))
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    def _moved(self, view: View, share: float, angle: float = 1.0) -> View:
        """Moves a view by a share of the frame's width, as a hand does."""
        x, y, turn = self._rng.normal(0, 1, 3)
        zoom = 1 + 0.2 * share * self._rng.normal()
        return View(
            view.x + share * view.width * x,
            view.y + share * view.width * y,
            view.width * zoom,
            angle * turn,
        )

    def _burst(self, view: View) -> list[Shot]:
        has_subject = self._rng.random() < 0.5
        says_focus = self._rng.random() < 1 / 3
        subject = self._photos[self._rng.integers(len(self._photos))].resize((96, 96))
        steadiness = self._rng.uniform(0.005, 0.03)
        shots = []
        for _ in range(self._rng.integers(2, 9)):
            image = self._take(self._moved(view, steadiness))
            if has_subject:
                place = [int(self._rng.integers(0, side - 96)) for side in SIZE]
                image.paste(subject, (place[0], place[1]))
            if self._rng.random() < 0.3:
                image = image.filter(ImageFilter.GaussianBlur(self._rng.uniform(1, 4)))
            focus = 3 * float(self._rng.normal(1, 0.02)) if says_focus else None
            capture = Capture(focus_distance=focus, exposure_bias=0.0)
            shots.append(Shot(image, self._rng.uniform(0.1, 4), capture))
        return shots

    def _fast_burst(self) -> list[Shot]:
        count = int(self._rng.integers(3, 6))
        capture = Capture(drive="continuous", exposure_bias=0.0)
        views = self._row(count, 0.25)
        return [Shot(self._take(view), 0.12, capture) for view in views]

    def _bracket(self, view: View) -> list[Shot]:
        count, ev = int(self._rng.choice([3, 5, 7])), float(self._rng.choice([0.7, 1, 2]))
        ev = min(ev, 1.0) if count == 7 else ev
        levels = [ev * level for level in sorted(range(-(count // 2), count // 2 + 1), key=abs)]
        by_hand = self._rng.random() < 0.5
        pause = self._rng.uniform(0.2, 1.5)
        return [
            Shot(
                self._take(self._moved(view, 0.004, 0.2), level),
                pause,
                Capture(manual=True, exposure_bias=0.0, exposure_seconds=0.01 * 2**level,
                        f_number=8.0, iso=100.0)
                if by_hand
                else Capture(exposure_bias=level),
            )
            for level in levels
        ]  # fmt: skip

    def _focus_stack(self, view: View) -> list[Shot]:
        count = int(self._rng.integers(3, 11))
        factor = self._rng.uniform(1.2, 2) if count < 6 else self._rng.uniform(1.02, 1.3)
        pause = self._rng.uniform(0.5, 2)
        shots = []
        for i in range(count):
            breathed = view._replace(width=view.width * 1.003**i)
            image = self._take(breathed)
            blurred = image.filter(ImageFilter.GaussianBlur(4))
            share = np.linspace(0, 1, SIZE[0])[None].repeat(SIZE[1], 0)
            sharp = np.clip(255 * 3 * np.abs(share - i / (count - 1)), 0, 255).astype(np.uint8)
            image = Image.composite(blurred, image, Image.fromarray(sharp))
            capture = Capture(focus_distance=0.5 * factor**i, exposure_bias=0.0)
            shots.append(Shot(image, pause, capture))
        return shots

    def _panorama(self) -> list[Shot]:
        views = self._row(int(self._rng.integers(3, 7)), self._rng.uniform(0.4, 0.65))
        capture = Capture(exposure_bias=0.0)
        return [
            Shot(self._take(self._moved(view, 0.01, 0.5)), self._rng.uniform(0.8, 4), capture)
            for view in views
        ]

    def _row(self, count: int, shift: float) -> list[View]:
        """Frames side by side, each shifted by a share of its width."""
        while True:
            self._photo = self._photos[self._rng.integers(len(self._photos))]
            width = 0.95 * self._photo.width / (1 + shift * (count - 1))
            if width * SIZE[1] / SIZE[0] > 0.9 * self._photo.height:
                continue
            self._last, self._shown = None, self._photo
            left = 0.025 * self._photo.width + width / 2
            views = [
                View(left + i * shift * width, self._photo.height / 2, width) for i in range(count)
            ]
            return views if self._rng.random() < 0.5 else views[::-1]


def _touch(a: View, b: View) -> bool:
    across = abs(a.x - b.x) < (a.width + b.width) / 2
    return across and abs(a.y - b.y) < (a.width + b.width) / 2 * SIZE[1] / SIZE[0]


def _framed(photo: Image.Image, view: View) -> Image.Image:
    scale = view.width / SIZE[0]
    cos, sin = scale * np.cos(np.deg2rad(view.angle)), scale * np.sin(np.deg2rad(view.angle))
    left = view.x - (cos * SIZE[0] - sin * SIZE[1]) / 2
    top = view.y - (sin * SIZE[0] + cos * SIZE[1]) / 2
    affine = cos, -sin, left, sin, cos, top
    return photo.transform(SIZE, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


def _record(name: str, shot: Shot, now: float) -> PhotoRecord:
    fields = vars(shot.capture) | {"time": now, "camera": "Made"}
    return PhotoRecord(
        name=name,
        files=(name,),
        size=0,
        modified=0,
        capture=Capture(**fields),
        thumbnail=make_thumbnail(shot.image),
    )


class Tally:
    """Counts of made and found groups over all days."""

    def __init__(self) -> None:
        self.true, self.found, self.right = Counter[str](), Counter[str](), Counter[str]()
        self.made, self.exact = Counter[str](), Counter[str]()
        self.confused = Counter[tuple[str, str]]()
        self.pairs = np.zeros(3, int)  # made, found, both

    def add(self, made: list[Made], groups: list[Group]) -> None:
        truth = {photo: group.kind for group in made for photo in group.photos}
        answer = {photo: group.kind for group in groups for photo in group.photos}
        assert truth.keys() == answer.keys()
        for photo, kind in truth.items():
            self.true[kind] += 1
            self.found[answer[photo]] += 1
            self.right[kind] += kind == answer[photo]
            self.confused[kind, answer[photo]] += 1
        exact = {(group.kind, group.photos) for group in groups}
        for group in made:
            self.made[group.kind] += 1
            self.exact[group.kind] += (group.kind, group.photos) in exact
        of_bursts = [
            {
                pair
                for g in side
                if g.kind == "burst"
                for pair in itertools.combinations(g.photos, 2)
            }
            for side in (made, groups)
        ]
        self.pairs += [len(of_bursts[0]), len(of_bursts[1]), len(of_bursts[0] & of_bursts[1])]

    def __str__(self) -> str:
        lines = [
            "| kind | photos | recall | precision | groups | exact |",
            "|---|---|---|---|---|---|",
        ]
        for kind in self.true:
            recall = self.right[kind] / self.true[kind]
            precision = self.right[kind] / max(self.found[kind], 1)
            lines.append(
                f"| {kind} | {self.true[kind]:,} | {recall:.1%} | {precision:.1%} "
                f"| {self.made[kind]:,} | {self.exact[kind] / self.made[kind]:.1%} |"
            )
        made, found, both = self.pairs
        lines.append(f"\nPairs of bursts: recall {both / made:.1%}, precision {both / found:.1%}.")
        culled = {kind: self.confused[kind, "burst"] for kind in self.true if kind != "burst"}
        lines.append(f"Photos in a burst that are of another kind: {culled}.")
        wrong = {k: n for k, n in self.confused.most_common() if k[0] != k[1]}
        lines.append("Confused: " + ", ".join(f"{a} as {b} {n}" for (a, b), n in wrong.items()))
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first_seed", type=int, default=0)
    given = parser.parse_args()
    photos, tally, seconds = photographs(), Tally(), 0.0
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        records, made = Photographer(photos, seed).day()
        begun = time.perf_counter()
        groups = group_photos(records)
        seconds += time.perf_counter() - begun
        tally.add(made, groups)
    print(tally)
    photos_seen = sum(tally.true.values())
    print(f"{photos_seen:,} photos, grouped in {1000 * seconds / photos_seen:.1f} ms each.")


if __name__ == "__main__":
    main()
