"""Files that become visible whole or not at all, and the checksums beside them.

A file is written under a temporary name in its own folder, flushed to disk, checked, and renamed. Its SHA-256 goes to
`checksums/` in the run folder first, so that a visible file always has one. While a file takes the place of another,
the record holds the hashes of both: killed between the two steps, either file is the one that was written.
`checksums/written.log` (`written_log.py`) says which files came and went and how they looked, so that one that is gone
with its record is missed, and one that looks otherwise is found without being read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from reelmill.os_errors import os_failure
from reelmill.written_log import CHECKSUMS, WRITTEN_LOG, Look, note_removed, note_written, read_written

ABANDONED_S = 3600.0
"""A temporary file that nobody has written to for so long belongs to a writer that was killed."""

_UMASK = os.umask(0)
os.umask(_UMASK)  # it can only be read by setting it


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], None], *, root: Path | None = None) -> None:
    """Call `write(temporary path)`, then make the file appear at `path` at once, durable.

    With `root` (a run folder) the file's SHA-256 is stored under `root/checksums/`. Raises MachineError when the disk
    is full or refuses, DataError where no file can be; nothing is visible then and the temporary file is gone.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with contextlib.suppress(PermissionError):  # file systems without permissions
            temporary.chmod(0o666 & ~_UMASK)  # safetensors makes files that only their owner may read
        sync(temporary)
        if root is not None:
            digest = sha256(temporary)
            before = recorded_hashes(root, path) if path.is_file() else []
            _write_checksum(root, path, [digest, *(known for known in before if known != digest)])
        is_new, look = not path.is_file(), Look.of(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
        if root is not None and before:
            _write_checksum(root, path, [digest])
        if root is not None:
            note_written(root, path, look, is_new=is_new)
    except OSError as error:
        then = ", then run the same command again: what is finished is kept and nothing half-written is visible."
        raise os_failure(error, f"cannot write {path}", then) from error
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone or read-only, which was said already
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, root: Path | None = None) -> None:
    """Write a small UTF-8 text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write, root=root)


def sweep(folder: Path, unchanged_s: float = 0.0) -> int:
    """Remove temporary files that killed writers left below `folder`; returns how many.

    Where others may be writing, `unchanged_s` spares files that were written to so recently.
    """
    left = [path for path in folder.rglob(".*.tmp") if _is_left(path, unchanged_s)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def _is_left(path: Path, unchanged_s: float) -> bool:
    try:
        return path.is_file() and time.time() - path.stat().st_mtime >= unchanged_s
    except FileNotFoundError:  # its writer has just renamed it
        return False


def checksum_path(root: Path, path: Path) -> Path:
    """Where the SHA-256 of `path` (inside the run folder `root`) is kept."""
    return root / CHECKSUMS / f"{path.relative_to(root)}.sha256"


def recorded_hashes(root: Path, path: Path) -> list[str]:
    """The SHA-256 that `path` may have by its record: one, two where its writer was killed, none without a record."""
    record = checksum_path(root, path)
    if not record.is_file():
        return []
    return [line.partition(" ")[0] for line in record.read_text(encoding="utf-8", errors="replace").splitlines()]


def remove(root: Path, path: Path) -> None:
    """Take a file with a checksum away, so that nobody misses it."""
    note_removed(root, path)
    checksum_path(root, path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def damaged_files(root: Path, wanted: Collection[Path], checked_by_line: Collection[Path] = ()) -> list[str]:
    """What is wrong with the files under `root` that have a SHA-256, with those of `wanted` that have none, and with
    those that were written and are gone. Of files `checked_by_line`, which have no SHA-256, only that."""
    checksums = root / CHECKSUMS
    records = {root / record.relative_to(checksums).with_suffix("") for record in checksums.rglob("*.sha256")}
    written = read_written(root)
    problems = [f"{CHECKSUMS}/{WRITTEN_LOG}: its lines are not those that were written"] if written.is_damaged else []
    for path in sorted(records.union(wanted, map(root.joinpath, written.files))):
        name = path.relative_to(root)
        if not path.is_file():
            problems.append(f"{name}: gone")
        elif path in checked_by_line:
            continue
        elif path not in records:
            problems.append(f"{name}: no checksum")
        elif not _is_whole(root, path):
            problems.append(f"{CHECKSUMS}/{name}.sha256: it is no list of SHA-256 and names")
        elif sha256(path) not in recorded_hashes(root, path):
            problems.append(f"{name}: its bytes are not those that were written")
    return problems


def changed_files(root: Path, within: Collection[str]) -> list[str]:
    """What is wrong, at a glance, with the files under `root` that are `within` these names or folders: those that are
    gone, and those of another size, or of another time and other bytes, than when they were written.

    Only a file that looks otherwise is read; where it is sound after all (a copy that lost its time), how it looks now
    is noted. One that an earlier version wrote is only missed when it is gone.
    """
    problems = _changed(root, within)
    return _changed(root, within) if problems else []  # a file may have been replaced between two looks


def _changed(root: Path, within: Collection[str]) -> list[str]:
    folders = tuple(f"{name}/" for name in within)
    problems = []
    sound: dict[Path, Look] = {}
    for name, look in sorted(read_written(root).files.items()):
        if not (name in within or name.startswith(folders)):
            continue
        path = root / name
        try:
            now = Look.of(path)
        except FileNotFoundError:
            problems.append(f"{name}: gone")
            continue
        if look is None or now == look:
            continue
        if sha256(path) in recorded_hashes(root, path):
            sound[path] = now
        else:
            problems.append(f"{name}: its bytes are not those that were written")
    with contextlib.suppress(OSError):  # in a folder that may only be read they are hashed each time
        for path, now in sound.items():
            note_written(root, path, now, is_new=False)
    return problems


def _write_checksum(root: Path, path: Path, digests: Sequence[str]) -> None:
    target = checksum_path(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_text(_record(root, path, digests), encoding="utf-8")
        sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _record(root: Path, path: Path, digests: Sequence[str]) -> str:
    """What stands in the file of a file's SHA-256, as `sha256sum` has it."""
    return "".join(f"{digest}  {path.relative_to(root)}\n" for digest in digests)


def _is_whole(root: Path, path: Path) -> bool:
    record = checksum_path(root, path).read_text(encoding="utf-8", errors="replace")
    return record == _record(root, path, recorded_hashes(root, path))


def _sync_folder(path: Path) -> None:
    """Make a rename durable, on file systems that can."""
    try:
        sync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES):
            raise


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
