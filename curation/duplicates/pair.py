"""A pair of copies, as it is found and as the ledger holds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """Two samples that are copies, and how: `pdq` (pictures), `pdq_frames` (clips), `minhash` (texts) or `sha256`."""

    sample_id: str
    other_id: str
    similarity: float
    method: str
