"""The contact sheet in Chromium: keys, pages, export, storage, and how it looks."""

import csv
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from contact_sheets import HOSTILE, burst, sheet, thumbnail

from jaxrank.culling.changes import sheet_rows
from jaxrank.culling.contact_sheet import write_sheet
from jaxrank.io import tables

pytest.importorskip("selenium", reason="no Selenium; pip install selenium")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium; apt-get install chromium chromium-driver"
)
# The first also where the tests run in a container; the others keep it from calling home.
FLAGS = [
    *(["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []),
    *"--headless=new --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage".split(),
]
SECONDS = 120.0


class Browser:
    """Chromium with a contact sheet in it."""

    def __init__(self, downloads: Path):
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in FLAGS:
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(str(DRIVER))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(SECONDS)
        self.downloads = downloads

    def open(self, path: Path, width: int = 1440, height: int = 1000) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(path.as_uri())

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def decisions(self) -> list[str | None]:
        """Of the photos on the page."""
        return [photo.get_attribute("data-decision") for photo in self.all(".photo")]

    def current(self) -> str:
        """The name of the photo that has the focus."""
        return str(self.run("return document.activeElement.querySelector('.file').textContent"))

    def saved(self) -> Path:
        """The file that the button saves."""
        path = self.downloads / "cull_changes.csv"
        path.unlink(missing_ok=True)
        self.one("#export").click()
        return wait_for(lambda: path if path.exists() else None)

    def log(self) -> list[dict]:
        found: list[dict] = self.driver.get_log("browser")
        return found


def wait_for(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"not within {SECONDS} s")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(shared: Browser) -> Iterator[Browser]:
    yield shared
    shared.run("localStorage.clear()")
    shared.log()


@pytest.fixture
def two_bursts(tmp_path: Path) -> Path:
    first, second = burst(["a1.jpg", "a2.jpg", "a3.jpg"], "a"), burst(["b1.jpg", "b2.jpg"], "b")
    return sheet(tmp_path / "cull.html", first, second)


def test_keys_decide_on_the_photo_that_arrows_lead_to(browser: Browser, two_bursts: Path) -> None:
    browser.open(two_bursts)
    assert browser.decisions() == ["pick", "alternate", "reject", "pick", "alternate"]
    browser.press(Keys.ARROW_RIGHT, "x", "3")
    assert browser.current() == "a2.jpg"
    assert browser.decisions() == ["pick", "reject", "reject", "pick", "alternate"]
    assert "\u2605\u2605\u2605\u2606\u2606" in browser.one("#p1").text
    assert "yours" in browser.one("#p1").text
    browser.press("0", "U")
    assert browser.decisions()[1] == "undecided"
    assert "\u2605" not in browser.one("#p1").text
    browser.press(Keys.ARROW_DOWN)
    assert browser.current() == "b1.jpg"
    browser.press(Keys.ARROW_LEFT)
    assert browser.current() == "a3.jpg"
    browser.press(Keys.ARROW_UP, Keys.ARROW_UP)
    assert browser.current() == "a3.jpg"  # there is no series above
    assert "1 changed here" in browser.one("#counts").text
    assert "a2.jpg, Undecided" in browser.one("#status").text
    assert browser.log() == []


def test_a_pick_replaces_the_programs_pick_of_its_series_only(
    browser: Browser, two_bursts: Path
) -> None:
    browser.open(two_bursts)
    browser.press(Keys.ARROW_RIGHT, "p")
    assert browser.decisions() == ["alternate", "pick", "reject", "pick", "alternate"]
    browser.press(Keys.ARROW_RIGHT, "p")  # the person's own picks stay
    assert browser.decisions() == ["alternate", "pick", "pick", "pick", "alternate"]
    control = ActionChains(browser.driver).key_down(Keys.CONTROL)
    control.send_keys("x").key_up(Keys.CONTROL).perform()
    assert browser.decisions()[2] == "pick"


def test_a_persons_earlier_picks_are_theirs_and_stay(browser: Browser, tmp_path: Path) -> None:
    rows = burst(["a1.jpg", "a2.jpg", "a3.jpg"], decisions=["pick", "pick", "alternate"])
    rows["marked"], rows["changed"] = [True, False, False], ["", "decision rating", ""]
    browser.open(sheet(tmp_path / "cull.html", rows))
    texts = [browser.one(f"#p{number}").text for number in range(3)]
    assert ["yours" in text for text in texts] == [True, True, False]
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "p")
    assert browser.decisions() == ["pick", "pick", "pick"]


def test_stars_of_an_earlier_session_make_no_pick_of_the_program_a_persons(
    browser: Browser, tmp_path: Path
) -> None:
    rows = burst(["a1.jpg", "a2.jpg"]).assign(changed=["rating", ""], rating=[2.0, float("nan")])
    browser.open(sheet(tmp_path / "cull.html", rows))
    assert "yours" in browser.one("#p0").text
    browser.press(Keys.ARROW_RIGHT, "p")
    assert browser.decisions() == ["alternate", "pick"]


def test_the_header_counts_each_photo_once(browser: Browser, tmp_path: Path) -> None:
    """Changes of an earlier session are not in this browser."""
    rows = burst(["a1.jpg", "a2.jpg", "a3.jpg", "a4.jpg"]).assign(changed=["decision", "", "", ""])
    alone = burst(["b.jpg"], "b", decisions=[""], kind="single")
    page = sheet(tmp_path / "cull.html", rows, alone)
    browser.open(page)
    assert "yours" in browser.one("#p0").text
    before = "5 photos \u00b7 1 pick \u00b7 1 alternate \u00b7 2 rejects \u00b7 0 undecided \u00b7 "
    assert browser.one("#counts").text == before + "1 not culled \u00b7 0 changed here"
    browser.press(Keys.ARROW_DOWN, "u", "x")
    browser.saved()
    browser.open(page)
    after = before.replace("2 rejects", "3 rejects")
    assert browser.one("#counts").text == after + "1 changed here"


def test_undecided_is_empty_where_nothing_was_culled(browser: Browser, tmp_path: Path) -> None:
    bracket = burst(["1.jpg", "2.jpg"], decisions=[""], kind="bracket").assign(reasons="")
    browser.open(sheet(tmp_path / "cull.html", bracket))
    assert "exposure bracket of 2 photos, not culled" in browser.one("h2:not(#view-name)").text
    browser.press("x", "u")
    assert browser.decisions() == ["", ""]
    assert "0 changed here" in browser.one("#counts").text


def test_enter_and_click_show_a_larger_view_in_which_keys_work(
    browser: Browser, two_bursts: Path
) -> None:
    browser.open(two_bursts)
    browser.press(Keys.ARROW_RIGHT, Keys.ENTER)
    assert browser.one("#view-name").text == "a2.jpg"
    assert "24% likely the best" in browser.one("#view-facts").text
    assert wait_for(lambda: browser.run("return element('view').querySelector('img').naturalWidth"))
    assert browser.one("#view img").size["height"] > browser.one("#p1 img").size["height"]
    browser.press("x", Keys.ARROW_DOWN, "2")
    assert browser.one("#view-name").text == "b1.jpg"
    assert browser.one("#view-decision").text.startswith("Pick \u00b7 \u2605\u2605\u2606")
    browser.one("#view [data-key=u]").click()
    browser.press(Keys.ESCAPE)
    assert browser.decisions() == ["pick", "reject", "reject", "undecided", "alternate"]
    assert wait_for(lambda: browser.current() == "b1.jpg")
    browser.one("#p0").click()
    assert browser.one("#view-name").text == "a1.jpg"
    browser.one("#close").click()
    assert wait_for(lambda: browser.current() == "a1.jpg")


def test_the_saved_table_has_all_photos_and_names_what_changed(
    browser: Browser, tmp_path: Path
) -> None:
    rows = burst(HOSTILE[:9], series="=1,\n2").assign(rating=[4.0] + [float("nan")] * 8)
    rows["reasons"] = ['sharper by 0.21, "better"', "=1+1", *[""] * 7]
    browser.open(sheet(tmp_path / "cull.html", rows))
    browser.press(Keys.ARROW_RIGHT, "p", Keys.ARROW_RIGHT, "5", "u")
    table = tables.read_csv(browser.saved())
    assert table.columns == "path series rank score p_best decision rating reasons changed".split()
    assert table.texts("path") == HOSTILE[:9]
    assert table.texts("series") == ["=1,\n2"] * 9
    assert list(map(float, table.texts("p_best"))) == rows["p_best"].tolist()
    cells = pd.DataFrame(table.rows, columns=table.columns)
    assert cells["decision"].tolist()[:4] == ["alternate", "pick", "undecided", "reject"]
    assert cells["rating"].tolist()[:4] == ["4", "", "5", ""]
    assert cells["changed"].tolist()[:4] == ["decision", "decision", "decision rating", ""]
    assert cells["rank"].tolist() == list("123456789")
    assert cells["reasons"].tolist()[:2] == ['sharper by 0.21, "better"', "'=1+1"]
    assert "Saved as cull_changes.csv" in browser.one("#status").text
    changed = [row.changed for row in sheet_rows(table)]
    assert changed[:4] == [{"decision"}, {"decision"}, {"decision", "rating"}, set()]


def test_an_unchanged_sheet_saves_the_table_as_write_csv_does(
    browser: Browser, tmp_path: Path
) -> None:
    rows = burst(HOSTILE[:9]).assign(changed="", score=[0.1, 1e-9, -2.5, *[1 / 3] * 6])
    rows["path"] = rows["path"].astype("str")
    browser.open(sheet(tmp_path / "cull.html", rows))
    columns = "path series rank score p_best decision rating reasons changed".split()
    tables.write_frame(tmp_path / "expected.csv", rows[columns])
    saved, expected = (
        list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))
        for path in (browser.saved(), tmp_path / "expected.csv")
    )
    numbers = [columns.index(name) for name in ("rank", "score", "p_best")]
    for row in saved[1:] + expected[1:]:
        for place in numbers:
            row[place] = repr(float(row[place]))
    assert saved == expected


