"""The command line's manners: what every command takes, what a script gets, what is logged, what a dry run leaves."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from command_line import CommandLine
from dumps import light_recipe, still_dump, write_dump
from toy_run import toy_run

import reelmill
from reelmill.curation.interfaces import Scorer
from reelmill.orchestration.runfolder import RunFolder


@pytest.fixture(scope="module")
def made(small_run, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("manners"))


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made, tmp_path / "out")


@pytest.fixture
def run(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def everything_in(folder):
    """Every file with its bytes, but for the log."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in ("reelmill.log", ".epoch")}


def test_version_and_help(run):
    assert run("--version").out == f"{reelmill.__version__}\n"
    for words in (("-h",), ("curate", "-h"), ("recipe", "show", "-h")):
        shown = run(*words)
        assert shown.code == 0
        assert "Usage: reelmill" in shown.out


def test_a_shell_completes_commands_and_options():
    def completed(words, place):
        environment = {
            **os.environ,
            "_REELMILL_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(place),
        }
        done = subprocess.run([sys.executable, "-m", "reelmill"], env=environment, capture_output=True, text=True)
        return done.stdout.split()

    assert completed("reelmill cap", 1) == ["caption"]
    assert completed("reelmill caption ex", 2) == ["export"]
    assert completed("reelmill stats --sel", 2) == ["--selection"]


