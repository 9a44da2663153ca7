"""The same rows inline and on Ray, whatever items do; a rerun does nothing; kills and full disks change nothing."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from dumps import curate, curate_here, everything, light_recipe, rows, write_dump

from reelmill.errors import MachineError
from reelmill.orchestration.engine import EngineConfig, gpu_share, run_tasks, start_ray, stop_ray
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.ledger.verify import verify

ORDERS = {"crash.txt": "SEGFAULT", "raise.txt": "RAISE"}  # what hangs is tried in tests/test_isolation.py
FAULTY = "score.expanders.text=faulty:expand"


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """Two videos and what goes with them, and two texts at which the decoding child crashes and raises."""
    folder = write_dump(tmp_path_factory.mktemp("dump") / "crawl", videos=2)
    for name, order in ORDERS.items():
        (folder / name).write_text(order)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return light_recipe(tmp_path_factory.mktemp("recipe") / "light.toml")


@pytest.fixture(scope="module")
def inline(dump, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("inline") / "out"
    curate_here(dump, out, recipe, FAULTY)
    return out


@pytest.fixture
def asked(dump, recipe, tmp_path, monkeypatch):
    """Arguments of the command, with an environment that finds the helpers."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return dump, tmp_path / "out", recipe, "--set", FAULTY


def test_the_inline_run_is_what_the_dump_holds(inline):
    found = everything(inline)
    assert len(found["items"]) == 2 + 2 + 1 + 1 + 1 + 2 + 2
    assert len(found["samples"]) == 3 * 2 + 3 + 2
    assert len(found["tokens"]) == 2 * 2 + 3 + 2
    assert found["failures"] == []


def test_bad_items_cost_one_item_each(inline):
    with LedgerQueries(inline) as ledger:
        found = {row["uri"]: row for row in ledger.rows("SELECT * FROM items WHERE status = 'refused'")}
    assert set(found) == {"corrupt0.mp4", *ORDERS}
    crash, raised = found["crash.txt"], found["raise.txt"]
    assert (crash["reason_class"], crash["reason"]) == ("item", "decoder_crashed: signal SIGSEGV")
    assert (raised["reason_class"], raised["reason"][:12]) == ("item", "decode_error")


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ray_gives_the_same_rows(asked, inline, workers):
    done = curate(*asked, "--workers", workers)
    assert everything(asked[1]) == everything(inline)
    assert "items/s" in done.stdout
    assert "ERROR" not in done.stderr


@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_kill_of_the_driver_changes_nothing(asked, inline, executor):
    """Killed as soon as the first unit is committed, whatever it or its workers are doing then."""
    dump, out, recipe, *options = asked
    command = [sys.executable, "-m", "reelmill", "curate", str(dump), "--out", str(out), "--recipe", str(recipe)]
    command += [*options, "--executor", executor]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob("items/unit-*.parquet")):
        assert driver.poll() is None, "the run ended before it committed a unit"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    curate_here(dump, out, recipe, FAULTY)
    assert everything(out) == everything(inline)
    assert not list(out.rglob(".*.tmp"))
    assert verify(RunFolder(out)).problems == []


def test_a_rerun_does_nothing(dump, recipe, inline):
    before = {path: path.stat().st_mtime_ns for path in inline.rglob("*.parquet") if path.parent.name != "verdicts"}
    printed = curate_here(dump, inline, recipe, FAULTY)
    assert "0 new items" in printed
    assert "score" not in printed
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_second_dump_is_added_to_an_existing_out(recipe, inline, tmp_path):
    more = write_dump(tmp_path / "more", first=10, videos=1)
    out = shutil.copytree(inline, tmp_path / "out")
    curate_here(more, out, recipe, FAULTY)
    assert {str(row) for row in rows(inline, "tokens")} < {str(row) for row in rows(out, "tokens")}
    assert len(rows(out, "items")) == len(rows(inline, "items")) + 1 + 1 + 1 + 1 + 1 + 2