def test_hostile_names_are_shown_as_text_and_nothing_else_runs(
    browser: Browser, tmp_path: Path
) -> None:
    rows = burst(HOSTILE).assign(series=HOSTILE[0], reasons=HOSTILE[2], kind=HOSTILE[1])
    browser.open(sheet(tmp_path / "cull.html", rows, title=HOSTILE[0]), width=390)
    shown = [name.text for name in browser.all(".photo .file")]
    assert shown[0] == HOSTILE[0]
    assert shown[6] == r"line\u2028paragraph\u2029.jpg"
    assert shown[9] == r"\u202egpj.exe.jpg"
    assert shown[10] == r"\ud800half.jpg"
    assert shown[13].startswith("longlong")
    browser.press(Keys.ENTER, "x")
    assert browser.one("#view-name").text == HOSTILE[0]
    assert browser.run("return window.broken === undefined && document.title") == HOSTILE[0]
    assert len(browser.all(".photo img")) == len(HOSTILE)
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    assert browser.log() == []
    # The policy holds: neither a script nor an image from elsewhere.
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 1';"
        "document.body.append(s); const i = new Image(); i.src = 'http://localhost:9/x.png'"
    )
    assert browser.run("return window.broken") is None
    refused = wait_for(lambda: [line["message"] for line in browser.log()])
    assert all("Content Security Policy" in message for message in refused)


