"""A seccomp filter by ctypes: system calls that decoding never needs fail, in this process and its threads, for ever.

Source: the kernel's Documentation/userspace-api/seccomp_filter.rst. The filter is a program for the kernel's packet
filter machine over the call's number and arguments (`struct seccomp_data`). It cannot follow pointers, so calls whose
arguments lie behind one are answered as by a kernel that does not have them, which sends libraries to the older call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

from reelmill.isolation.landlock import LIBC
from reelmill.isolation.syscalls import ARCHITECTURES, LAST, denied, judged

GROUP = 16
"""Calls that are compared one by one."""
_LOAD, _JUMP, _IF_EQUAL, _IF_GREATER, _IF_ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data`; arguments are eight bytes each, the lower half first."""

_PR_GET_DUMPABLE, _PR_SET_NAME, _PR_GET_NAME, _PR_GET_SECCOMP, _PR_SET_SECCOMP = 3, 15, 16, 21, 22
_PR_GET_NO_NEW_PRIVS, _PR_SET_VMA = 39, 0x53564D41
_SECCOMP_MODE_FILTER = 2
_HARMLESS_PRCTL = (_PR_GET_DUMPABLE, _PR_SET_NAME, _PR_GET_NAME, _PR_GET_SECCOMP, _PR_GET_NO_NEW_PRIVS, _PR_SET_VMA)

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080
"""CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET and TIME."""
_OPEN_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LOCKS_OWNERS_LEASES = (6, 7, 37, 38, 8, 10, 15, 1024, 1026)
"""fcntl: F_SETLK(W), F_OFD_SETLK(W), F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY."""


def available() -> bool:
    """Whether this kernel takes filters and this architecture's numbers are known."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES or struct.calcsize("P") != 8:
        return False
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None)
    return ctypes.get_errno() == errno.EFAULT  # it has looked for the program; EINVAL from a kernel without filters


class Filter:
    """The filter, built once; a process installs it for itself."""

    def __init__(self) -> None:
        self._numbers = judged()
        self._before = _load(_ARCHITECTURE) + _unless_equal(ARCHITECTURES[platform.machine()], _KILL_PROCESS)
        self._before += _load(_NUMBER) + _op(_IF_GREATER, LAST, 0, 1) + _fail(errno.ENOSYS)
        self._after = _fail_for(sorted(denied().values())) + self._judged() + _allow()

    def install(self) -> None:
        """Enter the filter, for ever. The process must have no_new_privs. OSError where the kernel refuses."""
        program = self._before + self._signals(os.getpid()) + self._after
        held = ctypes.create_string_buffer(program, len(program))
        described = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
        if _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described):
            code = ctypes.get_errno()
            raise OSError(code, f"seccomp: {os.strerror(code)}")

    def _signals(self, process: int) -> bytes:
        """A process may signal itself, which is how `abort` ends it."""
        own = _load(_ARGUMENTS) + _unless_equal(process, _ERRNO | errno.EPERM) + _allow()
        return b"".join(self._when(name, own) for name in ("kill", "tgkill", "tkill"))

    def _judged(self) -> bytes:
        blocks = {
            "clone": _load(_ARGUMENTS)
            + _op(_IF_ANY_BIT, _CLONE_THREAD, 1, 0)
            + _fail(errno.EPERM)
            + _op(_IF_ANY_BIT, _CLONE_NAMESPACES, 0, 1)
            + _fail(errno.EPERM)
            + _allow(),
            "clone3": _fail(errno.ENOSYS),
            "open": _read_only(argument=1),
            "openat": _read_only(argument=2),
            "openat2": _fail(errno.ENOSYS),
            "prctl": _load(_ARGUMENTS) + _if_among(_HARMLESS_PRCTL, _allow()) + _fail(errno.EPERM),
            "prlimit64": b"".join(  # reading limits only: the place of new ones is NULL
                _load(_ARGUMENTS + 8 * 2 + half) + _unless_equal(0, _ERRNO | errno.EPERM) for half in (0, 4)
            )
            + _allow(),
            "ioctl": _fail(errno.ENOTTY),
            "fcntl": _load(_ARGUMENTS + 8) + _if_among(_LOCKS_OWNERS_LEASES, _fail(errno.EPERM)) + _allow(),
        }
        return b"".join(self._when(name, block) for name, block in blocks.items())

    def _when(self, name: str, block: bytes) -> bytes:
        """`block`, which ends with an answer, for the call `name`; nothing where the architecture has no such call."""
        number = self._numbers.get(name)
        return b"" if number is None else _op(_IF_EQUAL, number, 0, len(block) // 8) + block


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; jumps count the instructions that they pass over."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _op(_LOAD, offset)


def _fail(code: int) -> bytes:
    return _op(_RETURN, _ERRNO | code)


def _fail_for(numbers: list[int]) -> bytes:
    """EPERM for these calls, in groups that a call beyond them passes over: the kernel tries all calls on a filter."""
    groups = [numbers[n : n + GROUP] for n in range(0, len(numbers), GROUP)]
    return b"".join(_fail_for_group(group) for group in groups)


def _fail_for_group(group: list[int]) -> bytes:
    after = len(group) + 2  # comparisons, the jump over the answer, the answer
    found = [_op(_IF_EQUAL, number, len(group) - n, 0) for n, number in enumerate(group)]
    return _op(_IF_GREATER, group[-1], after, 0) + b"".join(found) + _op(_JUMP, 1) + _fail(errno.EPERM)


def _allow() -> bytes:
    return _op(_RETURN, _ALLOW)


def _unless_equal(value: int, answer: int) -> bytes:
    return _op(_IF_EQUAL, value, 1, 0) + _op(_RETURN, answer)


def _if_among(values: tuple[int, ...], answer: bytes) -> bytes:
    return b"".join(_op(_IF_EQUAL, value, 0, 1) + answer for value in values)


def _read_only(argument: int) -> bytes:
    return _load(_ARGUMENTS + 8 * argument) + _op(_IF_ANY_BIT, _OPEN_TO_WRITE, 0, 1) + _fail(errno.EACCES) + _allow()


def _prctl(option: int, value: int, place: bytes | None) -> int:
    unused = ctypes.c_ulong(0)
    ctypes.set_errno(0)
    return int(LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(value), place, unused, unused))
