"""The options of `[duplicates]`."""

from __future__ import annotations

from dataclasses import dataclass, field

CANDIDATES = 0.7
"""Similarity from which on pairs are recorded: recipes decide how much is enough."""

SEMANTIC_CANDIDATES = 0.9
"""Likewise of embeddings."""


@dataclass
class DuplicatesConfig:
    """Which copies are found beside those with the same bytes."""

    near: bool = False
    """Find pictures and clips that look the same, by the columns of scorer `phash`, and texts that say the same, by
    that of scorer `minhash`; of those that pass the rules the best stays."""
    against: list[str] = field(default_factory=list)
    """Other run folders: copies of what they keep are rejected."""
    exclude: list[str] = field(default_factory=list)
    """Run folders of what must not be trained on, such as evaluation sets, and lists of its hashes (`.sha256`, `.pdq`):
    copies of anything in them are rejected."""
    min_similarity: float = 0.85
    """Share of two pictures, or of the frames of two clips, that is the same, from which on they are copies."""
    semantic: bool = False
    """Find pictures and clips that show the same by the embeddings of scorer `embedding`; likewise the best stays."""
    min_semantic_similarity: float = 0.95
    """Cosine of two embeddings from which on they show the same; what is enough depends on the model and the dump."""
    min_text_similarity: float = 0.7
    """Share of what two texts say that is the same (Jaccard similarity of five words in a row), likewise."""
