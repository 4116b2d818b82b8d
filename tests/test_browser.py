"""The report and the documentation's site, as a browser shows them.

That is Chromium without a window, in both colour schemes, on a telephone and
on a wide screen. Debian's packages chromium and chromium-driver bring it.
"""

import json
import pathlib
import runpy
import shutil

import pytest

from tf_largebatch.study import report

webdriver = pytest.importorskip("selenium.webdriver")

ROOT = pathlib.Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "docs"
AUDIT = (ROOT / "tests" / "browser.js").read_text(encoding="utf-8")
WIDTHS = (400, 1400)
SCHEMES = ("light", "dark")
CHECKS = ("faint", "pictures", "overflow", "headings", "language")
TAB = "\ue004"
pytestmark = pytest.mark.slow


class Browser:
    """Chromium, and what it notices."""

    def __init__(self, program, driver):
        options = webdriver.ChromeOptions()
        options.binary_location = program
        # Root has no sandbox, and a container little shared memory.
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
            options.add_argument(f"--{flag}")
        logs = {"browser": "ALL", "performance": "ALL"}
        options.set_capability("goog:loggingPrefs", logs)
        service = webdriver.ChromeService(driver)
        self.driver = webdriver.Chrome(options, service)

    def resize(self, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1}
        self.command(
            "Emulation.setDeviceMetricsOverride", {**size, "mobile": False}
        )

    def show(self, page, width, scheme):
        """Opens a page; returns what should not have happened meanwhile."""
        self.resize(width)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", {"features": [feature]})
        self.driver.get(page.as_uri())
        self.driver.execute_script(AUDIT)
        return [*self.requests(), *self.messages()]

    def command(self, name, arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def messages(self):
        """Returns what the console got since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Returns what was asked of the network since it was last asked."""
        entries = self.driver.get_log("performance")
        events = [json.loads(entry["message"])["message"] for entry in entries]
        addresses = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [
            address
            for address in addresses
            if not address.startswith(("file:", "data:", "blob:"))
        ]

    def ask(self, check):
        return self.driver.execute_script(f"return page.{check}()")

    def walk(self):
        """Goes through the page with the Tab key; returns what is wrong."""
        self.ask("start")
        while True:
            keys = webdriver.ActionChains(self.driver, duration=0)
            keys.send_keys(TAB).perform()
            if not self.ask("visit"):
                break
        unseen = self.driver.execute_script("return page.unseen")
        return {"unreached": self.ask("unreached"), "no sign of it": unseen}


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("Chromium is not installed (chromium, chromium-driver)")
    browser = Browser(program, driver)
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Made-up studies of two tables, whose reports have all sections."""
    make = runpy.run_path(str(ROOT / "tests" / "study" / "fake_study.py"))
    folders = {}
    for table in "table4", "table2":
        folder = folders[table] = tmp_path_factory.mktemp(table)
        study = make["FakeStudy"].finished(table)
        report.write(folder, study.plan, study.lines, study.summary)
    return {name: folder / "report.html" for name, folder in folders.items()}


@pytest.fixture(scope="module")
def site():
    """The pages of the documentation's site, by their path in it."""
    # What a server answers where there is no page has a server's addresses.
    pages = sorted({*SITE.rglob("*.html")} - {SITE / "404.html"})
    if not pages:
        pytest.skip("the site is not built (`make docs`)")
    return {page.relative_to(SITE).as_posix(): page for page in pages}


def wrong(browser, page):
    """Returns all that is wrong with a page, by where it is and what."""
    found = {}
    for scheme in SCHEMES:
        found["opened", scheme] = browser.show(page, WIDTHS[0], scheme)
        for width in WIDTHS:
            browser.resize(width)
            for check in CHECKS:
                found[check, scheme, width] = browser.ask(check)
    return {where: texts for where, texts in found.items() if texts}


def wrong_by_keyboard(browser, page, width, scheme):
    browser.show(page, width, scheme)
    return {what: texts for what, texts in browser.walk().items() if texts}


@pytest.mark.parametrize("table", ["table4", "table2"])
def test_a_report_is_seen(browser, reports, table):
    assert wrong(browser, reports[table]) == {}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_is_operated_by_keyboard(browser, reports, width, scheme):
    page = reports["table4"]
    assert wrong_by_keyboard(browser, page, width, scheme) == {}


def test_the_site_is_seen(browser, site):
    found = {name: wrong(browser, page) for name, page in site.items()}
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_site_is_operated_by_keyboard(browser, site, width, scheme):
    page = site["keras.html"]
    assert wrong_by_keyboard(browser, page, width, scheme) == {}


BAD = """<!DOCTYPE html>
<html><body style="margin: 0; color: #999; background: white">
<h1>A</h1><h3>B</h3><img src="none.png" alt="x">
<svg role="img" width="9" height="9"></svg>
<div style="width: 1500px">wide</div>
<a href="#" style="outline: none">seen by nobody</a>
<button onfocus="this.blur()" style="color: #000">never reached</button>
<script>fetch("http://127.0.0.1:9/"); console.error("oh")</script>
</body></html>
"""


def test_what_is_wrong_is_seen(browser, tmp_path):
    """On a page that does everything wrong that the others must not."""
    page = tmp_path / "bad.html"
    page.write_text(BAD)
    found = wrong(browser, page)
    opened = " ".join(found["opened", "dark"])
    assert "http://127.0.0.1:9/" in opened and '"oh"' in opened
    assert {what for what, *_ in found} == {"opened", *CHECKS}
    assert len(found["pictures", "dark", 1400]) == 2
    by_keyboard = wrong_by_keyboard(browser, page, 1400, "light")
    assert by_keyboard == {
        "unreached": ["button. never reached"],
        "no sign of it": ["a. seen by nobody"],
    }
