"""A file is visible whole or not at all."""

import os
import time
from pathlib import Path

import pytest

from reelmill import files
from reelmill.errors import MachineError
from reelmill.files import (
    ABANDONED_S,
    changed_files,
    checksum_path,
    damaged_files,
    recorded_hashes,
    sha256,
    sweep,
    write_atomically,
    write_text,
)


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


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_is_not(tmp_path):
    for name in ("old", "new"):
        (tmp_path / f".{name}.tmp").touch()
    hours_ago = time.time() - 2 * ABANDONED_S
    os.utime(tmp_path / ".old.tmp", (hours_ago, hours_ago))
    assert sweep(tmp_path, ABANDONED_S) == 1 and (tmp_path / ".new.tmp").exists()
    assert sweep(tmp_path) == 1


def test_any_change_of_the_records_themselves_is_seen(tmp_path):
    for name in ("a", "b"):
        write_text(tmp_path / name, name, root=tmp_path)
    records = [checksum_path(tmp_path, tmp_path / "a"), tmp_path / "checksums" / "written.log"]
    assert damaged_files(tmp_path, []) == []
    for record in records:
        whole = record.read_bytes()
        for place in range(len(whole)):
            record.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert damaged_files(tmp_path, []), (record.name, place)
        record.write_bytes(whole)
    with records[1].open("ab") as log:  # its writer is killed
        log.write(b"\n+ half a na")
    assert damaged_files(tmp_path, []) == []
    write_text(tmp_path / "c", "c", root=tmp_path)
    assert damaged_files(tmp_path, []) == []
    for path in (tmp_path / "c", checksum_path(tmp_path, tmp_path / "c")):
        path.unlink()
    assert damaged_files(tmp_path, []) == ["c: gone"]


def test_at_a_glance_only_what_looks_otherwise_is_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path.name) or sha256(path))
    one, other = tmp_path / "data" / "one", tmp_path / "data" / "other"
    for path in (one, other, tmp_path / "elsewhere"):
        write_text(path, "as written", root=tmp_path)
    write_text(other, "written anew", root=tmp_path)
    read.clear()
    assert changed_files(tmp_path, {"data"}) == [] and read == []
    os.utime(one)  # a copy that lost its time
    assert changed_files(tmp_path, {"data"}) == [] and read == ["one"]
    assert changed_files(tmp_path, {"data"}) == [] and read == ["one"]
    one.write_text("AS written")
    (tmp_path / "elsewhere").write_text("is not asked about")
    assert changed_files(tmp_path, {"data"}) == ["data/one: its bytes are not those that were written"]
    one.unlink()
    assert changed_files(tmp_path, {"data"}) == ["data/one: gone"]
    assert changed_files(tmp_path, {"data/other"}) == []
    write_text(one, "as written", root=tmp_path)
    assert changed_files(tmp_path, {"data", "elsewhere"}) == ["elsewhere: its bytes are not those that were written"]


def test_a_folder_of_an_earlier_version_has_no_looks_and_misses_what_is_gone(tmp_path):
    for name in ("a", "b"):
        write_text(tmp_path / name, name, root=tmp_path)
    log = tmp_path / "checksums" / "written.log"
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if not line.startswith("=")))
    (tmp_path / "a").write_text("other")
    (tmp_path / "b").unlink()
    assert changed_files(tmp_path, {"a", "b"}) == ["b: gone"]
    assert damaged_files(tmp_path, []) == ["a: its bytes are not those that were written", "b: gone"]
