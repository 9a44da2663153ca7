"""The page of `reelmill serve` in a real headless browser: drawing, rows on the way, the gallery, keys, a phone; tasks,
videos, conversations."""

import contextlib
import io
import json
import shutil
import threading

import numpy as np
import pytest
from PIL import Image
from tiny_server import chained_studio, frames_tokenizer, gated_steps, random_studio, served

from reelmill.eval.generation import Clip, Engine, engine_thread
from reelmill.eval.generation.media_files import write_clip
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.provenance import Training

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

        def visiting(width=1280, token=None, model=None, **settings):
            url, _ = stack.enter_context(served(model or studio, tmp_path, token=token, **settings))
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
    alert.get_by_text("the queue holds 2").wait_for()
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


@pytest.fixture(scope="module")
def tasks():
    """A model of Emu3.5's tasks, of random weights."""
    return random_studio(frames_tokenizer())


def storyteller():
    """Writes `A`, a picture, `A`, a picture, ..., whatever it is asked."""
    vision = frames_tokenizer()
    vocab = Vocabulary("bytes", vision.codes, vision.layout)
    one, star, a = vocab.tokenizer.encode("1*A")
    follows = {vocab.bss: [a], a: [vocab.boi], vocab.boi: [one], one: [star, vocab.img], star: [one]}
    return chained_studio(follows | {vocab.eoi: [a], vocab.img: [vocab.vision_start + 5]}, vision)


def disc(colour="red"):
    stream = io.BytesIO()
    Image.new("RGB", (48, 32), colour).save(stream, "PNG")
    return {"name": f"{colour}.png", "mimeType": "image/png", "buffer": stream.getvalue()}


def idle(page):
    page.wait_for_selector("body:not(.running)")
    assert page.is_hidden("#error"), page.inner_text("#error")


def tabs(page):
    return page.locator("#tabs button").all_inner_texts()


def test_there_are_tabs_for_what_the_documents_have_room_for(visit, tasks):
    page = visit()
    assert tabs(page) == ["Draw", "Video", "Chat"]
    page.focus("#tab-draw")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-video", "aria-selected") == "true"
    assert page.is_visible("#seconds") and page.is_hidden("#n")
    assert tabs(visit(model=tasks)) == ["Draw", "Edit", "Story", "World", "Chat"]


def test_what_it_has_not_learned_and_little_training_are_said(visit, tasks):
    training = Training(
        steps=60, tokens=12_345, tokenizer="", objective="next_token", settings={}, learned=["t2i", "howto"],
        is_begun=False, drew_unprompted=True,
    )  # fmt: skip
    page = visit(model=tasks, training=training)
    assert "60 steps only" in page.inner_text("#few") and "12,345 tokens" in page.inner_text("#trained")
    assert page.is_hidden("#note")
    page.click("#tab-edit")
    assert "not been trained on edited pictures" in page.inner_text("#note")
    page.click("#tab-story")
    assert page.input_value("#kind") == "howto" and page.is_hidden("#note")
    page.select_option("#kind", "story")
    assert "not been trained on stories" in page.inner_text("#note")
    assert page.is_hidden("#few") is False and visit().is_hidden("#few")


def test_a_picture_is_edited(visit, tasks):
    page = visit(model=tasks)
    page.click("#tab-edit")
    page.fill("#prompt", "make it blue")
    page.click("#draw")
    page.get_by_role("alert").get_by_text("x2i takes 1 to 3").wait_for()
    page.set_input_files("#upload", [disc(), disc("green")])
    page.wait_for_function("document.querySelectorAll('#uploads li').length === 2")  # files are read as they come
    page.click("#uploads li:last-child button")
    page.set_input_files("#upload", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"})
    page.get_by_role("alert").get_by_text("a.txt is no image").wait_for()
    page.click("#draw")
    drawn(page)
    assert page.locator("#easel img").count() == 1 and page.locator("#uploads li").count() == 1
    ratio = page.locator("#easel img").evaluate("(image) => image.naturalWidth / image.naturalHeight")
    assert ratio > 1, "the shape of the picture"
    page.click("#pictures li:first-child button")
    assert "task" in page.inner_text("#closer-settings")
    page.click("#again")
    assert page.get_attribute("#tab-edit", "aria-selected") == "true"


def test_a_story_grows_to_ten_pictures_and_is_saved(visit, monkeypatch):
    gate = gated_steps(monkeypatch)
    page = visit(model=storyteller(), context_tokens=400)
    page.click("#tab-story")
    page.fill("#prompt", "the <b>day</b>")
    page.click("#more summary")
    page.fill("#text_temperature", "0")
    page.fill("#max_tokens", str(10 * 8))
    gate.allow(12)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#story img")
    assert page.locator("#story img").count() < 3 and page.is_visible("#stop")
    gate.open()
    idle(page)
    assert page.locator("#story img").count() == 10 and page.locator("#story .page p").first.inner_text() == "A"
    assert page.inner_text("#story h2") == "the <b>day</b>"
    with page.expect_download() as download:
        page.get_by_text("Save the page").click()
    text = download.value.path().read_text()
    assert text.count("<img") == 10 and "the &lt;b&gt;day" in text


def test_a_world_is_walked_through_by_arrow_keys(visit, tasks):
    page = visit(model=tasks, area=16 * 16, context_tokens=700)
    page.click("#tab-world")
    page.set_input_files("#upload", disc())
    page.fill("#prompt", "a street")
    page.click("#draw")
    page.wait_for_selector("#world-view img")
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json) if request.method == "POST" else None)
    for number, key in enumerate(("ArrowUp", "ArrowLeft", "ArrowRight"), 2):
        page.keyboard.press(key)
        page.locator("#world-trail li").nth(number - 1).wait_for()
        idle(page)
    assert page.locator("#world-trail span").all_inner_texts() == [
        "here", "move forward 0.5", "turn left 15 degrees", "turn right 15 degrees",
    ]  # fmt: skip
    walked = asked[-1]["messages"][-1]["content"]
    assert walked.count("![picture]") == 2 and walked.endswith("turn right 15 degrees"), "the way so far is one answer"
    page.click("#pad [data-to=back]")
    page.locator("#world-trail li").nth(4).wait_for()
    idle(page)
    page.click("#tab-draw")
    page.keyboard.press("ArrowDown")
    assert page.locator("#world-trail li").count() == 5, "keys walk in the world alone"


