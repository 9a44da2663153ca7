"""What fails on one rank before the first step ends all of them, with one message, while none waits for another."""

import errno
import multiprocessing
import os
import shutil
from dataclasses import replace

import pytest

from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

PATIENCE_S = 120
"""Of a rank that waits for ever, as without the broadcast it would."""


def a_rank(rank, config, data, out, fault, told):
    """One of two gloo ranks; puts (rank, kind of the error, message)."""
    import torch.distributed as dist

    store = dist.FileStore(str(out.parent / f"store-{out.name}"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    FAULTS.get(fault, lambda rank: None)(rank)
    try:
        train(config, [data], out, log_fn=lambda _: None)
    except Exception as error:
        told.put((rank, type(error).__name__, str(error)))
    else:
        told.put((rank, "", ""))


def bad_disk(rank):
    """The disk of the first rank fails while it reads what is to be checked."""
    from reelmill.train import manifest

    def sha256(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    if rank == 0:
        manifest.sha256 = sha256


def lost_mount(rank):
    """The second rank has lost the file system that the first one reads."""
    from reelmill.train import checkpoint

    def read_state(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    if rank == 1:
        checkpoint.read_state = read_state


def another_disk(rank):
    """The second rank does not see the checkpoints that the first one wrote."""
    from reelmill.train import resume

    if rank == 1:
        resume.complete = lambda folder: {}


FAULTS = {"bad disk": bad_disk, "lost mount": lost_mount, "another disk": another_disk}


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reelmill.train.run", "reelmill.train.trainer"])
    return context


@pytest.fixture
def config(toy_config):
    return replace(toy_config, steps=2, checkpoint=CheckpointConfig(every=1))


@pytest.fixture
def made(run_folder, config, tmp_path):
    """A run of one rank, one of whose two steps is done."""
    train(config, [run_folder], tmp_path / "run", until=1, log_fn=lambda _: None)
    return tmp_path / "run"


def on_two_ranks(processes, config, data, out, fault=""):
    told = processes.Queue()
    ranks = [processes.Process(target=a_rank, args=(rank, config, data, out, fault, told)) for rank in (0, 1)]
    try:
        for rank in ranks:
            rank.start()
        return [(kind, message) for _, kind, message in sorted(told.get(timeout=PATIENCE_S) for _ in ranks)]
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("bad disk", "MachineError", "Input/output error"),
        ("lost mount", "MachineError", "mount it anew"),
        ("another disk", "MachineError", "all ranks must see one file system"),
        ("recipe", "DataError", "cannot write"),
        ("other run", "ConfigError", "was trained otherwise"),
    ],
)
def test_all_ranks_leave_with_one_message(processes, run_folder, config, made, fault, kind, words):
    if fault == "recipe":
        shutil.move(made / "recipe.toml", made / "away")
        (made / "recipe.toml").mkdir()
    given = replace(config, seed=7) if fault == "other run" else config
    first, second = on_two_ranks(processes, given, run_folder, made, fault)
    assert first == second
    assert first[0] == kind and words in first[1]


def test_without_a_fault_they_go_on(processes, run_folder, config, made):
    assert on_two_ranks(processes, config, run_folder, made) == [("", "")] * 2
    assert (made / "checkpoints/step-000002/manifest.json").is_file()
