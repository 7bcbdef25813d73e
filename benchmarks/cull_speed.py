"""Time and memory of `cull` on a folder of photos: first run, second run, run with new photos.

    python benchmarks/cull_speed.py --photos=2000 --new=100     # seven gigabytes of disk

JPEGs of 12 megapixels, made of photographs that ship in scikit-image, in bursts of six. Fifty are
made; the others repeat them with other capture times and other last bytes, so that no two files are
equal. No model is used. Each run is a process of its own. Memory is the largest peak of any one
process: the run itself or a process that decodes for it.
"""

import argparse
import io
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from contact_sheet import A_SERIES, make_photos
from PIL import ExifTags, Image

SECONDS_APART = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=2_000)
    parser.add_argument("--new", type=int, default=100)
    given = parser.parse_args()
    made = make_photos(np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name, "photos")
        photos.mkdir()
        for number in range(given.photos):
            write(photos, number, made)
        size = sum(path.stat().st_size for path in photos.iterdir()) / given.photos
        print(f"{given.photos:,} JPEGs of {size / 1e6:.1f} MB")
        cull(Path(name), "the first time")
        cull(Path(name), "again, nothing has changed")
        for number in range(given.photos, given.photos + given.new):
            write(photos, number, made)
        cull(Path(name), f"again, {given.new:,} photos are new")


def write(folder: Path, number: int, made: list[bytes]) -> None:
    """Writes a photo with its capture time."""
    series, place = divmod(number, A_SERIES)
    content = made[series % len(made)]
    exif = Image.Exif()
    minutes, seconds = divmod(SECONDS_APART * series + place // 3, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    exif[ExifTags.Base.Model] = "Benchmark"
    taken = exif.get_ifd(ExifTags.IFD.Exif)
    taken[ExifTags.Base.DateTimeOriginal] = (
        f"2026:11:{1 + days:02d} {hours:02d}:{minutes:02d}:{seconds:02d}"
    )
    taken[ExifTags.Base.SubsecTimeOriginal] = f"{300 * (place % 3):03d}"
    header = io.BytesIO()
    Image.new("L", (8, 8)).save(header, "JPEG", exif=exif)
    block = re.search(rb"\xff\xe1..Exif.*?(?=\xff\xdb)", header.getvalue(), re.DOTALL)
    assert block is not None
    whole = content[:2] + block[0] + content[2:] + str(number).encode()
    (folder / f"DSC{number:05d}.jpg").write_bytes(whole)


def cull(folder: Path, what: str) -> None:
    command = [sys.executable, "-m", "jaxrank", "cull", str(folder / "photos")]
    begun = time.perf_counter()
    done = subprocess.run(
        [*command, f"--workdir={folder / 'cull'}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "120"},
    )
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    print(f"{what}: {seconds:.1f} s, at most {peak:,.0f} MB a process", flush=True)
    print("   ", "\n    ".join(done.stdout.splitlines()[:2]))


if __name__ == "__main__":
    main()
