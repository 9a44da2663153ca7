"""The options of `[duplicates]`."""

from __future__ import annotations

from dataclasses import dataclass

CANDIDATES = 0.7
"""Similarity from which on pairs are recorded: recipes decide how much is enough."""


@dataclass
class DuplicatesConfig:
    """Which copies are found beside those with the same bytes."""

    near: bool = False
    """Find pictures and clips that look the same, by the columns of scorer `phash`; of those that pass the rules the
    best stays."""
    min_similarity: float = 0.8
    """Share of two pictures that is the same, from which on they are copies."""
