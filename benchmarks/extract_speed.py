"""Extraction speed in photos per second, compared with a plain loop over photos and blocks.

    python benchmarks/extract_speed.py [--photos=48] [--rounds=3] [--device=cuda]

The plain loop takes one photo at a time and decodes it once for each block. Photos are 12-megapixel
JPEGs (4000 x 3000) made of photographs that ship in scikit-image, enlarged and with sensor grain
added. Both sides compute ViT-B-32 and ResNet-50 up to its third stage at 224 pixels, and the four
image-quality numbers. The networks have random weights, which cost the same as trained weights.
Networks are loaded before the clock starts. The time to start processes and to write the store is
included.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageOps

from jaxrank.extraction import iqa, pipeline
from jaxrank.extraction.decoding import SHORT_SIDE
from jaxrank.extraction.extractors import Extractor, Options, make_extractors
from jaxrank.extraction.photos import list_folder

OPTIONS = Options(values={"clip_pretrained": "none", "cnn_weights": "none"})
SIZE = (4000, 3000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    options = OPTIONS._replace(device=given.device)
    extractors = make_extractors(options)
    # The networks are loaded once, for both sides and all rounds.
    pipeline.make_extractors = lambda options: {b: extractors[b] for b in options.blocks}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        size = make_photos(folder, given.photos)
        print(f"{given.photos} JPEGs of {SIZE[0]} x {SIZE[1]} pixels, {size / 1e6:.1f} MB each")
        sides: dict[str, Callable[[Path], None]] = {
            "plain loop": lambda store: plain_loop(folder, extractors),
            "jaxrank": lambda store: run(folder, store, options),
            "jaxrank, iqa only": lambda store: run(
                folder, store, options._replace(blocks=("iqa",))
            ),
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(given.rounds):
            for side, work in sides.items():
                begun = time.perf_counter()
                work(Path(name) / f"{side}-{turn}")
                seconds[side].append(time.perf_counter() - begun)
    ours = seconds["jaxrank"]
    for side, taken in seconds.items():
        ratios = [theirs / mine for theirs, mine in zip(taken, ours, strict=True)]
        print(
            f"  {side:18} {given.photos / statistics.median(taken):6.1f} photos/s   "
            f"{statistics.median(ratios):5.2f} times jaxrank's time "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


def make_photos(folder: Path, count: int) -> float:
    """Writes `count` photos and returns their mean size in bytes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    sources = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    large = [
        np.asarray(Image.fromarray(source).resize(SIZE, Image.Resampling.BICUBIC), np.int16)
        for source in sources
    ]
    grain = rng.normal(0, 6, (SIZE[1], SIZE[0], 1)).astype(np.int16)
    sizes = []
    for i in range(count):
        pixels = np.roll(large[i % 3], 97 * i, axis=1) + grain
        path = folder / f"{i:03d}.jpg"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)
        sizes.append(path.stat().st_size)
    return float(np.mean(sizes))


def plain_loop(folder: Path, extractors: dict[str, Extractor]) -> None:
    """Plain script: for each photo and block, opens, decodes at full size, prepares and encodes."""
    for path in sorted(folder.iterdir()):
        for extractor in extractors.values():
            with Image.open(path) as file:
                photo = ImageOps.exif_transpose(file).convert("RGB")
            if extractor.columns[0] == iqa.COLUMNS["default"][0]:
                scale = SHORT_SIDE / min(photo.size)
                photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
            extractor.encode(extractor.view(photo)[None])


def run(folder: Path, store: Path, options: Options) -> None:
    pipeline.extract(list_folder(folder), store, options)


if __name__ == "__main__":
    main()