def test_changes_are_kept_for_this_sheet_until_they_are_discarded(
    browser: Browser, two_bursts: Path, tmp_path: Path
) -> None:
    browser.open(two_bursts)
    browser.press("x", "4")
    browser.open(two_bursts)
    assert browser.decisions()[0] == "reject"
    assert "\u2605\u2605\u2605\u2605\u2606" in browser.one("#p0").text
    assert not browser.one("#storage").is_displayed()
    browser.open(sheet(tmp_path / "other.html", burst(["a1.jpg", "other.jpg"], "a")))
    assert browser.decisions() == ["pick", "alternate"]
    browser.open(two_bursts)
    browser.one("#discard").click()
    browser.driver.switch_to.alert.accept()
    assert browser.decisions()[0] == "pick"
    browser.open(two_bursts)
    assert browser.decisions()[0] == "pick"


@pytest.mark.parametrize(
    "content",
    [
        "no JSON", "null", "[1]", '{"0": null}', '{"99": {"decision": "reject"}}',
        '{"0": {"decision": "<b>", "rating": 1e9}, "__proto__": {"decision": "reject"}}',
        '{"0": {"decision": "toString", "rating": "5"}, "length": {"rating": 3}}',
    ],
)  # fmt: skip
def test_hostile_storage_changes_nothing(browser: Browser, two_bursts: Path, content: str) -> None:
    browser.open(two_bursts)
    browser.driver.execute_script("localStorage.setItem(storageName, arguments[0])", content)
    browser.open(two_bursts)
    assert browser.decisions() == ["pick", "alternate", "reject", "pick", "alternate"]
    assert "0 changed here" in browser.one("#counts").text
    browser.press("x")
    assert browser.decisions()[0] == "reject"
    assert not browser.one("#storage").is_displayed()


