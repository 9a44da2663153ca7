"""A file is visible whole or not at all."""

from pathlib import Path

import pytest

from reelmill.errors import MachineError
from reelmill.files import checksum_path, sha256, write_atomically


def test_a_failing_write_leaves_nothing(tmp_path):
    def write(path):
        path.write_bytes(b"half")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "a" / "x.bin", write, root=tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_full_disk_is_a_clear_error_and_keeps_the_old_file(tmp_path):
    target = tmp_path / "x.bin"
    write_atomically(target, lambda path: path.write_bytes(b"old") and None, root=tmp_path)

    def write(path):
        path.write_bytes(b"half")
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"more")

    with pytest.raises(MachineError, match=r"No space left on device.*run the same command again"):
        write_atomically(target, write, root=tmp_path)
    assert target.read_bytes() == b"old"
    assert checksum_path(tmp_path, target).read_text().split()[0] == sha256(target)
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    def write(temporary):
        temporary.touch(mode=0o600)

    write_atomically(tmp_path / "weights", write)
    (tmp_path / "plain").touch()
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode
