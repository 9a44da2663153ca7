"""Kills at every named point of the commit, and at thirty random moments: each rerun equals an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from dumps import curate, everything, light_recipe, write_dump

pytestmark = pytest.mark.slow

# The named points of `reelmill.files.write_atomically`, as what is about to happen when the process dies.
POINTS = {
    "before the file is written": "pathlib.Path.mkdir",
    "before the file is flushed": "reelmill.files.sync",
    "before the checksum is written": "reelmill.files._write_checksum",
    "before the rename": "pathlib.Path.replace",
    "before the temporary file is cleaned": "pathlib.Path.unlink",
}

DIE = """
import os, pathlib, signal, sys
import reelmill.files
from reelmill.pipelines.cli import main

path, calls = sys.argv.pop(1), int(sys.argv.pop(1))
owner, _, name = path.rpartition(".")
target = pathlib.Path if owner == "pathlib.Path" else reelmill.files
real = getattr(target, name)
left = [calls]

def deadly(*args, **kwargs):
    frame = sys._getframe(1)
    if frame.f_code.co_filename == reelmill.files.__file__:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

setattr(target, name, deadly)
sys.argv[0] = "reelmill"
main()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    place = tmp_path_factory.mktemp("kills")
    dump = write_dump(place / "dump", videos=2)
    recipe = light_recipe(place / "light.toml")
    curate(dump, place / "out", recipe, "--executor", "inline")
    return dump, recipe, everything(place / "out")


@pytest.mark.parametrize("point", POINTS)
def test_dying_at_a_named_point_loses_and_doubles_nothing(work, tmp_path, point):
    dump, recipe, undisturbed = work
    arguments = ["curate", str(dump), "--out", str(tmp_path / "out"), "--recipe", str(recipe), "--executor", "inline"]
    deaths = 0
    for calls in (1, 9, 17, 23):
        command = [sys.executable, "-c", DIE, POINTS[point], str(calls), *arguments]
        deaths += subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert deaths >= 2
    curate(dump, tmp_path / "out", recipe, "--executor", "inline")
    assert everything(tmp_path / "out") == undisturbed
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    verified = subprocess.run([sys.executable, "-m", "reelmill", "verify", str(tmp_path / "out")], capture_output=True)
    assert verified.returncode == 0, verified.stderr


def test_thirty_random_kills_of_drivers_and_workers(work, tmp_path):
    dump, recipe, undisturbed = work
    command = [
        sys.executable,
        "-m",
        "reelmill",
        "curate",
        str(dump),
        "--recipe",
        str(recipe),
        "--workers",
        "2",
        "--out",
    ]
    seed = random.randrange(1 << 30)
    print(f"kills seeded with {seed}")
    chance = random.Random(seed)
    kills = round_ = 0
    while kills < 30:
        out = tmp_path / f"out{round_}"
        round_ += 1
        for _ in range(3):
            driver = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(2.0, 9.0))
            victims = [driver.pid] if chance.random() < 0.5 else (workers(driver.pid) or [driver.pid])
            os.kill(chance.choice(victims), signal.SIGKILL)
            kills += 1
            if driver.pid not in victims:
                driver.wait(120)  # a lost worker is retried by the engine: the run goes on to its end
            else:
                driver.wait()
        curate(dump, out, recipe, "--executor", "inline")
        assert everything(out) == undisturbed


def workers(driver):
    """Process ids of the Ray actors below a driver."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def below(pid):
        while pid in parents and pid != driver:
            pid = parents[pid]
        return pid == driver

    return [int(pid) for pid, _, *args in rows if args and args[0].startswith("ray::MapWorker") and below(int(pid))]