def test_a_browser_without_storage_is_said(browser: Browser, two_bursts: Path) -> None:
    source = "Storage.prototype.setItem = () => { throw new Error('full') }"
    script = browser.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": source}
    )
    try:
        browser.open(two_bursts)
        assert "save the CSV" in browser.one("#storage").text
        browser.press("x")
        assert browser.decisions()[0] == "reject"
        browser.saved()  # else leaving the page asks
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_pages_hold_few_photos_and_all_of_them_once(browser: Browser, tmp_path: Path) -> None:
    bursts = [burst([f"{s}-{p}.jpg" for p in range(7)], f"series {s}") for s in range(12)]
    long = burst([f"long-{p}.jpg" for p in range(110)], "long")
    rows = [*bursts[:6], long, *bursts[6:]]
    browser.open(sheet(tmp_path / "cull.html", *rows))
    seen: list[str] = []
    while True:
        names = [name.text for name in browser.all(".photo .file")]
        assert 0 < len(names) <= 48
        pictures = "return [...document.querySelectorAll('.photo img')].every(i => i.naturalWidth)"
        assert wait_for(lambda: browser.run(pictures))  # noqa: B023
        seen += names
        if not browser.one("#after").is_enabled():
            break
        browser.one("#after").click()
    assert seen == pd.concat(rows)["path"].tolist()
    assert browser.one("#page").get_attribute("value") == browser.one("#pages").text.split()[-1]
    # Print shows all pages, and the screen one again afterwards.
    shown = len(browser.all(".photo"))
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert [name.text for name in browser.all(".photo .file")] == seen
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert len(browser.all(".photo")) == shown
    # No burst that fits on a page is split.
    browser.run("goToPage(0)")
    assert [
        len(section.find_elements(By.CSS_SELECTOR, ".photo")) for section in browser.all("section")
    ] == [7] * 6
    browser.run("go(41)")
    browser.press(Keys.ARROW_RIGHT)
    assert (browser.current(), browser.one("#page").get_attribute("value")) == ("long-0.jpg", "2")
    browser.press(Keys.ARROW_LEFT)
    assert browser.current() == "5-6.jpg"
    browser.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert browser.current() == "6-0.jpg"
    browser.one("#page").clear()
    browser.one("#page").send_keys("1", Keys.ENTER)
    assert browser.current() == "0-0.jpg"


def test_a_photo_without_preview_says_so(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "cull.html"
    write_sheet(
        path,
        burst(["a.jpg", "b.jpg", "c.jpg"]),
        lambda photo: {"a.jpg": None, "b.jpg": b"no JPEG"}.get(photo, thumbnail(photo)),
        title="",
        notes=[],
    )
    browser.open(path)
    assert browser.one("#p0 .picture").text == "no preview"
    assert [image.get_attribute("alt") for image in browser.all(".photo img")] == [
        "Preview of b.jpg", "Preview of c.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(("width", "a_row"), [(390, 2), (1440, 6)])
def test_photos_stand_in_rows_that_fit(
    browser: Browser, tmp_path: Path, width: int, a_row: int
) -> None:
    rows = burst([f"a folder/another/IMG_{number}.jpg" for number in range(6)])
    browser.open(sheet(tmp_path / "cull.html", rows), width)
    tops = [photo.location["y"] for photo in browser.all(".photo")]
    assert tops.count(tops[0]) == a_row
    assert browser.run("return document.documentElement.scrollWidth") <= width
    browser.press(Keys.ARROW_RIGHT, Keys.ENTER)
    box = browser.one("#view").rect
    assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    buttons = [button.rect for button in browser.all("#view button")]
    assert all(button["x"] + button["width"] <= width for button in buttons)


def test_print_has_photos_and_no_buttons(browser: Browser, two_bursts: Path) -> None:
    browser.open(two_bursts)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not browser.one("#export").is_displayed()
        assert all(photo.is_displayed() for photo in browser.all(".photo img"))
        assert "Pick" in browser.one("#p0").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(
    browser: Browser, two_bursts: Path, scheme: str
) -> None:
    """4.5 for text (WCAG 2.2, 1.4.3)."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        browser.open(two_bursts)
        names = "page card text faint pick reject undecided alternate on-mark focus".split()
        style = "getComputedStyle(document.documentElement)"
        colour = {n: browser.run(f"return {style}.getPropertyValue('--{n}')") for n in names}
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (luminance(colour["page"]) < 0.5) == (scheme == "dark")
    for text in ("text", "faint", "pick", "reject", "undecided", "alternate"):
        for ground in ("page", "card"):
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    for ground in ("pick", "focus"):
        assert contrast(colour["on-mark"], colour[ground]) >= 4.5, ground


def contrast(a: str, b: str) -> float:
    dark, light = sorted([luminance(a), luminance(b)])
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    shares = [int(colour.strip()[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
