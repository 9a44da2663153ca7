"""DuckDB within a bound of memory: what exceeds it is spilled into a temporary folder of the run folder.

`RunFolder.sweep` removes the folder where a run was killed.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from pathlib import Path

import duckdb

from reelmill.curation.rules import quoted

MEMORY = "768MB"
ROWS = 8192
"""Rows that are held at a time as Python's own values."""


def spill_folder(root: Path) -> Path:
    """A place for what one connection spills."""
    return root / f".spilled.{uuid.uuid4().hex[:8]}.tmp"


def bound(connection: duckdb.DuckDBPyConnection, memory: str, spilled: Path) -> None:
    """Let a connection take so much memory and one thread."""
    for name, value in (("memory_limit", memory), ("temp_directory", str(spilled)), ("threads", "1")):
        connection.execute(f"SET {name} = {quoted(value)}")


def remove_spilled(spilled: Path) -> None:
    """Remove the folder, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(spilled)
