"""A file is visible whole or not at all."""

from pathlib import Path

import pytest

from reelmill.errors import MachineError
from reelmill.files import checksum_path, damaged_files, recorded_hashes, sha256, write_atomically


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


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_file_that_is_replaced_is_sound_wherever_its_writer_dies(tmp_path, monkeypatch, step):
    """The record with both hashes, the file, the record with the new one: each is one rename."""
    target = tmp_path / "data" / "x.txt"
    write_atomically(target, lambda path: path.write_text("old"), root=tmp_path)

    class Killed(BaseException):
        pass

    left, rename = [step], Path.replace

    def replace(self, place):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return rename(self, place)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "replace", replace)
        write_atomically(target, lambda path: path.write_text("new"), root=tmp_path)
    assert target.read_text() == ("new" if step == 3 else "old")
    assert damaged_files(tmp_path, [target]) == []
    write_atomically(target, lambda path: path.write_text("newer"), root=tmp_path)
    assert recorded_hashes(tmp_path, target) == [sha256(target)]
    target.write_text("other")
    assert len(damaged_files(tmp_path, [target])) == 1