def test_quiet_says_nothing_but_results(run, tmp_path):
    dump, recipe = still_dump(tmp_path / "dump", 1), light_recipe(tmp_path / "light.toml")
    words = ("curate", dump, "--out", tmp_path / "out", "--recipe", recipe, "--executor", "inline")
    done = run(*words, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert "kept" in run("-q", "stats", tmp_path / "out").out
    assert "plan" in run(*words).out
    assert "error:" in run("stats", tmp_path, "--quiet").err


class Talks(Scorer):
    """Says in the log what it looks at."""

    columns: ClassVar = {"seconds": "DOUBLE"}

    def score(self, samples):
        for sample in samples:
            logging.getLogger("reelmill.tests").info("looking at an item: %s", sample.kind)
        return [{"seconds": sample.end_s - sample.start_s} for sample in samples]


def test_verbose_shows_what_is_logged(run, tmp_path):
    dump, recipe = still_dump(tmp_path / "dump", 1), light_recipe(tmp_path / "light.toml")
    set_ = ("--set", f'score.scorers.talks={{use="{__name__}:Talks"}}')
    words = ("--recipe", recipe, "--executor", "inline", *set_)
    assert "looking at an item: image" in run("curate", dump, "--out", tmp_path / "out", *words, "-v").err


LINE = re.compile(r"(\S+) (INFO|WARNING|ERROR) (.*)")


def logged(folder):
    """The log's lines: time, level, message."""
    lines = (folder / "reelmill.log").read_text(encoding="utf-8").splitlines()
    return [
        (datetime.fromisoformat(when), level, text) for when, level, text in (LINE.fullmatch(x).groups() for x in lines)
    ]


def test_a_run_folder_has_a_log_with_times(run, tmp_path):
    dump, recipe = still_dump(tmp_path / "dump", 1), light_recipe(tmp_path / "light.toml")
    words = ("curate", dump, "--out", tmp_path / "out", "--recipe", recipe, "--executor", "inline")
    began = datetime.now(UTC)
    done = run(*words, "--set", f'score.scorers.talks={{use="{__name__}:Talks"}}')
    assert done.code == 0
    assert "looking at" not in done.err
    lines = logged(tmp_path / "out")
    times = [when for when, _, _ in lines]
    assert times == sorted(times)
    assert began - timedelta(seconds=1) <= times[0] <= datetime.now(UTC)
    said = [text for _, _, text in lines]
    assert said[0] == f"curate {dump} by sample"
    assert any(text.startswith("plan ") and "new items" in text for text in said)
    assert any(text.startswith("tokenize ") for text in said)
    assert "looking at an item: image" in said
    assert run("select", tmp_path / "out", "strict", "--set", "rules.motion.min=0.1").code == 0
    assert run("forget", tmp_path / "out", "--uri", "p0.jpg").code == 0
    said = [text for _, _, text in logged(tmp_path / "out")]
    assert "select strict: rules.motion.min=0.1" in said
    assert any(text.startswith("forgot ") for text in said)
    assert RunFolder(tmp_path / "out").damaged() == []


def test_an_error_is_the_log_s_last_line(run, out):
    assert run("forget", out, "--uri", "no such thing").code == 4
    _, level, text = logged(out)[-1]
    assert (level, text.partition(":")[0]) == ("ERROR", "DataError")


def test_a_training_run_has_a_log_and_json_lines(run, tmp_path):
    toy_run(tmp_path)
    words = (
        "train",
        tmp_path / "toy/recipe.toml",
        "--data",
        tmp_path,
        "--selection",
        "all",
        "--out",
        tmp_path / "again",
    )
    done = run(*words, "--set", "steps=3", "--json")
    assert done.code == 0
    steps = [json.loads(line) for line in done.out.splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [1, 2, 3]
    assert steps == [json.loads(line) for line in (tmp_path / "again/metrics.jsonl").read_text().splitlines()]
    assert "parameters" in done.err
    said = [text for _, _, text in logged(tmp_path / "again")]
    assert said[0].startswith(f"train {tmp_path}/toy/recipe.toml on {tmp_path}")
    assert any("parameters" in text for text in said)
    assert run("train", "tiny", "--data", tmp_path, "--out", tmp_path / "none", "--set", "steps=x").code == 2
    assert not (tmp_path / "none").exists()


def test_curate_gives_a_script_what_stats_gives(run, out, made):
    words = (made.parent / "dump", "--out", out, "--recipe", made.parent / "light.toml", "--executor", "inline")
    done = run("curate", *words, "--json")
    assert json.loads(done.out) == json.loads(run("stats", out, "--json").out)
    assert "plan" in done.err


def test_select_gives_a_script_what_changed(run, out):
    found = json.loads(run("select", out, "slow", "--set", "rules.motion.max=0.09", "--json").out)
    assert found["selection"] == "slow"
    assert sum(row["samples"] for row in found["changed"] if row["after"] == "rejected") > 0
    assert (found["lacking"], found["fingerprint"]) == (0, "")
    own = json.loads(run("select", out, "small", "--set", "tokens.area=1024", "--json").out)
    assert own["lacking"] == 9
    assert len(own["fingerprint"]) == 64


def test_a_dry_run_of_curate_writes_nothing(run, made, tmp_path):
    light = ("--recipe", made.parent / "light.toml", "--executor", "inline", "--dry-run")
    fresh = run("curate", made.parent / "dump", "--out", tmp_path / "new", *light)
    assert fresh.code == 0
    assert "9 new items in 3 units, 0 known" in fresh.out
    assert "Nothing was written" in fresh.out
    assert not (tmp_path / "new").exists()
    before = everything_in(made)
    more = write_dump(tmp_path / "more", first=7, videos=1)
    found = json.loads(run("curate", made.parent / "dump", more, "--out", made, *light, "--json").out)
    assert everything_in(made) == before
    assert found["plan"][str(made.parent / "dump")].startswith("0 new items in 0 units, 9 known")
    assert {row["kind"]: row["items"] for row in found["new"]} == {"image": 2, "text": 2, "video": 3}
    assert found["items_to_score"] == 7
    other = json.loads(
        run(
            "curate", made.parent / "dump", "--out", made, *light, "--json", "--update", "--set", "score.scenes.max_s=7"
        ).out
    )
    assert other["items_to_score"] == 9
    refused = run("curate", made.parent / "dump", "--out", made, *light, "--set", "score.scenes.max_s=7")
    assert (refused.code, everything_in(made)) == (2, before)
    assert "score.scenes.max_s: 10.0 -> 7.0" in refused.err


def test_a_dry_run_of_forget_names_what_would_go(run, made):
    before = everything_in(made)
    done = run("forget", made, "--uri", "v0.mp4", "--dry-run")
    assert done.code == 0
    assert done.out.splitlines()[:2] == ["copy0.mp4", "v0.mp4"]
    assert "2 items would be forgotten, with 4 samples and 2 documents" in done.out.replace("\n", " ")
    assert everything_in(made) == before
    assert run("forget", made, "--uri", "nothing*", "--dry-run").code == 4
