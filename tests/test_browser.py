"""The report in a headless Chromium: nothing is asked of a network, nothing is cut off, everything is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import studies

import mcrace
from mcrace.report import write_report

pytestmark = pytest.mark.browser

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars")
WIDTHS = [400, 768, 1400]
CUT_OFF = """
const wide = document.documentElement.clientWidth, found = [];
for (const element of document.querySelectorAll("body *:not(svg *)")) {
  const box = element.getBoundingClientRect();
  if (box.width && (box.right > wide + 1 || box.left < -1)) found.push(element.tagName + " reaches over the page");
  if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth && getComputedStyle(element).display !== "inline")
    found.push(element.tagName + " " + element.className + " is cut off: " + element.textContent.slice(0, 60));
}
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      found.push("in a figure: " + text.textContent);
  }
}
return found;
"""
CONTRAST = """
const number = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.slice(0, 3).map(v => v / 255); };
const light = (c) => number(c).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (!/, 0\\)$|transparent/.test(c)) return c; } return "rgb(255, 255, 255)"; };
return [...document.querySelectorAll("p, li, dd, dt, td, th, h1, h2, h3, figcaption, pre, svg text, .verdict")].map(e => {
  const style = getComputedStyle(e), ink = e.closest("svg") && style.fill !== "none" ? style.fill : style.color;
  const [a, b] = [light(ink), light(ground(e.closest("svg") ? e.closest("svg") : e))].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), e.textContent.slice(0, 40)];
}).filter(([ratio]) => ratio < 4.5);
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with an empty profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not service:
        pytest.skip("there is no Chromium here (on Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with a sweep, long names, networks that diverge, and predictions of every verdict at hand."""
    text = studies.race(40).replace('name = "small"', 'name = "a-study-with-quite-a-long-name-of-fifty-characters"')
    text += '\n[sweep.grid]\n"network.init.scale" = [1e-2, 0.1]\n'
    question = "Do neurons race, " + "and race again, " * 10 + "where names_are_long_and_have_no_place_to_break_anywhere?"
    text = f"# {question}\n{text.strip()}"
    directory = tmp_path_factory.mktemp("browser")
    return write_report(mcrace.run(mcrace.parse_study(text), directory, workers=0))


def shown(driver: Any, page: Path, width: int, scheme: str = "light", media: str = "screen") -> None:
    """Open the page at a width, in a theme, as on a screen or in print."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    driver.get(page.as_uri())


def test_nothing_is_asked_of_a_network_and_nothing_goes_wrong(driver, page):
    driver.get_log("performance")
    driver.get_log("browser")
    shown(driver, page, 1400)
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked
    assert [url for url in asked if url != page.as_uri() and not url.startswith(("data:", "chrome:"))] == []
    assert driver.get_log("browser") == []


def test_every_figure_is_there(driver, page):
    shown(driver, page, 1400)
    sizes = driver.execute_script("""return [...document.querySelectorAll("figure")].map(f => {
        const box = f.querySelector("svg").getBoundingClientRect();
        return [box.width, box.height, f.querySelectorAll("svg text").length, f.querySelectorAll("svg path").length]; })""")
    own = 2 * 2 * 2  # panels of two predictions on two cells, of each in main and control
    assert len(sizes) >= own + 7 + 2 + 1
    for width, height, texts, paths in sizes:
        assert width > 250 and height > 100 and texts >= 4 and paths >= 4
    assert driver.execute_script("return document.body.innerText.includes('could not be drawn')") is False
    images = driver.execute_script("return [...document.querySelectorAll('image')].map(i => i.getBoundingClientRect().width)")
    assert len(images) == 4 and min(images) > 100


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_reaches_over_the_page_or_is_cut_off(driver, page, width):
    shown(driver, page, width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script(CUT_OFF) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_are_readable(driver, page, width):
    shown(driver, page, width)
    cells = driver.execute_script("""return [...document.querySelectorAll("td")].map(td => {
        const box = td.querySelector("span").getBoundingClientRect(), style = getComputedStyle(td);
        return [box.width, box.height, parseFloat(style.fontSize), td.innerText.trim().length,
                getComputedStyle(td, "::before").content]; })""")
    assert len(cells) > 50
    for wide, high, size, length, label in cells:
        assert size >= 12 and length > 0 and wide > 0 and high < 12 * size
        assert (width >= 900) == (label in ("none", "normal")), "a narrow table says in each cell what it is"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_its_ground(driver, page, scheme):
    shown(driver, page, 1400, scheme)
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert driver.execute_script(CONTRAST) == []


def test_in_print_it_is_dark_on_white_whatever_the_theme(driver, page):
    shown(driver, page, 794, "dark", "print")
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert driver.execute_script(CONTRAST) == [] and driver.execute_script(CUT_OFF) == []
