"""What a decoder that was taken over cannot do, tried from inside a real child; and what decoding still can."""

import ctypes
import errno
import os
import socket
import sys
from pathlib import Path

import pytest
from videos import scene_frames, write_video

from reelmill.isolation.confinement import Layers, available
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.isolation.syscalls import denied
from reelmill.media.source import Source

JOB = "probing:try_act"


def kernel_has(number, *arguments):
    """Whether the kernel knows a system call at all."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments])
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EOPNOTSUPP)


LANDLOCK = kernel_has(444, 0, 0, 1)
SECCOMP = sys.platform == "linux" and "Seccomp:" in Path("/proc/self/status").read_text()
landlock = pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
seccomp = pytest.mark.skipif(not SECCOMP, reason="this kernel has no seccomp")


@pytest.fixture(scope="module")
def confined():
    with Child(IsolationConfig()) as child:
        yield child


@pytest.fixture(scope="module")
def unconfined():
    with Child(IsolationConfig(confine=False)) as child:
        yield child


@pytest.fixture
def place(tmp_path):
    (tmp_path / "item").write_text("an item")
    (tmp_path / "secret").write_text("secret")
    return tmp_path


def attempt(child, place, act, **facts):
    source = Source(str(place / "item"), 0, 7)
    with pytest.raises(ItemFailed) as failed:
        list(child.run(JOB, source, {"act": act, "with": facts}, {}))
    return failed.value.reason


@pytest.mark.skipif(not (LANDLOCK or SECCOMP), reason="this kernel has neither")
def test_the_layers_that_the_kernel_has_are_on():
    assert bool(available().landlock) == LANDLOCK
    assert available().seccomp == SECCOMP


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (Layers(7, True), "landlock abi 7, seccomp, rlimits"),
        (Layers(0, True), "seccomp, rlimits"),
        (Layers(0, False), "rlimits"),
    ],
)
def test_layers_have_names(layers, words):
    assert str(layers) == words


@landlock
@pytest.mark.parametrize(("act", "name"), [("read", "secret"), ("read", "item"), ("list", ".")])
def test_no_other_file_is_opened_not_even_the_item_s_by_its_name(confined, unconfined, place, act, name):
    assert attempt(confined, place, act, path=str(place / name)) == "failed: EACCES"
    assert attempt(unconfined, place, act, path=str(place / name)).startswith("done: ")


@landlock
@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd"])
def test_other_processes_are_not_looked_into(confined, place, name):
    assert attempt(confined, place, "read", path=f"/proc/{os.getpid()}/{name}") == "failed: EACCES"


@seccomp
@pytest.mark.parametrize(
    ("act", "name"),
    [
        ("create", "new"),
        ("append", "secret"),
        ("unlink", "secret"),
        ("mkdir", "new"),
        ("rename", "secret"),
        ("symlink", "new"),
        ("chmod", "secret"),
        ("utime", "secret"),
        ("truncate", "secret"),
        ("mkfifo", "new"),
    ],
)
def test_no_file_is_made_changed_or_removed(confined, unconfined, place, act, name):
    before = {path.name: (path.stat().st_mode, path.stat().st_mtime_ns) for path in place.iterdir()}
    assert attempt(confined, place, act, path=str(place / name)) in ("failed: EACCES", "failed: EPERM")
    assert {path.name: (path.stat().st_mode, path.stat().st_mtime_ns) for path in place.iterdir()} == before
    assert attempt(unconfined, place, act, path=str(place / name)).startswith("done: ")


@seccomp
def test_the_item_itself_is_not_changed(confined, place):
    said = attempt(confined, place, "write the item")
    assert said == "done: ('EBADF', 'EPERM', 'EPERM')"
    assert (place / "item").read_text() == "an item"


@seccomp
def test_nobody_is_connected_to(confined, unconfined, place):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert attempt(confined, place, "connect", port=port) == "failed: EPERM"
        assert attempt(unconfined, place, "connect", port=port) == "done: connected"
    for act in ("socket pair", "unix socket", "datagram"):
        assert attempt(confined, place, act) == "failed: EPERM"


@seccomp
def test_no_process_is_started_or_signalled(confined, unconfined, place):
    for act in ("fork", "spawn", "exec", "signal the server", "signal all", "namespace", "outlive"):
        assert attempt(confined, place, act) == "failed: EPERM", act
    for act in ("signal", "signal the thread"):
        assert attempt(confined, place, act, process=os.getpid()) == "failed: EPERM", act
        assert attempt(unconfined, place, act, process=os.getpid()).startswith("done: ")
    assert attempt(unconfined, place, "fork") == "done: 0"


@seccomp
def test_every_call_of_the_list_is_refused_and_newer_ones_do_not_exist(confined, place):
    assert {"ptrace", "socket", "truncate", "unshare", "setuid", "bpf", "reboot", "clock_settime"} < denied().keys()
    assert len(denied()) > 120
    assert attempt(confined, place, "denied calls") == "done: []"
    assert attempt(confined, place, "newer calls") == "done: ['ENOSYS']"
    assert attempt(confined, place, "clone3") == "failed: ENOSYS"
    assert attempt(confined, place, "openat2") == "failed: ENOSYS"
    assert attempt(confined, place, "ioctl") == "failed: ENOTTY"
    assert attempt(confined, place, "owner of a pipe", process=os.getpid()) == "failed: EPERM"


@seccomp
def test_limits_stay(confined, place):
    assert "not allowed to raise" in attempt(confined, place, "raise a limit")


def test_nothing_is_open_but_the_item_and_the_pipe(confined, unconfined, place):
    for child in (confined, unconfined):
        assert sorted(attempt(child, place, "open files").split()[1:]) == ["device"] * 3 + ["file", "pipe"]


def test_decoding_still_works(confined, unconfined, place):
    write_video(place / "v.mp4", scene_frames([(1, 30)]))
    video = (place / "v.mp4").read_bytes().hex()
    found = attempt(confined, place, "decode with threads", path_bytes=video)
    assert found == attempt(unconfined, place, "decode with threads", path_bytes=video)
    assert found.startswith("done: 30 ")
    assert attempt(confined, place, "threads") == "done: 8"
    assert attempt(confined, place, "own signal") == "done: None"
    assert attempt(confined, place, "abort") == "decoder_crashed: signal SIGABRT"
    assert attempt(confined, place, "import late") == "done: 3"
    assert attempt(confined, place, "memory") == f"done: {64 << 20}"


def test_what_an_item_leaves_in_memory_the_next_does_not_find(confined, place):
    assert [attempt(confined, place, "count") for _ in range(3)] == ["done: 1"] * 3
