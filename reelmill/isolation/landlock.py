"""Landlock by ctypes: this process may open nothing but what is listed, and reach no one. Linux 5.13 and later.

Source: the kernel's Documentation/userspace-api/landlock.rst. A ruleset names kinds of access that are forbidden
unless a rule allows them; a process that enters it can never leave it. What is open already stays usable. The kernel
says which version of the interface it has (`abi`); kinds of access that it does not know yet are left out.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_ACCESS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Kinds of access to files by the first version that has them: all of old, refer, truncate, ioctl on devices."""
_CHANGES = {1: (1 << 13) - 1 - 0b1101, 2: 1 << 13, 3: 1 << 14}
"""The same without executing and reading."""
_OF_A_FILE = 1 << 1 | 1 << 14
"""Writing and truncating: what a rule for a single file may allow."""
_TCP_SINCE, _BIND_AND_CONNECT = 4, 0b11
_SCOPES_SINCE, _ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11


def abi() -> int:
    """The version of Landlock's interface in this kernel; 0 where there is none, or where it is switched off."""
    if sys.platform != "linux":
        return 0
    version = LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(int(version), 0)


def ruleset(readable: Iterable[Path]) -> int:
    """A descriptor of rules that let a process read the `readable` files and folders and open nothing else.

    From version 4 it may neither bind nor connect TCP sockets, from version 6 it may send no signal to a process
    outside and use no abstract Unix socket of one. Places that are not there are left out. OSError where the kernel
    refuses.
    """
    version = abi()
    files = sum(bits for since, bits in _FILE_ACCESS.items() if version >= since)
    network = _BIND_AND_CONNECT if version >= _TCP_SINCE else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPES_SINCE else 0
    attributes = struct.pack("=QQQ", files, network, scopes)
    size = 8 if version < _TCP_SINCE else 16 if version < _SCOPES_SINCE else 24
    rules = _checked(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    for path in readable:
        if path.exists():
            _allow(rules, path, _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE)
    return rules


def writing_ruleset(writable: Iterable[Path]) -> int:
    """A descriptor of rules that let a process change nothing but the `writable` files and what is in such folders."""
    version = abi()
    changes = sum(bits for since, bits in _CHANGES.items() if version >= since)
    rules = _checked(_CREATE_RULESET, struct.pack("=Q", changes), ctypes.c_size_t(8), ctypes.c_uint32(0))
    for path in writable:
        _allow(rules, path, changes if path.is_dir() else changes & _OF_A_FILE)
    return rules


def restrict(rules: int) -> None:
    """Enter a ruleset, for ever. The process must have no_new_privs. OSError where the kernel refuses."""
    _checked(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))


def _allow(rules: int, path: Path, access: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        beneath = struct.pack("=Qi", access, place)
        _checked(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), beneath, ctypes.c_uint32(0))
    finally:
        os.close(place)


def _checked(number: int, *arguments: object) -> int:
    result = int(LIBC.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock, system call {number}: {os.strerror(code)}")
    return result
