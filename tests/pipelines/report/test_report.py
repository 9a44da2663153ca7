"""The report of a small run: one page, nothing outside it, true numbers, hostile words shown as words."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import duckdb
import pytest
from command_line import CommandLine
from dumps import light_recipe, write_dump
from PIL import Image
from rich.console import Console

from reelmill.config import from_dict, read_toml
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.report import gather, thresholds
from reelmill.pipelines.report.page import write_report

HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)> </textarea>`|{{ 7*7 }}'
VOID = {"meta", "img", "input", "line", "rect", "br", "link", "hr"}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    dump = write_dump(folder / "dump", videos=3)
    sidecar = {"alt": HOSTILE, "licence": HOSTILE, "source": HOSTILE, "url": "javascript:alert(3)"}
    (dump / "v1.json").write_text(json.dumps(sidecar))
    (dump / "i1.json").write_text(json.dumps(sidecar))
    (dump / "words.txt").write_text(HOSTILE * 3)
    (dump / "<b>not bold.mp4").write_bytes(b"<script>this is no video</script>")
    sets = ["engine.executor=inline", "rules.colour.min=60"]
    recipe = recipes.load(str(light_recipe(folder / "light.toml")), sets)
    curate([dump], folder / "out", recipe, CurateOptions(), Console(quiet=True))
    return folder / "out"


@pytest.fixture(scope="module")
def page(out):
    written = write_report(out)
    assert written.bytes == written.page.stat().st_size < 8e6
    return written.page.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Tags, attributes and text; complains of tags that do not close."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def test_every_tag_closes_and_ids_are_unique(read):
    assert read.open == []
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for attributes in read.all("a")}
    assert links <= {f"#{name}" for name in ids}


def test_the_page_has_its_sections_and_is_made_for_phones(read):
    headings = "".join(read.words)
    sections = [attributes.get("id") for attributes in read.all("section")]
    expected = ["funnel", "scores", "tokens-seen", "kept", "rejected", "clusters"]
    expected += ["tokens", "failures", "throughput", "card"]
    assert sections == expected
    assert "Original and reconstruction" in headings
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.all("meta")


def test_nothing_is_fetched(page, read):
    for tag, attributes in read.tags:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/webp;base64,", "#")), (tag, name, value[:80])
    assert not re.search(r"url\(|@import", re.search(r"<style>.*?</style>", page, re.DOTALL)[0])
    assert read.all("link") == [] and len(read.all("script")) == 2
    (policy,) = [m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_every_picture_decodes_and_says_what_it_shows(read):
    images = read.all("img")
    assert len(images) >= 10
    for attributes in images:
        data = base64.b64decode(attributes["src"].partition(",")[2], validate=True)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert min(image.size) >= 16
        assert attributes["alt"]


def test_hostile_words_are_words(page, read):
    handlers = [(tag, name) for tag, attributes in read.tags for name in attributes if name.startswith("on")]
    assert handlers == []
    assert "<script>alert" not in page and "<img src=x" not in page and "<b>not" not in page
    shown = "".join(read.words)
    assert HOSTILE in shown and "<b>not bold.mp4" in shown


def test_the_card_escapes_hostile_words_and_counts_the_same(out, page):
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in re.sub(r"\\<", "", card)
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 3
    with LedgerQueries(out) as ledger:
        (made,) = ledger.rows("SELECT count(*) AS documents, sum(n_tokens)::BIGINT AS tokens FROM tokens")
    assert f"| Documents | {made['documents']:,} |" in card
    assert f"{made['tokens']:,}, of which" in card
    assert f"{made['tokens']:,} tokens in {made['documents']:,} documents" in page


def test_moving_a_bound_keeps_what_deciding_again_keeps(out, tmp_path):
    recipe = recipes.load("sample")
    with LedgerQueries(out) as ledger:
        rules = from_dict(recipes.Recipe, read_toml(out / "recipe.toml")).rules
        (figure,) = [f for f in thresholds.figures(ledger, rules) if f.name == "colour"]
        values = ledger.rows("SELECT kind, end_s - start_s AS length, width * height AS area, * FROM samples")
    assert recipe.rules["colour"].min != rules["colour"].min
    for row in figure.moved:
        kept = [
            v for v in values
            if v["kind"] != "text" and v["duplicate_of"] is None and v["colourfulness"] >= row["bound"]
            and (v["kind"] == "image" or (v["length"] >= 2 and v["motion_score"] is not None))
            and (v["kind"] == "video" or v["area"] >= 262_144)
        ]  # fmt: skip
        assert row["kept"] == len(kept)
    at = figure.steps.index(60.0)
    now = figure.sure["total"] - figure.sure["below"][at] + figure.sure["missing"]
    assert now == sum(v["status"] == "kept" and v["kind"] != "text" for v in values)
    assert sum(map(sum, figure.counts.values())) == figure.scored


def test_the_funnel_ends_at_what_is_kept(out, page):
    with LedgerQueries(out) as ledger:
        rules = from_dict(recipes.Recipe, read_toml(out / "recipe.toml")).rules
        found = gather.numbers(ledger, rules, "")
    steps = found["funnel"]
    assert steps[0]["total"] == found["totals"]["samples"]
    assert steps[-1]["total"] == found["totals"]["kept"]
    assert steps[-1]["seconds"] == pytest.approx(found["totals"]["kept_s"])
    assert {step["name"] for step in steps} >= {"exact_duplicate", *rules}
    assert {row["name"] for row in found["refused"]} == {"not_a_video"}


def test_copies_stand_beside_what_stays(out, page):
    with LedgerQueries(out) as ledger:
        copied = ledger.rows("SELECT * FROM samples WHERE duplicate_cluster IS NOT NULL ORDER BY duplicate_similarity")
    clusters = {row["duplicate_cluster"] for row in copied}
    assert 0 < len(clusters) < len(copied)
    shown = page[page.index('id="clusters"') : page.index('id="tokens"')]
    kept = sum(row["status"] == "kept" for row in copied)
    assert f"{len(clusters)} clusters of {len(copied)} samples" in shown and f"{kept} of these are kept" in shown
    for row in copied:
        assert row["uri"] in shown
        is_best = row["sample_id"] == row["duplicate_cluster"]
        assert is_best == (row["duplicate_similarity"] is None)
    assert shown.count("similarity 1.000 (exact)") == len(copied) - len(clusters)


def test_stages_have_their_cpu_seconds(out, page):
    rows = duckdb.sql(f"SELECT move, stage, sum(cpu_s) FROM '{out}/timings/unit-*.parquet' GROUP BY ALL").fetchall()
    spent = {(move, stage): seconds for move, stage, seconds in rows}
    stages = {("score", "decode and cut"), ("score", "motion_dis"), ("tokenize", "decode"), ("tokenize", "encode")}
    assert stages <= set(spent)
    assert all(spent[stage] > 0 for stage in stages)
    assert "The floor is plainly decoding" in page


def test_stages_have_their_cost_of_a_minute_of_kept_video(out, page, monkeypatch, capsys):
    reelmill = CommandLine(monkeypatch, capsys)
    found = json.loads(reelmill("stats", out, "--json").out)
    kept = sum(row["seconds"] for row in found["funnel"] if row["status"] == "kept" and row["video"])
    rows = {(row["move"], row["stage"]): row for row in found["cost"]}
    for stage in (("score", "decode and cut"), ("tokenize", "encode")):
        row = rows[stage]
        assert row["cpu_s_a_kept_minute"] == pytest.approx(60 * row["cpu_s"] / kept, rel=0.01)  # `seconds` is rounded
    assert "a minute of kept video" in page
    assert "a minute of kept video" in reelmill("stats", out).out


def test_a_dump_that_is_gone_leaves_tiles_that_say_so(out, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    dump = out.parent / "dump"
    moved = dump.rename(dump.with_name("elsewhere"))
    try:
        written = write_report(copy)
    finally:
        moved.rename(dump)
    text = written.page.read_text(encoding="utf-8")
    assert written.pairs == 0 and "No picture: unreadable" in text
    assert "There are no documents whose pictures can be shown" in text


def test_the_command_says_where_the_page_is(out, monkeypatch, capsys):
    reelmill = CommandLine(monkeypatch, capsys)
    unknown = reelmill("report", out, "--beside", "reelmill-tok-z")
    assert unknown.code == 3 and "reelmill-tok-z" in unknown.err
    found = json.loads(reelmill("report", out, "--beside", "reelmill-tok-s", "--json").out)
    assert (
        len(re.findall(r"dB PSNR, reelmill-tok-s \d\d\.\d dB", (out / "report/index.html").read_text()))
        == found["pairs"]
    )
    assert found["page"] == str(out / "report" / "index.html") and found["tiles"] > 10 and found["pairs"] >= 4
    wrong = reelmill("report", out.parent)
    assert wrong.code == 4 and "no run folder" in wrong.err


def test_the_ends_of_a_slider_reject_nothing(out):
    recipe = from_dict(recipes.Recipe, read_toml(out / "recipe.toml"))
    with LedgerQueries(out) as ledger:
        figures = thresholds.figures(ledger, recipe.rules)
    assert figures
    for figure in figures:
        for part in (figure.sure, figure.open):
            assert part["below"][0] == 0 and part["upto"][-1] == part["total"], figure.name


def test_the_page_has_no_signs_of_markdown(page):
    assert "`facts`" not in page