def test_a_full_disk_is_a_clear_error_and_the_rerun_completes(dump, recipe, inline, tmp_path):
    out = tmp_path / "out"
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))\n"
        "sys.argv[0] = 'reelmill'\n"
        "from reelmill.pipelines.cli import main\n"
        "main()"
    )
    arguments = ["curate", dump, "--out", out, "--recipe", recipe, "--executor", "inline", "--set", FAULTY]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    full = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert full.returncode == 5, full.stderr
    assert "cannot write" in full.stderr
    assert "run the same command again" in " ".join(full.stderr.split())
    assert not list(out.rglob(".*.tmp"))
    curate_here(dump, out, recipe, FAULTY)
    assert everything(out) == everything(inline)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "no address"])
def test_a_ray_cluster_that_does_not_answer_is_one_line_at_once(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(MachineError, match=f"RAY_ADDRESS is {address} and no Ray cluster answers .*unset RAY_ADDRESS"):
        start_ray()


@pytest.mark.parametrize(("workers", "gpus", "each"), [(16, 1, 16), (12, 8, 2), (8, 8, 1), (3, 8, 1), (9, 4, 3)])
def test_workers_share_gpus_evenly_and_none_over_two(workers, gpus, each):
    share = gpu_share(workers, gpus)
    assert share == 1 / each
    assert gpus * int(1 / share + 1e-9) >= workers  # all run at once
    assert gpu_share(workers, 0) == 0


@contextlib.contextmanager
def ray_with(monkeypatch, cpus, gpus):
    """A Ray that believes in so many of each."""
    import ray

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ray.init(num_cpus=cpus, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    try:
        yield
        stop_ray()
        assert ray.is_initialized(), "a Ray that was there before is its owner's"
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "seen"), [(None, [{"0"}, {"1"}]), (0.0, [{""}]), (1.0, [{"0"}, {"1"}])])
def test_workers_see_the_gpus_that_they_asked_for(monkeypatch, asked, seen):
    """Each of two workers its own, or none at all."""
    with ray_with(monkeypatch, 2, 2):
        tasks = [{"unit": unit} for unit in range(4)]
        config = EngineConfig(workers=2, gpus_per_worker=asked)
        by_worker = {}
        for receipt in run_tasks("gpu_probe:GpuProbe", {"task_s": 0.3}, tasks, config):
            by_worker.setdefault(receipt["pid"], set()).add(receipt["gpus"])
    assert by_worker
    assert all(found in seen for found in by_worker.values())
    assert asked == 0 or len({*map(tuple, by_worker.values())}) == len(by_worker)


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "workers", "on_each"), [(None, 6, 2), (0.3, 6, 3), (0.6, 6, 1)])
def test_no_gpu_has_more_workers_than_their_shares_fill(monkeypatch, asked, workers, on_each):
    """Four GPUs, tasks that take a while: more workers than fit share them evenly, or fewer are started."""
    with ray_with(monkeypatch, workers, 4):
        tasks = [{"unit": unit} for unit in range(3 * workers)]
        config = EngineConfig(workers=workers, gpus_per_worker=asked)
        receipts = list(run_tasks("gpu_probe:GpuProbe", {"task_s": 1.0}, tasks, config))
    assert sorted(receipt["unit"] for receipt in receipts) == list(range(3 * workers))
    assert {receipt["gpus"] for receipt in receipts} <= {"0", "1", "2", "3"}  # one whole GPU is seen, never two
    busiest = 0
    for receipt in receipts:
        together = [r for r in receipts if r["gpus"] == receipt["gpus"] and r["began"] <= receipt["began"] < r["ended"]]
        assert len({r["pid"] for r in together}) == len(together) <= on_each
        busiest = max(busiest, sum(r["began"] <= receipt["began"] < r["ended"] for r in receipts))
    assert busiest == min(workers, 4 * on_each)  # and all that fit work at the same time
