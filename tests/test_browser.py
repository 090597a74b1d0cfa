"""The page to play on as a person has it: served by Voila, in headless Chromium.

pip install -e ".[play,browser]", and Chromium with its chromedriver, as Debian packages them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "playground.ipynb"
PATIENCE = 300  # seconds, on cores that are busy

pytest.importorskip("voila", reason="voila is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium"),
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="no chromedriver"),
]


def until(found, what: str):
    """What `found` returns, once it is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.2)
    raise AssertionError(f"not seen in {PATIENCE} s: {what}")


@pytest.fixture(scope="module")
def served():
    """The address of the page."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", NOTEBOOK.name, "--no-browser", f"--port={port}"]
    # from there it takes voila.json, too
    server = subprocess.Popen(command, cwd=NOTEBOOK.parent, stderr=subprocess.DEVNULL)

    def answers():
        assert server.poll() is None, "voila has ended"
        with socket.socket() as client:
            return client.connect_ex(("localhost", port)) == 0

    try:
        until(answers, "the server")
        yield f"http://localhost:{port}/"
    finally:
        server.send_signal(signal.SIGINT)  # ends the pages' processes, too
        server.wait(60)


class Page:
    """What a person sees and does."""

    def __init__(self, driver):
        self.driver = driver

    def all(self, css: str) -> list:
        return self.driver.find_elements("css selector", css)

    def button(self, name: str):
        return next(b for b in self.all("button") if b.text.startswith(name))

    def pictures(self) -> list[str]:
        """The pictures that are seen, the drawn one last; another picture, another address."""
        return [i.get_attribute("src") for i in self.all("img.widget-image") if i.is_displayed()]

    def words(self) -> str:
        return self.all("textarea")[0].get_property("value")

    def message(self) -> str:
        """In one step: each message is another element."""
        return self.driver.execute_script(
            "return document.querySelector('[role=status]').textContent"
        )

    def upload(self, path: Path) -> None:
        """Into the field behind the button, whose click opens a dialog that no driver reaches."""
        self.driver.execute_script(
            "HTMLInputElement.prototype.click = function () "
            "{ this.value = ''; document.body.append(this) }"
        )
        self.button("upload").click()
        self.all("input[type=file]")[0].send_keys(str(path))

    def drawn_anew(self, act) -> None:
        """Waits until there is another drawing after `act`, and no more to come."""
        before = self.pictures()[-1]
        act()
        until(lambda: self.pictures()[-1] != before, "another drawing")
        until(lambda: self.message() != "drawing ...", "the end of drawing")


@pytest.fixture(scope="module")
def page(served):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.page_load_strategy = "none"  # the page is loaded when its notebook has been run
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",  # it needs no network
    ):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get(served)
        page = Page(driver)
        until(lambda: len(page.pictures()) == 2 and page.words(), "the first drawing")
        yield page
    finally:
        driver.quit()


def test_a_click(page):
    page.drawn_anew(page.button("another noise").click)


def test_a_changed_word(page):
    words = page.words()

    def change():
        page.all("textarea")[0].send_keys(" aple")
        page.button("draw").click()

    page.drawn_anew(change)
    assert "words, and reads such words all alike: aple (nearest known: " in page.message()
    page.drawn_anew(page.button("its own words").click)
    assert page.words() == words and not page.message()


def test_a_changed_picture(page):
    words, original = page.words(), page.pictures()[0]
    options = page.all("select option")
    page.drawn_anew(options[20].click)
    assert page.words() != words and page.pictures()[0] != original


def test_ones_own_picture(page, tmp_path):
    """One that is larger than servers take unasked, then one that is none, twice."""
    path = tmp_path / "noise.png"
    Image.frombytes("RGB", (2000, 2000), os.urandom(12_000_000)).save(path, compress_level=0)
    page.drawn_anew(lambda: page.upload(path))
    path = tmp_path / "broken.png"
    path.write_text("no picture")
    for _ in range(2):
        page.upload(path)
        until(lambda: "cannot decode image broken.png" in page.message(), "the message")
        page.drawn_anew(page.button("another noise").click)
        assert not page.message()
    assert "Traceback" not in page.driver.page_source


def test_a_drawing_made_here(page):
    """Pressed and dragged on the canvas, seen there, then taken: it has words, is drawn again."""
    page.all(".jupyter-widget-Collapse-header")[0].click()
    until(lambda: page.all("canvas") and page.all("canvas")[0].is_displayed(), "the canvas")
    mouse = webdriver.ActionChains(page.driver).move_to_element(page.all("canvas")[0])
    mouse.move_by_offset(-60, -60).click_and_hold().move_by_offset(60, 90)
    mouse.move_by_offset(60, -90).release().perform()
    ink = "const c = document.querySelector('canvas'); return c.getContext('2d')"
    ink += ".getImageData(0, 0, c.width, c.height).data.some(value => value)"
    until(lambda: page.driver.execute_script(ink), "the stroke on the canvas")
    words, original = page.words(), page.pictures()[0]
    page.drawn_anew(page.button("take it").click)
    assert page.words() != words and page.pictures()[0] != original
    chosen = page.all("select")[0].find_element("css selector", "option:checked")
    assert chosen.text == "my drawing 1"


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits(page, width, tmp_path):
    size = dict(width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == width
    original, drawn = (i for i in page.all("img.widget-image") if i.is_displayed())
    assert original.rect["y"] == drawn.rect["y"] and drawn.rect["x"] > original.rect["x"]
