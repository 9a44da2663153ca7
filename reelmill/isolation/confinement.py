"""What the untrusted child may not do, in layers: limits on every system, Landlock and seccomp where Linux has them."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from reelmill.isolation import landlock, seccomp
from reelmill.isolation.landlock import LIBC

OPEN_FILES = 64
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
"""Where the system keeps shared libraries, which Python's modules may load late."""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 1, 38, 39
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True)
class Layers:
    """Which layers a machine has. `landlock`: the version of the kernel's interface, 0 for none."""

    landlock: int
    seccomp: bool

    def __str__(self) -> str:
        linux = [f"landlock abi {self.landlock}"] if self.landlock else []
        linux += ["seccomp"] if self.seccomp else []
        return ", ".join([*linux, "rlimits"])


def available() -> Layers:
    """The layers that this machine has."""
    return Layers(landlock.abi(), seccomp.available())


def limit_open_files() -> None:
    """Bound the descriptors of this process, and of those that it forks."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def limit_resources(memory_bytes: int) -> None:
    """Bound this process: address space, no file made longer, no core dump."""
    if sys.platform == "linux":  # macOS does not take it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent(parent: int) -> None:
    """End when process `parent`, which started this one, ends. Only Linux can promise it."""
    if sys.platform == "linux":
        LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


class Confinement:
    """Landlock's rules and the filter of system calls, made once; each worker enters them."""

    def __init__(self) -> None:
        layers = available()
        self.rules = landlock.ruleset(readable_places()) if layers.landlock else None
        """Landlock's rules, an open file."""
        self._filter = seccomp.Filter() if layers.seccomp else None

    def close(self) -> None:
        """Forget the rules."""
        if self.rules is not None:
            os.close(self.rules)

    def enter(self) -> None:
        """Confine this process, for ever: no privileges, no files but Python's own, no call of `syscalls.py`.

        Raises OSError where a layer that this machine has cannot be entered.
        """
        if sys.platform == "linux":
            _drop_privileges()
        if self.rules is not None:
            landlock.restrict(self.rules)
            os.close(self.rules)
        if self._filter is not None:
            self._filter.install()


def readable_places() -> list[Path]:
    """The standard library, installed packages, packages that are loaded, the system's shared libraries; no nesting."""
    places = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places.update(Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))
    places.update(Path(place) for place in LIBRARIES)
    for module in list(sys.modules.values()):
        if hasattr(module, "__path__"):
            file = getattr(module, "__file__", None)
            places.update([Path(file).parent] if file else map(Path, module.__path__))
    return sorted(place for place in places if not places.intersection(place.parents))


def no_new_privileges() -> None:
    """No way to more rights, as by programs that run as root. OSError where the kernel refuses."""
    if LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")


def _drop_privileges() -> None:
    """No capabilities, of which root has all, and no way to new ones."""
    no_new_privileges()
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    if LIBC.capset(header, none):
        code = ctypes.get_errno()
        raise OSError(code, f"privileges cannot be dropped: {os.strerror(code)}")
    if LIBC.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        raise OSError("no_new_privs is off after it was set")
