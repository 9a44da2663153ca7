"""The voting page in a real headless browser: keys, touches, two voters, a killed server, phones and desktops."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
from candidates import write_folder

from reelmill.eval.preference import Candidates, VoteFile, tallies, win_rates
from reelmill.pipelines.prefer.candidates import decode_pictures

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    long = "two people in an office, seen from the side; behind them a large window, and rain falling outside. " * 4
    decode_pictures(write_folder(folder, prompts=("a cat", long, "<b>rain</b>"), count=4, checkpoints=("old", "new")))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "p")
    return tmp_path / "p"


class Server:
    """`reelmill prefer vote` as a process of its own."""

    def __init__(self, folder, ask, port=0):
        code = "from reelmill.pipelines.cli import main; main()"
        arguments = ["prefer", "vote", str(folder), "--ask", ask, "--port", str(port)]
        self.process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://127\.0\.0\.1:\d+/", self.process.stdout.readline())[0]
        self.port = int(self.url.split(":")[2].strip("/"))

    def end(self, how):
        self.process.send_signal(how)
        said = self.process.stdout.read()
        return self.process.wait(120), said


def visit(browser, url, how, voter=None):
    context = browser.new_context(**how)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.goto(url)
    if voter:
        page.fill("#name", voter)
        page.press("#name", "Enter")
        at(page, 1)
    return page


def at(page, number):
    """Wait until a task is shown with its pictures."""
    page.wait_for_function("n => document.getElementById('where').textContent.startsWith(`${n} of `)", arg=number)
    page.wait_for_function("() => [...document.querySelectorAll('.card img')].every(i => i.complete && i.naturalWidth)")


def order(page):
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")


def fits(page):
    width, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return width <= inner


def scores_of(folder, voter):
    votes = [vote for vote in VoteFile(folder).read(Candidates(folder)) if vote.voter == voter]
    return {name: tuple(of.values()) for vote in votes for name, of in vote.scores.items()}


def test_rating_by_keys_and_by_touch_through_a_kill(browser, folder):
    server = Server(folder, "rate")
    desk = visit(browser, server.url, DESKTOP, "Ann")
    assert desk.text_content("#prompt") == "a cat" and len(order(desk)) == 8
    assert fits(desk) and desk.is_disabled("#save")
    first = order(desk)
    for key in "5141312112345":
        desk.keyboard.press(key)
    desk.reload()
    at(desk, 1)
    assert order(desk) == first
    checked = "[aria-checked=true]"
    assert desk.locator(f"#cards {checked}").count() == 13, "what was not sent outlives a reload"
    for _ in range(6):
        desk.keyboard.press("ArrowRight")
    desk.keyboard.press("ArrowDown")
    for key in "521":
        desk.keyboard.press(key)
    desk.keyboard.press("Enter")
    at(desk, 2)
    said = [(5, 1), (4, 1), (3, 1), (2, 1), (1, 2), (3, 4), (5, 5), (2, 1)]
    assert scores_of(folder, "Ann") == dict(zip(first, said, strict=True))

    phone = visit(browser, server.url, PHONE, "Bob")
    assert fits(phone) and order(phone) != first and set(order(phone)) == set(first)
    for name in order(phone):
        phone.tap(f'[data-id="{name}"] .look')
        for question, value in (("appeal", 2), ("alignment", 4)):
            button = phone.locator(f".card.here [data-question={question}] button").nth(value - 1)
            box = button.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 40 and box["y"] + box["height"] <= 780
            button.tap()
            if question == "appeal":
                phone.wait_for_selector(f'[data-id="{name}"].here')

    assert server.end(signal.SIGKILL)[0] == -signal.SIGKILL
    phone.tap("#save")
    phone.wait_for_selector("#problem:visible")
    assert "Nothing is lost" in phone.text_content("#problem")
    again = Server(folder, "rate", server.port)
    phone.tap("#save")
    at(phone, 2)
    phone.tap(".card:nth-child(2) .larger")
    phone.wait_for_selector("#zoom img:visible")
    phone.tap("#zoom")
    assert not phone.is_visible("#zoom")
    assert set(scores_of(folder, "Bob").values()) == {(2.0, 4.0)} and len(scores_of(folder, "Ann")) == 8
    assert fits(phone), "a long prompt too"
    desk.keyboard.press("Backspace")
    at(desk, 1)
    assert desk.locator(f"#cards {checked}").count() == 16
    desk.keyboard.press("s")
    at(desk, 2)
    desk.keyboard.press("s")
    at(desk, 3)
    assert desk.text_content("#prompt") == "<b>rain</b>" and desk.locator("#prompt b").count() == 0
    desk.keyboard.press(" ")
    assert desk.is_visible("#zoom img")
    assert set(desk.problems) | set(phone.problems) <= {"Failed to load resource: net::ERR_CONNECTION_REFUSED"}
    code, said = again.end(signal.SIGINT)
    assert code == 0 and "Next: reelmill prefer build" in said


def test_a_blind_comparison_ends_in_win_rates(browser, folder):
    server = Server(folder, "compare")
    candidates = Candidates(folder)
    new = candidates.checkpoints[1].weights
    for voter, how in (("Ann", DESKTOP), ("Bob", PHONE)):
        page = visit(browser, server.url, how, voter)
        for number in range(12):
            at(page, number + 1)
            assert fits(page)
            names = order(page)
            better = [candidates.by_id[name].weights for name in names].index(new)
            if voter == "Ann":
                page.keyboard.press(("ArrowLeft", "ArrowRight")[better])
                page.keyboard.press("0")
                page.keyboard.press("Enter")
            else:
                page.tap(f"#panel [data-question=appeal] button:nth-child({3 if better else 1})")
                page.tap("#panel [data-question=alignment] button:nth-child(2)")
                page.tap("#save")
        page.wait_for_selector("#end:visible")
        assert "12 of 12" in page.text_content("#count")
        assert page.problems == []
        page.reload()
        page.wait_for_selector("#end:visible")
    rates = {r.question: r for r in win_rates(candidates, tallies(VoteFile(folder).read(candidates)))}
    assert (rates["appeal"].wins, rates["appeal"].losses, rates["appeal"].rate) == (0, 24, 0.0)
    assert (rates["alignment"].ties, rates["alignment"].rate, rates["both"].rate) == (24, 0.5, 0.25)
    lines = [json.loads(line) for line in (folder / "votes.jsonl").read_text().splitlines()]
    firsts = [line["scores"][0]["appeal"] for line in lines if line["voter"] == "Ann"]
    assert 0 < sum(firsts) < 12, "the better one was on either side"
    assert server.end(signal.SIGINT)[0] == 0
