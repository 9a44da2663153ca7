"""Acts that a decoder which was taken over would try, each a job in a real child."""

import ctypes
import errno
import os
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path

import av
import numpy as np

from reelmill.errors import Refused
from reelmill.isolation import syscalls

SEEN = []
LIBC = ctypes.CDLL(None, use_errno=True)


def try_act(source, options):
    """Refuses the item with `done: RESULT`, or `failed: ERRNO`."""
    try:
        result = ACTS[options["act"]](**options.get("with", {}))
    except OSError as error:
        raise Refused(f"failed: {errno.errorcode.get(error.errno, error)}") from None
    raise Refused(f"done: {result}")
    yield


def call(number, *arguments):
    """A system call; OSError where it fails."""
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(number), *[ctypes.c_long(value) for value in arguments])
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), "")
    return result


def denied_calls():
    """Every call of the deny-list, with zeros: the names of those that do not fail with EPERM."""
    return sorted(name for name, number in syscalls.denied().items() if code_of(call, number, *[0] * 6) != "EPERM")


def newer_calls():
    return sorted({code_of(call, number, *[0] * 6) for number in range(syscalls.LAST + 1, syscalls.LAST + 40)})


def code_of(act, *arguments):
    try:
        return str(act(*arguments))
    except OSError as error:
        return errno.errorcode[error.errno]


def open_files():
    """Kinds of the files that are open."""
    kinds = []
    for file in range(64):
        try:
            mode = os.fstat(file).st_mode
        except OSError:
            continue
        kinds.append("device" if stat.S_ISCHR(mode) else "pipe" if stat.S_ISFIFO(mode) else "file")
    return " ".join(kinds)


def write_item():
    file = next(file for file in range(3, 64) if code_of(lambda f: stat.S_ISREG(os.fstat(f).st_mode), file) == "True")
    return code_of(os.write, file, b"x"), code_of(os.ftruncate, file, 0), code_of(os.fchmod, file, 0o777)


def connect(port):
    with socket.socket() as tried:
        tried.connect(("127.0.0.1", port))
    return "connected"


def fork():
    child = os.fork()
    if not child:
        os._exit(0)
    return os.waitpid(child, 0)[1]


def threads():
    done = []
    several = [threading.Thread(target=done.append, args=(n,)) for n in range(8)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    return len(done)


def decode_with_threads(path_bytes):
    """Decode a video in memory with four threads; the number of frames and the mean of the last."""
    import io

    with av.open(io.BytesIO(bytes.fromhex(path_bytes))) as container:
        container.streams.video[0].thread_type = "AUTO"
        container.streams.video[0].codec_context.thread_count = 4
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return f"{len(frames)} {np.mean(frames[-1]):.3f}"


def import_late():
    import sqlite3
    import xml.dom.minidom  # noqa: F401

    return sqlite3.sqlite_version_info[0]


def count():
    SEEN.append(None)
    return len(SEEN)


def raise_limit():
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))


ACTS = {
    "read": lambda path: Path(path).read_bytes()[:5],
    "list": lambda path: len(list(Path(path).iterdir())),
    "create": lambda path: Path(path).touch(),
    "append": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_APPEND)),
    "unlink": lambda path: Path(path).unlink(),
    "mkdir": lambda path: Path(path).mkdir(),
    "rename": lambda path: Path(path).rename(path + "2"),
    "symlink": lambda path: Path(path).symlink_to("/etc"),
    "chmod": lambda path: Path(path).chmod(0o777),
    "utime": lambda path: os.utime(path, (1, 1)),
    "truncate": lambda path: os.truncate(path, 0),
    "setxattr": lambda path: os.setxattr(path, "user.x", b"x"),
    "mkfifo": os.mkfifo,
    "connect": connect,
    "socket pair": socket.socketpair,
    "unix socket": lambda: socket.socket(socket.AF_UNIX),
    "datagram": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "fork": fork,
    "spawn": lambda: subprocess.run(["/bin/true"]).returncode,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "signal": lambda process: os.kill(process, 0),
    "signal the server": lambda: os.kill(os.getppid(), 0),
    "signal all": lambda: os.kill(-1, 0),
    "signal the thread": lambda process: call(syscalls.judged()["tgkill"], process, process, 0),
    "own signal": lambda: os.kill(os.getpid(), 0),
    "abort": os.abort,
    "namespace": lambda: call(syscalls.judged()["clone"], 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
    "clone3": lambda: call(syscalls.judged()["clone3"], 0, 0),
    "openat2": lambda: call(syscalls.judged()["openat2"], 0, 0, 0, 0),
    "outlive": lambda: call(syscalls.judged()["prctl"], 1, 0, 0, 0, 0),
    "ioctl": lambda: call(syscalls.judged()["ioctl"], 0, 0x5412, 0),
    "owner of a pipe": lambda process: call(syscalls.judged()["fcntl"], 0, 8, process),
    "raise a limit": raise_limit,
    "denied calls": denied_calls,
    "newer calls": newer_calls,
    "open files": open_files,
    "write the item": write_item,
    "threads": threads,
    "decode with threads": decode_with_threads,
    "import late": import_late,
    "count": count,
    "memory": lambda: len(bytearray(64 << 20)),
}
