"""Draws by a hash: a share of things that is the same on every machine, in every order and on every run."""

from __future__ import annotations

import hashlib

_DIGITS = 13  # 52 bits: what a float holds exactly


def uniform(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    return uniform_of(hashlib.sha256(key.encode()).hexdigest())


def uniform_of(digest: str) -> float:
    """A number in [0, 1) from the hexadecimal digest of a hash."""
    return int(digest[:_DIGITS], 16) / (1 << 4 * _DIGITS)
