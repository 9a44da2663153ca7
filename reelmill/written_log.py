"""`checksums/written.log`: which files came to a folder and went, and what they looked like when they were written.

A line is `+ NAME CRC` when a file comes, `- NAME CRC` when it is taken away, and `= SIZE MTIME_NS NAME CRC` whenever it
is written. The CRC-32 is of what stands before it. Writers append whole lines, so several may write at once.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

CHECKSUMS = "checksums"
"""The folder of the log and of every file's SHA-256."""
WRITTEN_LOG = "written.log"


@dataclass(frozen=True)
class Look:
    """What a file's entry in its folder says of it: bytes, and when they changed in nanoseconds."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Look:
        """As the file looks now. Raises OSError where there is none."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Written:
    """What the log says: the files that are there, by their names under the folder, with their looks where these were
    noted; and whether it is damaged.

    No files by a log of an earlier version, no looks by one of a later.
    """

    files: dict[str, Look | None]
    is_damaged: bool


def note_written(root: Path, path: Path, look: Look | None = None, *, is_new: bool = True) -> None:
    """Note that a file has come, or is written anew, so that it is missed when it is gone or looks otherwise."""
    name = path.relative_to(root)
    entries = [f"+ {name}"] if is_new else []
    _append(root, [*entries, *([f"= {look.size} {look.mtime_ns} {name}"] if look else [])])


def note_removed(root: Path, path: Path) -> None:
    """Note that a file is taken away, so that nobody misses it."""
    _append(root, [f"- {path.relative_to(root)}"])


def read_written(root: Path) -> Written:
    """The files that were written under `root` and not taken away since."""
    log = root / CHECKSUMS / WRITTEN_LOG
    files: dict[str, Look | None] = {}
    is_damaged = False
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    for line, after in zip_longest(lines, lines[1:]):
        if entry := _entry(line):
            sign, _, name = entry.partition(" ")
            if sign == "+":
                files[name] = None
            elif sign == "-":
                files.pop(name, None)
            elif sign == "=":
                size, mtime_ns, name = name.split(" ", 2)
                files[name] = Look(int(size), int(mtime_ns))
        elif line:
            # A line that was cut off when its writer was killed has no empty one behind it.
            is_damaged = is_damaged or after == "" or bool(_entry(line[:-1]))
    return Written(files, is_damaged)


def _append(root: Path, entries: list[str]) -> None:
    """Lines on their own, each with a check, since writers may be killed."""
    log = root / CHECKSUMS / WRITTEN_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.write("".join(f"\n{entry} {_check(entry)}\n" for entry in entries))
        stream.flush()
        os.fsync(stream.fileno())


def _entry(line: str) -> str:
    """What a line of the log says; nothing where it is not whole."""
    entry, _, check = line.rpartition(" ")
    return entry if check and check == _check(entry) else ""


def _check(entry: str) -> str:
    return f"{zlib.crc32(entry.encode()):08x}"
