"""The page of `reelmill serve` in a real headless browser: drawing, rows on the way, the gallery, keys, a phone."""

import contextlib
import io
import json
import shutil
import threading

import pytest
from PIL import Image
from tiny_server import gated_steps, random_studio, served

from reelmill.eval.generation import Engine, engine_thread

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]
TOKEN = "a-token-for-the-browser"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def studio():
    return random_studio()


@pytest.fixture
def visit(browser, studio, tmp_path):
    """Opens the page of a server of these settings. At the end nothing was wrong, and nothing fetched elsewhere."""
    with contextlib.ExitStack() as stack:

        def visiting(width=1280, token=None, **settings):
            url, _ = stack.enter_context(served(studio, tmp_path, token=token, **settings))
            page = browser.new_page(viewport={"width": width, "height": 844}, accept_downloads=True)
            stack.callback(page.close)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"{url}/?token={token}" if token else url)
            page.wait_for_selector("#state:not(:empty)")
            own.append(url)
            return page

        wrong, asked, own = [], [], []
        yield visiting
        assert wrong == []
        assert [address for address in asked if not address.startswith((*own, "data:", "blob:"))] == []


def draw(page, prompt, **settings):
    page.fill("#prompt", prompt)
    for name, value in settings.items():
        page.fill(f"#{name}", str(value))
    page.keyboard.press("Control+Enter")


def drawn(page):
    page.wait_for_selector("#easel progress", state="detached")
    page.get_by_text("Generated in").wait_for()


def src(page, selector):
    return page.get_attribute(selector, "src")


def test_a_picture_fills_in_row_by_row_and_goes_to_the_gallery(visit, monkeypatch):
    gate = gated_steps(monkeypatch)
    page = visit(token=TOKEN)
    draw(page, "two <b>boats</b>", n=2)
    gate.allow(9 * 3)
    page.wait_for_selector("figure:nth-child(2) .sheet img")
    first = src(page, "figure:first-child .sheet img")
    assert page.is_disabled("#draw") and page.locator("#easel progress").count() == 2
    gate.open()
    drawn(page)
    assert src(page, "figure:first-child .sheet img") != first
    assert page.locator("#pictures li").count() == 2
    assert page.inner_text("#pictures li:first-child .caption") == "two <b>boats</b>"
    assert page.is_enabled("#draw") and page.is_hidden("#error")


def test_a_drawing_is_stopped(visit, monkeypatch):
    monkeypatch.setattr(engine_thread, "Engine", slow_engine(0.1))
    page = visit()
    draw(page, "a boat")
    page.wait_for_selector("#easel progress")
    page.click("#stop")
    page.get_by_text("Stopped").wait_for()
    page.get_by_text("idle").wait_for()
    assert page.is_enabled("#draw") and page.locator("#pictures li").count() == 0


def slow_engine(seconds):
    class Slow(Engine):
        def step(self):
            threading.Event().wait(seconds)
            return super().step()

    return Slow


def test_pictures_are_looked_at_by_keys_downloaded_and_drawn_again(visit):
    page = visit()
    draw(page, "first")
    drawn(page)
    page.click("#more summary")
    draw(page, "second", seed=5, top_k=100, negative_prompt="fog")
    page.locator("#pictures li").nth(1).wait_for()
    drawn(page)
    newest = src(page, ".sheet img")
    page.focus("#pictures li:first-child button")
    page.keyboard.press("Enter")
    assert page.inner_text("#closer-prompt") == "second"
    assert {"seed\n5", "without\nfog"} <= {
        row.replace("\n\n", "\n") for row in page.locator("dl div").all_inner_texts()
    }
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#closer-prompt") == "first"
    page.keyboard.press("ArrowLeft")
    with page.expect_download() as download:
        page.click("#download")
    with Image.open(io.BytesIO(download.value.path().read_bytes())) as image:
        assert json.loads(image.info["reelmill"])["seed"] == 5
    page.keyboard.press("Escape")
    assert page.is_hidden("#closer")
    page.fill("#prompt", "other")
    page.fill("#top_k", "7")
    page.click("#pictures li:first-child button")
    page.click("#again")
    assert page.input_value("#prompt") == "second" and page.input_value("#top_k") == "100"
    page.keyboard.press("Control+Enter")
    page.locator("#pictures li").nth(2).wait_for()
    drawn(page)
    assert src(page, ".sheet img") == newest, "the same seed and settings draw the same picture"


def test_what_goes_wrong_is_said(visit):
    page = visit(queue=2)
    alert = page.get_by_role("alert")
    draw(page, "x" * 3000)
    alert.get_by_text("start it with more").wait_for()
    assert page.locator("#easel *").count() == 0
    draw(page, "a", n=3)
    alert.get_by_text("at most 2 may wait").wait_for()
    page.fill("#n", "99")
    page.click("#draw")
    assert page.locator("#n:user-invalid").count() == 1, "the browser says what is allowed"
    page.route("**/v1/**", lambda route: route.abort())
    draw(page, "a", n=1)
    alert.get_by_text("does not answer").wait_for()
    page.unroute("**/v1/**")
    draw(page, "a")
    drawn(page)
    assert page.is_hidden("#error")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_and_every_control_has_a_name(visit, width):
    page = visit(width)
    page.click("#more summary")
    draw(page, "a" * 300, n=3)
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#pictures li:first-child button")
    assert page.evaluate("document.querySelector('dialog').getBoundingClientRect().right") <= width
    nameless = """[...document.querySelectorAll("button, input, select, textarea, a, img")].filter((each) => !(
        each.labels?.length || each.ariaLabel || each.textContent.trim() || each.hasAttribute("alt")))"""
    assert page.evaluate(f"{nameless}.map((each) => each.outerHTML)") == []
    small = """[...document.querySelectorAll("button, select, input[type=number]")].filter((each) =>
        each.checkVisibility() && each.getBoundingClientRect().height < 40)"""
    assert page.evaluate(f"{small}.map((each) => each.outerHTML)") == [], "fingers need room"
