"""Files of another user, for real: as root the process steps down, as anybody else the permissions go."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture(scope="module")
def open_place():
    """A folder that every user may enter; pytest's own lie in one that only its user may."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@contextlib.contextmanager
def may_not_write(place):
    """`place` and what is in it may be read and not written. Everything that is used within must be imported before."""
    with _without(place, stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        yield


@contextlib.contextmanager
def may_not_read(place):
    """`place` may not be read."""
    with _without(place, 0o777):
        yield


@contextlib.contextmanager
def _without(place, bits):
    before = {path: path.stat().st_mode for path in (place, *place.rglob("*"))}
    for path, mode in before.items():
        path.chmod(stat.S_IMODE(mode) & ~bits)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in before.items():
            path.chmod(stat.S_IMODE(mode))
