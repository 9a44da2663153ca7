"""Rows of pieces as arrays for a forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.documents import TokenKind, token_kinds
from reelmill.tokenize.vocabulary import Vocabulary

_PADDING = 256
"""Padding is split into documents of at most this many tokens: attention costs the square of a document's length."""
_COLUMNS = 256
"""The columns of a shortened batch are a multiple of this, so that context and tensor ranks can share them."""


@dataclass(frozen=True)
class Batch:
    """Rows for one forward pass, of `columns` tokens each: the context, or fewer where rows are not full.

    tokens, targets, positions: int32 [rows, columns]; weights: float32, each target's loss weight; kinds: int8, its
    TokenKind, -1 where there is no prediction or, of a conversation, no answer; lengths: of the documents as they
    follow each other, flattened; documents: the number of each of them (`Corpus.name`), -1 where there is none.
    """

    tokens: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int8]
    lengths: list[int]
    documents: list[int]


class Contents(NamedTuple):
    """The contents of a piece.

    tokens: int32 [predictions + 1]. What does not count in the loss: the first `repeated` tokens, and the text where
    `text_counts` is false. `answers`: start and stop of each answer in `tokens` (they may lie outside), [2 x answers]:
    then nothing else counts, and each answer is followed by EOS in the targets, also where the conversation goes on.
    """

    document: int
    tokens: npt.NDArray[np.int32]
    repeated: int = 0
    text_counts: bool = True
    answers: npt.NDArray[np.int32] | None = None


def assemble(
    vocab: Vocabulary,
    rows: Sequence[Iterable[Contents]],
    context: int,
    weights: npt.NDArray[np.float32],
    ends_weight: float | None = None,
) -> Batch:
    """The batch of these rows; one without contents has no predictions.

    It has the columns of the context, or half, a quarter, ... where they hold the fullest row: a few widths, so that
    what is compiled for one serves again.

    `weights`: float32 [3], of TEXT, STRUCTURE and VISION; `ends_weight`: of EOL, EOF and EOI where they weigh something
    else than other structure.
    """
    rows = [list(contents) for contents in rows]
    columns = _columns(context, max((sum(len(piece.tokens) - 1 for piece in row) for row in rows), default=0))
    shape = (len(rows), columns)
    counting, padding = np.arange(columns, dtype=np.int32), np.full(columns, vocab.pad, dtype=np.int32)
    nowhere = np.zeros(columns, dtype=np.int32)
    inputs: list[npt.NDArray[np.int32]] = []
    wanted: list[npt.NDArray[np.int32]] = []
    places: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    documents: list[int] = []
    filled: list[int] = []
    uncounted: list[tuple[int, int, int, Contents]] = []
    for r, contents in enumerate(rows):
        at = 0
        for piece in contents:
            length = len(piece.tokens) - 1
            inputs.append(piece.tokens[:-1])
            wanted.append(piece.tokens[1:])
            places.append(counting[:length])
            lengths.append(length)
            documents.append(piece.document)
            if piece.repeated or not piece.text_counts or piece.answers is not None:
                uncounted.append((r, at, at + length, piece))
            at += length
        filled.append(at)
        for begin in range(at, columns, _PADDING):
            empty = min(_PADDING, columns - begin)
            inputs.append(padding[:empty])
            wanted.append(padding[:empty])
            places.append(nowhere[:empty])
            lengths.append(empty)
            documents.append(-1)
    tokens, targets, positions = (
        np.concatenate(parts, dtype=np.int32).reshape(shape) for parts in (inputs, wanted, places)
    )
    kinds, weight = _kinds_and_weights(vocab, targets, weights, ends_weight)
    for r, stop in enumerate(filled):
        kinds[r, stop:] = -1
        weight[r, stop:] = 0
    for r, start, stop, piece in uncounted:
        weight[r, start : start + max(0, piece.repeated - 1)] = 0
        if not piece.text_counts:
            weight[r, start:stop][kinds[r, start:stop] == TokenKind.TEXT] = 0
        if piece.answers is not None:
            is_answer, ends = _answered(piece.answers, stop - start)
            weight[r, start:stop][~is_answer] = 0
            kinds[r, start:stop][~is_answer] = -1
            targets[r, start:stop][ends] = vocab.eos
            kinds[r, start:stop][ends] = TokenKind.STRUCTURE
            weight[r, start:stop][ends] = weights[TokenKind.STRUCTURE]
    return Batch(tokens, targets, positions, weight, kinds, lengths, documents)


def _columns(context: int, fullest: int) -> int:
    """The context, halved as long as the fullest row still fits."""
    columns = context
    while columns % (2 * _COLUMNS) == 0 and columns // 2 >= fullest:
        columns //= 2
    return columns


def _kinds_and_weights(
    vocab: Vocabulary, targets: npt.NDArray[np.int32], weights: npt.NDArray[np.float32], ends_weight: float | None
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """int8 and float32, shaped like `targets`: the kind of each target, and its loss weight."""
    kinds = token_kinds(vocab, targets.reshape(-1), meta=TokenKind.STRUCTURE)
    # Structure is rare, so this is faster than looking up the weight of each token.
    # NumPy takes three times as long to compare with an IntEnum as with its value.
    weight = np.where(kinds == TokenKind.VISION.value, weights[TokenKind.VISION], weights[TokenKind.TEXT])
    structure = np.flatnonzero(kinds == TokenKind.STRUCTURE.value)
    weight[structure] = weights[TokenKind.STRUCTURE]
    if ends_weight is not None:
        ids = targets.reshape(-1)[structure]
        weight[structure[(ids == vocab.eol) | (ids == vocab.eof) | (ids == vocab.eoi)]] = ends_weight
    return kinds.view(np.int8).reshape(targets.shape), weight.reshape(targets.shape)


def _answered(answers: npt.NDArray[np.int32], predictions: int) -> tuple[npt.NDArray[np.bool_], list[int]]:
    """bool [predictions] of a piece, twice: which belong to answers, and which come right after one."""
    is_answer = np.zeros(predictions, dtype=np.bool_)
    ends = []
    for start, stop in (answers - 1).reshape(-1, 2).tolist():  # token n + 1 is the target of prediction n
        is_answer[max(0, start) : max(0, stop)] = True
        if 0 <= stop < predictions:
            ends.append(stop)
    return is_answer, ends


def with_shuffled_codes(vocab: Vocabulary, contents: Contents, seed: int) -> Contents:
    """The same contents with the codes shuffled by the seed and the contents, to validate that order is learned."""
    ids = contents.tokens.copy()
    codes = np.flatnonzero(vocab.is_vision(ids))
    ids[codes] = np.random.default_rng([seed, len(ids), int(ids.sum())]).permutation(ids[codes])
    return contents._replace(tokens=ids)
