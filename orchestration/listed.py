"""What was listed already: a dump in which no file has changed since is not listed again.

`OUT/.listed.json` has, for each dump and what was asked of it, a hash of its files' names, sizes and times. It is a
note that may be lost: the dump is listed anew then.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import reelmill
from reelmill.files import write_text
from reelmill.orchestration.runfolder import RunFolder

FILE = ".listed.json"


@dataclass(frozen=True)
class Asked:
    """Which items of a dump are wanted, and how it is read."""

    dump: Path
    readers: tuple[str, ...]
    columns: Mapping[str, str]
    prefix: str
    limit: int | None
    share: float
    kinds: frozenset[str]
    with_addresses: bool
    opt_outs: bool

    def key(self) -> str:
        """What the items depend on beside the dump's files."""
        options = (self.prefix, self.limit, self.share, sorted(self.kinds), self.with_addresses, self.opt_outs)
        known = [str(self.dump.resolve()), *options, sorted(self.columns.items()), reelmill.__version__]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]

    def look(self) -> str:
        """A hash of the names, sizes and times of the dump's files, without a look into them."""
        digest = hashlib.sha256()
        for path in _files(self.dump.resolve()):
            found = path.stat() if path.exists() else path.lstat()
            digest.update(
                f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ino}\n".encode("utf-8", "surrogateescape")
            )
        return digest.hexdigest()


@dataclass(frozen=True)
class Listed:
    """What a listing found: how many items, and what it passed over."""

    items: int
    ignored: Mapping[str, int]


def unchanged(folder: RunFolder, asked: Asked) -> Listed | None:
    """What was found when the dump was listed last, where its files and the question are the same; else None.

    Readers of one's own are always asked: what they find may depend on their code.
    """
    known = _read(folder).get(asked.key())
    if known is None or asked.readers or known["plan"] > planned_rows(folder) or known["look"] != asked.look():
        return None
    return Listed(known["items"], known["ignored"])


def note(folder: RunFolder, asked: Asked, look: str, listed: Listed) -> None:
    """Keep what was found, together with the look of the dump before it was listed."""
    row = {"look": look, "items": listed.items, "ignored": dict(listed.ignored), "plan": planned_rows(folder)}
    write_text(folder.root / FILE, json.dumps({**_read(folder), asked.key(): row}))


def _files(root: Path) -> Iterator[Path]:
    """The files below a folder, in the order of their names; those that may belong to one file: of its stem."""
    if not root.is_dir():
        stem = root.name.partition(".")[0]
        yield from sorted(path for path in root.parent.glob("*") if path.name.startswith(stem) and path.is_file())
        return
    for folder, below, files in os.walk(root):
        below.sort()
        yield from (Path(folder, name) for name in sorted([*files, *below]))


def planned_rows(folder: RunFolder) -> int:
    """Rows of the plan, which only grows: with fewer it is an older one."""
    return pq.read_metadata(folder.plan_path).num_rows if folder.plan_path.is_file() else 0


def _read(folder: RunFolder) -> dict[str, Any]:
    path = folder.root / FILE
    try:
        known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError:  # cut off: it is only a note
        return {}
    return known
