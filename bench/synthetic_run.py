"""A run folder of synthetic but structured documents, for `train_proof.py` without a curated dump.

Each item is a gradient, stripes or a checkerboard in codes, still or moving, with noise, and a caption that names it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from reelmill.tokenize import documents
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary

PATTERNS = ("gradient", "stripes", "checks")
TONES = ("dark", "middle", "bright")
GRIDS = ((16, 16), (16, 16), (12, 21))


def pattern(rng: np.random.Generator, name: str, tone: int, t: int, h: int, w: int, codes: int) -> np.ndarray:
    """int32 [t, h, w]: the named pattern drifting by one code a frame, a tenth of the codes replaced by noise."""
    y, x = np.mgrid[:h, :w]
    frames = []
    for time in range(t):
        moved = x + time
        value = {
            "gradient": (y + moved) // 3,
            "stripes": (moved // 2) % 2 * 7,
            "checks": ((moved // 2) + (y // 2)) % 2 * 11 + 3,
        }[name]
        frames.append(value)
    grid = (np.stack(frames) * 37 + tone * 1_200 + 5) % codes
    noise = rng.integers(0, codes, grid.shape)
    return np.where(rng.random(grid.shape) < 0.1, noise, grid).astype(np.int32)


def write_run(out: Path, items: int = 200, seed: int = 0) -> None:
    """Write `out/tokens/...` with `items` documents: half videos, some images, some texts."""
    vocab, fingerprint = Vocabulary("bytes", 4_096), hashlib.sha256(b"synthetic").hexdigest()
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(items):
        name, tone = PATTERNS[rng.integers(3)], int(rng.integers(3))
        caption = f"A {TONES[tone]} picture of {name}, item {number}."
        h, w = GRIDS[rng.integers(3)]
        if number % 10 == 9:
            tokens = documents.text_document(vocab, " ".join([caption] * 3))
        elif number % 2:
            tokens = documents.image_document(
                vocab, pattern(rng, name, tone, 1, h, w, vocab.codes)[0], caption, caption_after=number % 5 == 1
            )
        else:
            t = int(rng.integers(2, 11))
            tokens = documents.video_document(
                vocab, pattern(rng, name, tone, t, h, w, vocab.codes), caption, 8.0, documents.seconds_of(t, 8.0)
            )
        item = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:32]
        rows.append(document_row(vocab, tokens, sample_id=item, item_id=item, fingerprint=fingerprint))
    folder = out / "tokens" / fingerprint[:12]
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / "unit-000000.parquet", rows, vocab, fingerprint)


if __name__ == "__main__":
    write_run(Path(sys.argv[1]))
