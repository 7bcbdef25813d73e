"""Contact sheet of many photos: its size, and its loading and response times in Chromium.

    python benchmarks/contact_sheet.py [photos]

Fifty photos of 12 megapixels are made of scikit-image's photographs. Further photos repeat the
thumbnails of these fifty with other last bytes. Needs Selenium, Chromium and ChromeDriver.
"""

import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import skimage.data
from PIL import Image
from selenium import webdriver

from jaxrank.culling.contact_sheet import make_thumbnail, write_sheet

A_SERIES, MADE, REPEATS = 6, 50, 20
FLAGS = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
_PRESS = 'document.body.dispatchEvent(new KeyboardEvent("keydown", { key: what, bubbles: true }));'
_CLICK = "document.getElementById(what).click();"


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cull.html"
        photos = make_photos(np.random.default_rng(0))
        start = time.perf_counter()
        made = [make_thumbnail(photo) for photo in photos]
        each = (time.perf_counter() - start) / len(made)
        start = time.perf_counter()
        # Different last bytes, so that no two thumbnails are equal.
        write_sheet(
            path,
            make_rows(count),
            lambda photo: made[int(photo) % MADE] + photo.encode(),
            title="Benchmark",
            notes=[],
        )
        written = time.perf_counter() - start
        size = np.mean([len(thumbnail) for thumbnail in made])
        print(f"thumbnail of 12 megapixels: {1000 * each:.0f} ms, {size:,.0f} bytes")
        print(f"{count:,} photos: {path.stat().st_size / 1e6:.1f} MB, written in {written:.1f} s")
        measure(path)


def make_photos(rng: np.random.Generator) -> list[bytes]:
    found = []
    for number in range(MADE):
        name = ("astronaut", "chelsea", "coffee", "rocket")[number % 4]
        image = Image.fromarray(getattr(skimage.data, name)())
        left, top = rng.integers(0, 60, 2)
        image = image.crop((left, top, left + 340, top + 255)).resize((4000, 3000))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=92)
        found.append(file.getvalue())
    return found


def make_rows(count: int) -> pd.DataFrame:
    number = np.arange(count)
    place = number % A_SERIES
    return pd.DataFrame({
        "path": number.astype(str), "series": (number // A_SERIES).astype(str), "kind": "burst",
        "rank": place + 1, "score": -0.3 * place, "p_best": 0.5 / (place + 1), "rating": np.nan,
        "changed": "", "marked": False,
        "decision": np.select([place == 0, place < 3], ["pick", "alternate"], "reject"),
        "reasons": "less sharp by 0.21, worse exposed by 0.08 than the first",
    })  # fmt: skip


def measure(path: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in FLAGS.split():
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        driver.set_page_load_timeout(600)
        driver.set_script_timeout(600)
        driver.get(path.as_uri())
        paint, loaded = driver.execute_script(
            "return [performance.getEntriesByName('first-contentful-paint')[0].startTime,"
            " performance.getEntriesByType('navigation')[0].loadEventEnd]"
        )
        memory = driver.execute_script("return performance.memory.usedJSHeapSize")
        print(
            f"first paint {paint:.0f} ms, loaded {loaded:.0f} ms, {memory / 1e6:.0f} MB of objects"
        )
        for what, key in (("decision", "x"), ("next photo", "ArrowRight"), ("stars", "3")):
            print(f"{what}: {_milliseconds(driver, _PRESS, key):.0f} ms")
        driver.execute_script("for (const photo of photos) rate(photo, 1)")
        print(f"decision after changes to all: {_milliseconds(driver, _PRESS, 'x'):.0f} ms")
        print(f"next page: {_milliseconds(driver, _CLICK, 'after'):.0f} ms")
    finally:
        driver.quit()


def _milliseconds(driver: webdriver.Chrome, action: str, what: str) -> float:
    """Median time from an action to the end of the frame that shows its effect."""
    script = f"""
        const [what, done] = arguments;
        const start = performance.now();
        {action}
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
    """
    return float(np.median([driver.execute_async_script(script, what) for _ in range(REPEATS)]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
