"""Lists of hashes of what must not be trained on: for evaluation sets whose files may not be passed on."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from reelmill.curation.duplicates.pdq import BYTES, Hashes
from reelmill.errors import ConfigError

SHA256, PDQ = ".sha256", ".pdq"
BITS = 31
"""Bits in which a listed hash differs from a sample's, at most: PDQ's published bound for a match, as there is no
picture to verify it by."""
_LINE = re.compile(r"([0-9a-f]{64})(?:[\s,;].*)?", re.IGNORECASE)


def is_hash_list(path: Path) -> bool:
    """Whether a path is meant as a list of hashes."""
    return path.suffix.lower() in (SHA256, PDQ) and not path.is_dir()


def digest(path: Path) -> str:
    """SHA-256 of a list. ConfigError where it cannot be read."""
    return hashlib.sha256(_data(path)).hexdigest()


def listed(path: Path) -> list[str]:
    """The hashes, 64 hex digits each, that begin its lines, as `sha256sum` writes them; lines that are empty or begin
    with # are skipped. ConfigError for a line that has none, or a list without any."""
    found = []
    for number, line in enumerate(_data(path).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigError(f"{path}, line {number}: {line[:80]!r} does not begin with a hash of 64 hex digits")
        found.append(match[1].lower())
    if not found:
        raise ConfigError(f"{path} holds no hashes")
    return found


def hashes(path: Path) -> Hashes:
    """The hashes [N, 32] of a list of PDQ's."""
    return np.frombuffer(bytes.fromhex("".join(listed(path))), np.uint8).reshape(-1, BYTES)


def _data(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
