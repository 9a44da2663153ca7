"""The report in a real headless browser: it fits a phone, its keys and sliders work, nothing is fetched, it prints."""

import html
import json
import re
import shutil
import subprocess

import pytest
from dumps import light_recipe, write_dump
from PIL import Image
from rich.console import Console

from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.report.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--virtual-time-budget=3000",
)  # fmt: skip

# The page stands in a frame of the wanted width, and this script acts on it as a person would.
ACT = """
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, key = (name) => page.dispatchEvent(new KeyboardEvent("keydown", { key: name }));
  const said = () => form.querySelector("output.kept").value;
  const form = page.querySelector("form.move"), slider = form.querySelector("input");
  const found = { errors: [] };
  frame.contentWindow.onerror = (words) => found.errors.push(words);
  found.width = page.documentElement.scrollWidth;
  found.asked = frame.contentWindow.innerWidth;
  found.wide = [...page.querySelectorAll("body *")].filter((e) => !e.closest(".wide, nav ul, .strip, .skip") &&
    e.getBoundingClientRect().right > found.asked + 1).map((e) => e.outerHTML.slice(0, 120));
  found.broken = [...page.images].filter((image) => !image.naturalWidth).length;
  found.images = page.images.length;
  found.fetched = frame.contentWindow.performance.getEntriesByType("resource").map((e) => e.name.slice(0, 40))
    .filter((name) => !name.startsWith("data:"));
  found.dialogs = page.querySelectorAll("script").length;
  found.before = said();
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  found.after = said();
  found.command = form.querySelector("code").textContent;
  found.free = [...page.querySelectorAll("form.move input")].map((end) => {
    end.value = end.name === "min" ? end.min : end.max;
    end.dispatchEvent(new Event("input", { bubbles: true }));
    return end.form.querySelector(`output[name=${end.name}-value]`).value;
  });
  const clips = [...page.querySelectorAll(".clip")];
  frame.contentWindow.focus();
  key("j"); key("j");
  found.second = page.activeElement === clips[1];
  key("k");
  found.first = page.activeElement === clips[0];
  key("p");
  found.paused = page.documentElement.classList.contains("paused");
  found.running = clips.map((c) => frame.contentWindow.getComputedStyle(c.querySelector(".strip img") ?? c))
    .filter((style) => style.animationPlayState === "running" && style.animationName !== "none").length;
  document.getElementById("found").textContent = JSON.stringify(found);
};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    recipe = recipes.load(str(light_recipe(folder / "light.toml")), ["engine.executor=inline"])
    dump = write_dump(folder / "dump", videos=3)
    long = {"alt": "<script>alert(1)</script>" * 20, "licence": "A" * 300, "source": "https://long.test/" + "b" * 300}
    (dump / "v1.json").write_text(json.dumps(long))
    curate([dump], folder / "out", recipe, CurateOptions(), Console(quiet=True))
    return write_report(folder / "out").page


def browse(tmp_path, address, *options):
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *options, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_its_keys_and_sliders_work(page, tmp_path, width):
    inside = html.escape(page.read_text(encoding="utf-8"), quote=True)
    frame = f'<iframe style="width:{width}px;height:3000px;border:0" srcdoc="{inside}"></iframe>'
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(f'<!doctype html><pre id="found"></pre>{frame}<script>{ACT}</script>', encoding="utf-8")
    dom = browse(tmp_path, wrapper.as_uri(), "--window-size=1400,3000", "--dump-dom")
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert found["asked"] == width
    assert found["width"] <= width and found["wide"] == [], found["wide"]
    assert found["images"] >= 10 and found["broken"] == 0
    assert found["fetched"] == [] and found["errors"] == [] and found["dialogs"] == 2
    assert "(as now)" in found["before"] and "(as now)" not in found["after"]
    assert found["command"].startswith("reelmill select OUT NAME --set rules.")
    assert found["free"] and set(found["free"]) == {"no bound"}
    assert found["second"] and found["first"]
    assert found["paused"] and found["running"] == 0


def test_it_prints(page, tmp_path):
    target = tmp_path / "report.pdf"
    browse(tmp_path, page.as_uri(), "--no-pdf-header-footer", f"--print-to-pdf={target}")
    data = target.read_bytes()
    assert data.startswith(b"%PDF") and len(data) > 50_000
    assert len(re.findall(rb"/Type\s*/Page\b", data)) <= 12


def test_it_shows_pictures(page, tmp_path):
    target = tmp_path / "report.png"
    browse(tmp_path, page.as_uri(), "--window-size=1280,3000", f"--screenshot={target}")
    with Image.open(target) as picture:
        assert picture.size == (1280, 3000)
        colours = picture.convert("RGB").resize((128, 300)).getcolors(128 * 300)
    assert len(colours) > 1000
