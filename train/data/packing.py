"""Which pieces of which documents share a training row, computed from lengths alone.

Predictions are packed: a document of n tokens makes n - 1 (token, next token) pairs, so that a text cut at the end of a
row loses none. The rules (Emu3, arXiv 2409.18869, section 2.4, keeps an image in one pack; the rest is ours):

- an image document stays whole;
- a video document stays whole where it fits, else it is cut between latent frames and each part repeats the header;
- text is cut anywhere, and fills the gaps that the others leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.train.data.binpacking import Ints, best_fit, bin_pack


@dataclass(frozen=True)
class Pieces:
    """Parallel arrays, one entry per piece.

    `document`: its number. `first`, `stop`: the span of it that the piece holds, in predictions for a text, in latent
    frames for a part of a video, and (0, 0) for a document taken whole. `size`: the slots that it takes.
    """

    document: Ints
    first: Ints
    stop: Ints
    size: Ints

    def __len__(self) -> int:
        return len(self.document)

    def take(self, order: npt.NDArray[np.int64] | slice) -> Pieces:
        """These pieces, in this order."""
        return Pieces(self.document[order], self.first[order], self.stop[order], self.size[order])

    @staticmethod
    def unsplit(document: Ints, size: Ints) -> Pieces:
        """One piece per document."""
        zeros = np.zeros_like(document)
        return Pieces(document, zeros, zeros, size)

    @staticmethod
    def join(parts: list[Pieces]) -> Pieces:
        """All pieces of several lists."""
        return Pieces(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("document", "first", "stop", "size"))
        )


@dataclass(frozen=True)
class Packing:
    """Rows of at most `context` slots: the pieces of row r are `pieces[row_start[r] : row_start[r + 1]]`."""

    pieces: Pieces
    row_start: Ints
    context: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.row_start) - 1

    @property
    def fill(self) -> float:
        """Share of the slots that hold a prediction."""
        return float(self.pieces.size.sum()) / max(1, self.rows * self.context)

    def row(self, number: int) -> Pieces:
        """The pieces of a row."""
        return self.pieces.take(slice(int(self.row_start[number]), int(self.row_start[number + 1])))

    @staticmethod
    def join(parts: Sequence[Packing]) -> Packing:
        """The rows of several packings of one context, in order."""
        first = np.cumsum([0, *(len(part.pieces) for part in parts)])
        starts = [part.row_start[:-1] + start for part, start in zip(parts, first, strict=False)]
        return Packing(
            Pieces.join([part.pieces for part in parts]), np.append(np.concatenate(starts), first[-1]), parts[0].context
        )


def pack(unsplit: Pieces, texts: Pieces, context: int, rng: np.random.Generator) -> Packing:
    """Pack `unsplit` pieces (each at most `context` slots), then fill the gaps with `texts`, cut anywhere.

    Best fit is enough where there is text for all gaps; else the unsplit pieces are packed as tightly as `bin_pack`
    finds. The order of rows is drawn from `rng`; which pieces meet follows from the order in which they are given.
    Every prediction of every piece is in exactly one row. Raises DataError for an unsplit piece longer than `context`.
    """
    if len(unsplit) and int(unsplit.size.max()) > context:
        raise DataError(f"a piece of {int(unsplit.size.max())} slots cannot stay whole in a context of {context}")
    row, rows = best_fit(unsplit.size, context)
    if int(texts.size.sum()) < rows * context - int(unsplit.size.sum()):
        row, rows = bin_pack(unsplit.size, context)
    used = np.bincount(row, weights=unsplit.size, minlength=rows).astype(np.int64)
    filling, filling_row = _fill(texts, context - used, context)
    pieces, row = Pieces.join([unsplit, filling]), np.concatenate((row, filling_row))
    rows = int(row.max()) + 1 if len(row) else 0
    row = rng.permutation(rows)[row]
    order = np.argsort(row, kind="stable")
    return Packing(pieces.take(order), np.searchsorted(row[order], np.arange(rows + 1)), context)


def _fill(texts: Pieces, gaps: Ints, context: int) -> tuple[Pieces, Ints]:
    """Lay the texts end to end and cut them at the ends of texts and of gaps; rows of their own follow the last gap."""
    total = int(texts.size.sum())
    extra = max(0, -(-(total - int(gaps.sum())) // context))
    text_stop = np.cumsum(texts.size)
    gap_stop = np.cumsum(np.concatenate((gaps, np.full(extra, context, dtype=np.int64))))
    cuts = np.unique(np.concatenate(([0], text_stop, np.minimum(gap_stop, total))))
    start, stop = cuts[:-1], cuts[1:]
    text = np.searchsorted(text_stop, start, side="right")
    offset = (text_stop - texts.size)[text]
    pieces = Pieces(
        texts.document[text], texts.first[text] + start - offset, texts.first[text] + stop - offset, stop - start
    )
    return pieces, np.searchsorted(gap_stop, start, side="right")
