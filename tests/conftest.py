"""Shared by all tests: no network, one thread, bounded memory, small videos."""

import fcntl
import os
import resource
import shutil
import socket

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(PIP_NO_INDEX="1", HF_HUB_OFFLINE="1")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves its workers where tests run side by side

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton, which looks at it once

# A test that runs away ends with a MemoryError of its own, where it would take the machine along.
resource.setrlimit(resource.RLIMIT_DATA, (12 << 30, resource.getrlimit(resource.RLIMIT_DATA)[1]))

# The longest files, which start first: so no process has one left to do when the others have ended.
_LONGEST = (
    "test_sampledump.py",
    "test_engine.py",
    "test_ledger.py",
    "test_captions.py",
    "test_forget.py",
    "test_vision_trainer.py",
    "test_storage_faults.py",
    "test_every_commit.py",
    "test_corpus.py",
    "test_parallel.py",
    "test_changed.py",
    "test_one_bad_sample.py",
    "test_wrong_input.py",
    "test_weights.py",
)
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Any connection that leaves this machine is an error; loopback and this machine's own addresses are allowed."""
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if isinstance(address, tuple) and not str(host).startswith(_LOOPBACK) and host not in own:
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Gives a folder a `dump`, its recipe `light.toml` and its run `out`, which it returns: `dumps.small_run`.

    They are copies of what the first process that asks has made for all; the plan names the files of the first dump.
    """
    return _shared("small_run", tmp_path_factory)


@pytest.fixture(scope="session")
def still_run(tmp_path_factory):
    """The same of a dump of a few pictures and texts: `dumps.still_run`."""
    return _shared("still_run", tmp_path_factory)


def _shared(name, tmp_path_factory):
    import dumps

    from reelmill.orchestration.views import write_database

    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name

    def copy(folder):
        with made.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (made / "complete").exists():
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                getattr(dumps, name)(made)
                (made / "complete").touch()
        shutil.copytree(made, folder, dirs_exist_ok=True)
        write_database(folder / "out")
        return folder / "out"

    return copy


def pytest_collection_modifyitems(items):
    """Files in the order of `_LONGEST`, then the others as they come."""
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
