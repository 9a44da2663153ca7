"""The same rows inline, on Ray with one worker and with two; a rerun does nothing; kills change nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from dumps import curate, everything, light_recipe, rows, write_dump

from reelmill.orchestration.views import LedgerQueries


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    return write_dump(tmp_path_factory.mktemp("dump") / "crawl")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return light_recipe(tmp_path_factory.mktemp("recipe") / "light.toml")


@pytest.fixture(scope="module")
def inline(dump, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("inline") / "out"
    curate(dump, out, recipe, "--executor", "inline")
    return out


def test_the_inline_run_is_what_the_dump_holds(inline):
    found = everything(inline)
    assert len(found["items"]) == 5 + 5 + 1 + 1 + 1 + 2
    assert len(found["samples"]) == 6 * 2 + 6 + 2
    assert len(found["tokens"]) == 5 * 2 + 6 + 2
    assert found["failures"] == []


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ray_gives_the_same_rows(dump, recipe, inline, tmp_path, workers):
    done = curate(dump, tmp_path / "out", recipe, "--workers", workers)
    assert everything(tmp_path / "out") == everything(inline)
    assert "items/s" in done.stdout
    assert "ERROR" not in done.stderr


def test_a_rerun_does_nothing(dump, recipe, inline):
    before = {path: path.stat().st_mtime_ns for path in inline.rglob("*.parquet") if path.parent.name != "verdicts"}
    done = curate(dump, inline, recipe, "--executor", "inline")
    assert "0 new items" in done.stdout
    assert "score" not in done.stdout.split("Items")[0]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_second_dump_is_added_to_an_existing_out(dump, recipe, inline, tmp_path):
    more = write_dump(tmp_path / "more", first=10, videos=2)
    out = shutil.copytree(inline, tmp_path / "out")
    curate(more, out, recipe, "--executor", "inline")
    assert {str(row) for row in rows(inline, "tokens")} < {str(row) for row in rows(out, "tokens")}
    assert len(rows(out, "items")) == len(rows(inline, "items")) + 2 + 2 + 1 + 1 + 1 + 2


def test_a_kill_of_the_driver_changes_nothing(dump, recipe, inline, tmp_path):
    """Killed on Ray as soon as the first unit is committed, whatever the workers are doing then."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "reelmill", "curate", str(dump), "--out", str(out), "--recipe", str(recipe)]
    driver = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob("items/unit-*.parquet")):
        assert driver.poll() is None, "the run ended before it committed a unit"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    curate(dump, out, recipe, "--executor", "inline")
    assert everything(out) == everything(inline)
    assert not list(out.rglob(".*.tmp"))
    verified = subprocess.run([sys.executable, "-m", "reelmill", "verify", str(out)], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr


def test_bad_items_cost_one_item_each_through_ray(tmp_path):
    """A crash and an exception; what hangs is tried in tests/test_isolation.py, where it takes a stall less."""
    dump = tmp_path / "dump"
    dump.mkdir()
    orders = {"a": "fine words", "b": "SEGFAULT", "c": "more fine words", "e": "RAISE", "f": "last fine words"}
    for name, words in orders.items():
        (dump / f"{name}.txt").write_text(words)
    helpers = [path for path in sys.path if path.endswith("helpers")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*helpers, os.environ.get("PYTHONPATH", "")])}
    settings = ("--set", "score.expanders.text=faulty:expand", "--workers", "1")
    curate(dump, tmp_path / "out", light_recipe(tmp_path / "r.toml"), *settings, env=environment)
    with LedgerQueries(tmp_path / "out") as ledger:
        found = {row["uri"][0]: row for row in ledger.rows("SELECT uri, status, reason_class, reason FROM items")}
    assert [found[name]["status"] for name in "acf"] == ["done"] * 3
    assert (found["b"]["reason_class"], found["b"]["reason"]) == ("item", "decoder_crashed: signal SIGSEGV")
    assert (found["e"]["reason_class"], found["e"]["reason"][:12]) == ("item", "decode_error")


def test_a_full_disk_is_a_clear_error_and_the_rerun_completes(dump, recipe, inline, tmp_path):
    out = tmp_path / "out"
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))\n"
        "sys.argv[0] = 'reelmill'\n"
        "from reelmill.pipelines.cli import main\n"
        "main()"
    )
    arguments = ["curate", str(dump), "--out", str(out), "--recipe", str(recipe), "--executor", "inline"]
    full = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert full.returncode == 5, full.stderr
    assert "cannot write" in full.stderr
    assert "run the same command again" in " ".join(full.stderr.split())
    assert not list(out.rglob(".*.tmp"))
    curate(dump, out, recipe, "--executor", "inline")
    assert everything(out) == everything(inline)