def test_a_world_begins_with_a_drawn_picture_where_none_is_given(visit, tasks):
    page = visit(model=tasks, area=16 * 16)
    page.click("#tab-world")
    page.fill("#prompt", "a street")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#world-view img")
    idle(page)
    assert page.locator("#uploads li").count() == 1 and page.locator("#easel *").count() == 0


def test_one_talks_about_pictures_and_clips(visit, tmp_path):
    page = visit(context_tokens=4000)
    page.click("#tab-chat")
    write_clip(Clip(np.zeros((16, 32, 32, 3), np.uint8), 8.0), tmp_path / "clip.mp4", {})
    page.set_input_files("#upload", disc())
    page.set_input_files("#upload", tmp_path / "clip.mp4")
    page.fill("#prompt", "What is it?")
    page.keyboard.press("Enter")
    idle(page)
    assert page.locator(".mine img").count() == page.locator(".mine video").count() == 1
    assert page.locator(".theirs").inner_text().strip() and page.input_value("#prompt") == ""
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json) if request.method == "POST" else None)
    page.fill("#prompt", "And now?")
    page.keyboard.press("Enter")
    page.locator(".theirs").nth(1).wait_for()
    idle(page)
    assert [message["role"] for message in asked[-1]["messages"]] == ["user", "assistant", "user"]
    page.click("#restart")
    assert page.locator("#turns li").count() == 0


def test_a_question_that_fails_goes_back_into_its_field(visit):
    page = visit()
    page.click("#tab-chat")
    page.route("**/v1/**", lambda route: route.abort())
    page.fill("#prompt", "What is it?")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("does not answer").wait_for()
    assert page.input_value("#prompt") == "What is it?" and page.locator("#turns li").count() == 0


def test_a_video_is_made_and_a_clip_continued(visit, tmp_path):
    page = visit(area=32 * 32)
    page.click("#tab-video")
    page.fill("#prompt", "waves")
    page.fill("#seconds", "1")
    page.click("#draw")
    page.wait_for_selector("#easel video")
    idle(page)
    write_clip(Clip(np.zeros((16, 32, 32, 3), np.uint8), 8.0), tmp_path / "clip.mp4", {})
    page.set_input_files("#upload", tmp_path / "clip.mp4")
    page.click("#draw")
    page.locator("#pictures li").nth(1).wait_for()
    idle(page)
    page.click("#pictures li:first-child button")
    video = page.locator("#closer video")
    video.wait_for()
    assert page.locator("#easel video").evaluate("(video) => video.duration") == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize("width", [320, 390])
def test_every_tab_fits_a_phone_and_every_control_has_a_name(visit, tasks, width):
    for page in (visit(width), visit(width, model=tasks)):
        page.click("#more summary")
        for name in page.locator("#tabs button").all():
            name.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name.inner_text()
            nameless = """() => [...document.querySelectorAll("button, input, select, textarea")].filter((each) =>
                each.checkVisibility() && !(each.labels?.length || each.ariaLabel || each.textContent.trim()))"""
            assert page.evaluate(f"({nameless})().map((each) => each.outerHTML)") == []
            small = """() => [...document.querySelectorAll("button, select, [type=number], [type=text]")].filter(
                (each) => each.checkVisibility() && each.getBoundingClientRect().height < 40)"""
            assert page.evaluate(f"({small})().map((each) => each.outerHTML)") == [], "fingers need room"
