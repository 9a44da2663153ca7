"""Lists of texts that must not be trained on: what models are evaluated with, a benchmark a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import ConfigError

ENDINGS = (".txt", ".jsonl", ".parquet")


def digest(path: Path) -> str:
    """SHA-256 of a list. ConfigError where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def entries(path: Path, columns: Sequence[str]) -> Iterator[str]:
    """The texts of a list. ConfigError for a file of another ending, or one that cannot be read or holds none."""
    read = {".txt": _lines, ".jsonl": _objects, ".parquet": _rows}.get(path.suffix.lower())
    if read is None:
        raise ConfigError(f"{path} is no list of texts; its name must end in {', '.join(ENDINGS)}")
    count = 0
    try:
        for text in read(path, columns):
            count += 1
            yield text
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not count:
        raise ConfigError(f"{path} holds no texts")


def _lines(path: Path, columns: Sequence[str]) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        yield from (line for line in lines if line.strip())


def _objects(path: Path, columns: Sequence[str]) -> Iterator[str]:
    for line in _lines(path, columns):
        entry: Any = json.loads(line)
        yield entry if isinstance(entry, str) else _of_columns(entry, columns)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[str]:
    with pq.ParquetFile(path) as file:
        name = next((name for name in columns if name in file.schema_arrow.names), None)
        if name is None:
            raise ValueError(f"none of its columns is one of {', '.join(columns)}")
        for batch in file.iter_batches(columns=[name]):
            yield from (text for text in batch[name].to_pylist() if isinstance(text, str))


def _of_columns(entry: Any, columns: Sequence[str]) -> str:
    values = [entry.get(name) for name in columns] if isinstance(entry, dict) else []
    found = next((value for value in values if isinstance(value, str)), None)
    if found is None:
        raise ValueError(f"a line is neither a text nor an object with one of {', '.join(columns)}")
    return found
