"""`reelmill compare` over the session's small run: its selections, and the same dump under another recipe."""

import json
import re

import pytest
from command_line import CommandLine
from dumps import curate_here, light_recipe, still_dump

from reelmill.errors import ConfigError
from reelmill.pipelines.ledger.compare import compare


@pytest.fixture
def reelmill(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def test_a_run_equals_itself(small_run, tmp_path):
    out = small_run(tmp_path)
    found = compare(out, out, ("default", "default"), 20)
    assert found.verdicts == found.samples == []
    assert found.totals["samples_before"] == found.totals["samples_after"] > 0
    assert found.totals["other_verdicts"] == found.totals["other_captions"] == 0


def test_two_selections_differ_by_what_select_changed(small_run, tmp_path, reelmill):
    out = small_run(tmp_path)
    assert reelmill("select", out, "none", "--set", "rules.colour.min=999").code == 0
    ended = reelmill("compare", out, out, "--after", "none", "--json")
    found = json.loads(ended.out)
    assert {(row["before"], row["after"], row["rule_after"]) for row in found["verdicts"]} == {
        ("kept", "rejected", "colour")
    }
    totals = found["totals"]
    assert totals["other_verdicts"] == totals["kept_before"] - totals["kept_after"] > 0
    assert all(row["value_after"] < 999 for row in found["samples"])
    shown = reelmill("compare", out, out, "--before", "default", "--after", "none").out
    assert "Verdicts that differ" in shown
    assert "colour" in shown


def test_two_runs_are_joined_by_uri_and_span(tmp_path, reelmill):
    dump, recipe = still_dump(tmp_path / "dump"), light_recipe(tmp_path / "light.toml")
    curate_here(dump, tmp_path / "a", recipe)
    (dump / "p2.json").write_text(json.dumps({"alt": "another text altogether"}))
    (dump / "p1.jpg").unlink()
    curate_here(dump, tmp_path / "b", recipe)
    found = compare(tmp_path / "a", tmp_path / "b", ("default", "default"), 20)
    gone = [row for row in found.samples if row["after"] == "absent"]
    assert [row["uri"] for row in gone] == ["p1.jpg"]
    other = [row for row in found.samples if row["caption_before"] != row["caption_after"] and row["after"] != "absent"]
    assert "another text altogether" in {row["caption_after"] for row in other}
    assert found.totals["other_captions"] == len(other)
    assert "Captions that differ" in reelmill("compare", tmp_path / "a", tmp_path / "b").out


def test_the_page_shows_what_changed_with_its_pictures(tmp_path, reelmill):
    dump, recipe = still_dump(tmp_path / "dump"), light_recipe(tmp_path / "light.toml")
    curate_here(dump, tmp_path / "a", recipe)
    (dump / "p2.json").write_text(json.dumps({"alt": "another <b>text</b> altogether"}))
    (dump / "p1.jpg").unlink()
    curate_here(dump, tmp_path / "b", recipe)
    page = tmp_path / "page.html"
    ended = reelmill("compare", tmp_path / "a", tmp_path / "b", "--page", page, "--json")
    assert ended.code == 0
    listed = json.loads(ended.out)["samples"]
    shown = page.read_text(encoding="utf-8").split('<div class="changed">')[1:]
    assert [row["uri"] for row in listed] == [re.search(r'"where">([^<]*)<', part)[1] for part in shown]
    by_uri = {row["uri"]: part for row, part in zip(listed, shown, strict=True)}
    assert "data:image/webp" in by_uri["p2.jpg"]
    assert "another &lt;b&gt;text&lt;/b&gt; altogether" in by_uri["p2.jpg"]
    assert "absent" in by_uri["p1.jpg"] and "No picture" in by_uri["p1.jpg"]


def test_wrong_selections_are_named(small_run, tmp_path, reelmill):
    out = small_run(tmp_path)
    with pytest.raises(ConfigError, match=r"no selection 'defualt'.*did you mean 'default'"):
        compare(out, out, ("default", "defualt"), 1)
    ended = reelmill("compare", out, out, "--before", "nobody")
    assert ended.code == 2
    assert "no selection 'nobody'" in ended.err
