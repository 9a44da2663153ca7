"""Storage that fails under a run folder: one line that says what and what to do, never a traceback, nothing lost."""

import errno
import fcntl
import itertools
import os
import shutil

import pytest
from command_line import CommandLine
from dumps import curate_here, everything, light_recipe
from other_user import may_not_read, may_not_write, open_place  # noqa: F401

from reelmill.orchestration.plan import PlanConfig

TEXT = "Words of a text that go on for a while. "
INLINE = ("--executor", "inline")


@pytest.fixture
def reelmill(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def made(open_place):  # noqa: F811
    """A dump of texts, its recipe, and a run folder of it."""
    dump = open_place / "dump"
    dump.mkdir()
    for n in range(5):
        (dump / f"{n}.txt").write_text(TEXT * (n + 3))
    recipe = light_recipe(open_place / "light.toml", plan=PlanConfig(unit_items=1))
    curate_here(dump, open_place / "made", recipe)
    return open_place


@pytest.fixture
def run(made):
    """A run folder, and the command that goes on with it."""
    shutil.copytree(made / "made", made / "out")
    yield made / "out", ("curate", made / "dump", "--out", made / "out", "--recipe", made / "light.toml", *INLINE)
    shutil.rmtree(made / "out")


def refused(ended, code, *words):
    """The command ended with one message that holds `words`."""
    assert ended.code == code, ended.err
    message = " ".join(ended.err.split())
    assert message.startswith("error: ")
    for word in words:
        assert word in message, message
    return True


def test_a_broken_epoch(run, reelmill):
    out, again = run
    before = everything(out)
    for damage in (b"", b"no number\n", b"\xff\xfe\x00", b"1.5"):
        (out / ".epoch").write_bytes(damage)
        assert refused(reelmill(*again), 4, ".epoch is damaged: it holds no number; remove it"), damage
    (out / ".epoch").unlink()
    assert reelmill(*again).code == 0
    assert everything(out) == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(("plan.parquet", "items/unit-000000.parquet", "verdicts/default.parquet"), ("cut", "noise")),
        ("plan.parquet", "empty"),
        ("plan.parquet", "other"),
    ],
)
def test_a_broken_table(run, reelmill, name, damage):
    out, again = run
    whole = (out / name).read_bytes()
    other = (out / "schemas" / "timings.parquet").read_bytes()
    damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "noise": bytes(len(whole)), "other": other}[damage]
    for command in (("stats", out), ("explain", out, "0.txt"), ("select", out, "mine"), ("report", out), again):
        (out / name).write_bytes(damaged)
        ended = reelmill(*command)
        assert ended.code == 0 or refused(ended, 4), command
        assert ended.code == 0 or "verify" in ended.err or "What to do" in ended.err, command
    (out / name).write_bytes(damaged)
    assert refused(reelmill("verify", out), 4, name)


def test_a_plan_that_is_gone_is_not_made_anew_beside_the_units_of_the_old_one(run, reelmill):
    out, again = run
    (out / "plan.parquet").unlink()
    assert refused(reelmill(*again), 4, "plan.parquet is gone", "--out")
    assert not (out / "plan.parquet").exists()


@pytest.mark.parametrize(
    "notes", [(b"", b"{", b"[]", b"null"), (b"\xff", b'{"epoch": 2, "deaths": 3}', b'{"epoch": 2, "current": []}')]
)
def test_a_broken_note_of_a_worker_counts_for_nothing(run, reelmill, notes):
    """Each unit's worker left one."""
    out, again = run
    before = everything(out)
    (out / "running").mkdir(exist_ok=True)
    for unit, note in enumerate(notes):
        (out / "items" / f"unit-{unit:06d}.parquet").unlink()
        (out / "running" / f"unit-{unit:06d}.json").write_bytes(note)
    assert reelmill(*again).code == 0
    assert everything(out) == before


@pytest.mark.parametrize("name", ["recipe.toml", "run.json"])
def test_a_broken_recipe(run, reelmill, name):
    out, again = run
    (out / name).write_bytes(b"\xff\x00= [")
    ended = reelmill(*again)
    assert ended.code == 0 or refused(ended, 2, name)


def test_a_run_folder_that_may_only_be_read_answers_and_refuses_to_be_written(run, reelmill):
    out, again = run
    asked = [("stats", out), ("sql", out, "SELECT * FROM samples"), ("explain", out, "0.txt"), ("verify", out)]
    assert [reelmill(*command).code for command in asked] == [0] * 4  # and everything is imported
    reelmill("select", out, "mine")
    reelmill("report", out)
    with may_not_write(out):
        assert [reelmill(*command).code for command in asked] == [0] * 4
        for command in (again, ("select", out, "mine"), ("forget", out, "--uri", "0.txt"), ("report", out)):
            assert refused(reelmill(*command), 5, "Permission denied", "change the permissions"), command
    assert reelmill(*again).code == 0


def test_a_file_that_may_not_be_read(run, reelmill):
    out, again = run
    commands = (again, ("stats", out), ("verify", out))
    assert [reelmill(*command).code for command in commands] == [0] * 3  # and everything is imported
    for name in ("plan.parquet", "items/unit-000000.parquet", "recipe.toml", ".epoch"):
        with may_not_read(out / name):
            for command in commands:
                ended = reelmill(*command)
                assert ended.code in (0, 2, 4, 5), (name, command)
                assert ended.code == 0 or refused(ended, ended.code, "ermission denied"), (name, command)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.ESTALE])
def test_a_file_system_without_working_locks(run, reelmill, monkeypatch, number):
    """NFS without its lock daemon, FUSE: no such file system can be mounted here, so its answer is put in."""

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    out, again = run
    assert refused(reelmill(*again), 5, f"cannot lock {out}", os.strerror(number))
    assert refused(reelmill("forget", out, "--uri", "0.txt"), 5, f"cannot lock {out}")


def test_out_cannot_be(run, reelmill):
    out, again = run
    for place in ("/dev/null/x", out / "plan.parquet", "/proc/x", "n" * 300):
        ended = reelmill(*again[:3], place, *again[4:])
        assert ended.code in (2, 4, 5)
        assert refused(ended, ended.code)
