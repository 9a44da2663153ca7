"""Triton kernels of the loss that writes no logits (`fused_loss.py`, the only module that imports this one).

A logit lives in the registers of the product that makes it: forward folds it into a running maximum and sum (Milakov
and Gimelshein, arXiv 1805.02867), backward computes it once more for its gradient (cut cross-entropy, arXiv 2411.09009,
here without leaving out small gradients).

hidden [N, D] and weight [V, D] are contiguous and of one type, targets int64 [N] count from the first row of `weight`:
any other number is a token whose target another part of the vocabulary has. Sums are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def _logits(
    hidden: tl.tensor,
    weight: tl.tensor,
    rows: tl.tensor,
    is_row: tl.tensor,
    columns: tl.tensor,
    vocab: tl.tensor,
    width: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDEN: tl.constexpr,
) -> tl.tensor:
    """float32 [ROWS, COLUMNS]: the tokens `rows` by the ids `columns`; 0 for an id that there is not."""
    found = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, width, DEPTH):
        axis = start + tl.arange(0, DEPTH)
        states = _tile(hidden, rows, is_row, axis, width, WIDEN)
        ids = _tile(weight, columns, columns < vocab, axis, width, WIDEN)
        found = tl.dot(states, tl.trans(ids), found, input_precision="ieee")
    return found


@triton.jit  # type: ignore[untyped-decorator]
def _tile(
    matrix: tl.tensor, rows: tl.tensor, is_row: tl.tensor, axis: tl.tensor, width: tl.tensor, WIDEN: tl.constexpr
) -> tl.tensor:
    """[rows, axis] of a matrix [., width], 0 outside of it; float32 with WIDEN, which the interpreter's dot needs."""
    places = rows.to(tl.int64)[:, None] * width + axis[None, :]
    tile = tl.load(matrix + places, mask=is_row[:, None] & (axis < width)[None, :], other=0.0)
    if WIDEN:
        tile = tile.to(tl.float32)
    return tile


@triton.jit  # type: ignore[untyped-decorator]
def normalizers(
    hidden: tl.tensor,
    weight: tl.tensor,
    targets: tl.tensor,
    log_z: tl.tensor,
    wanted_logits: tl.tensor,
    tokens: tl.tensor,
    vocab: tl.tensor,
    width: tl.tensor,
    tiles: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDEN: tl.constexpr,
) -> None:
    """A program reads ROWS tokens and `tiles` tiles of COLUMNS ids, the part program_id(1) of the vocabulary.

    log_z, wanted_logits float32 [parts, N]: the logarithm of the sum of the exponentials of the part's logits, and the
    logit of the target, 0 where it lies in no part.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1)
    is_row = rows < tokens
    targets_here = tl.load(targets + rows, mask=is_row, other=-1)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    wanted = tl.zeros((ROWS,), tl.float32)
    for tile in range(part * tiles, tl.minimum((part + 1) * tiles, tl.cdiv(vocab, COLUMNS))):
        columns = tile * COLUMNS + tl.arange(0, COLUMNS)
        logits = _logits(hidden, weight, rows, is_row, columns, vocab, width, ROWS, COLUMNS, DEPTH, WIDEN)
        wanted += tl.sum(tl.where(columns[None, :] == targets_here[:, None], logits, 0.0), 1)
        logits = tl.where((columns < vocab)[None, :], logits, float("-inf"))
        larger = tl.maximum(largest, tl.max(logits, 1))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(logits - larger[:, None]), 1)
        largest = larger
    tl.store(log_z + part * tokens + rows, largest + tl.log(total), mask=is_row)
    tl.store(wanted_logits + part * tokens + rows, wanted, mask=is_row)


@triton.jit  # type: ignore[untyped-decorator]
def gradients(
    hidden: tl.tensor,
    weight: tl.tensor,
    targets: tl.tensor,
    order: tl.tensor,
    log_z: tl.tensor,
    scales: tl.tensor,
    grad_hidden: tl.tensor,
    grad_weight: tl.tensor,
    z_loss: tl.tensor,
    tokens: tl.tensor,
    vocab: tl.tensor,
    width: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    WIDEN: tl.constexpr,
) -> None:
    """A program adds what ROWS tokens and COLUMNS ids give to both gradients, float32 [N, D] and [V, D].

    order int64 [N]: the tokens in the order of their blocks; those whose `scales` (float32 [N]) are 0 stand together,
    and a block of none but such is skipped. log_z float32 [N]: of the whole vocabulary.
    """
    # GROUP blocks of tokens go through the vocabulary together, so that running programs share tiles in the L2 cache.
    blocks, tiles = tl.cdiv(tokens, ROWS), tl.cdiv(vocab, COLUMNS)
    first = tl.program_id(0) // (GROUP * tiles) * GROUP
    in_group = tl.program_id(0) % (GROUP * tiles)
    size = tl.minimum(blocks - first, GROUP)
    places = (first + in_group % size) * ROWS + tl.arange(0, ROWS)
    columns = in_group // size * COLUMNS + tl.arange(0, COLUMNS)
    is_row = places < tokens
    rows = tl.load(order + places, mask=is_row, other=0)
    scale = tl.load(scales + rows, mask=is_row, other=0.0)
    if tl.sum((scale != 0).to(tl.int32), 0) == 0:
        return
    normalizer = tl.load(log_z + rows, mask=is_row, other=0.0)
    targets_here = tl.load(targets + rows, mask=is_row, other=-1)
    logits = _logits(hidden, weight, rows, is_row, columns, vocab, width, ROWS, COLUMNS, DEPTH, WIDEN)
    # d total / d logits = weight * ((1 + 2 z log_z) softmax - onehot)
    probabilities = tl.exp(logits - normalizer[:, None])
    by_logit = (1 + 2 * z_loss * normalizer)[:, None] * probabilities
    by_logit = scale[:, None] * (by_logit - (columns[None, :] == targets_here[:, None]).to(tl.float32))
    by_logit = tl.where((columns < vocab)[None, :], by_logit, 0.0)
    narrow = by_logit.to(tl.float32 if WIDEN else hidden.dtype.element_ty)
    for start in range(0, width, DEPTH):
        axis = start + tl.arange(0, DEPTH)
        is_axis = (axis < width)[None, :]
        ids = _tile(weight, columns, columns < vocab, axis, width, WIDEN)
        to_hidden = grad_hidden + rows.to(tl.int64)[:, None] * width + axis[None, :]
        added = tl.dot(narrow, ids, input_precision="ieee")
        tl.atomic_add(to_hidden, added, mask=is_row[:, None] & is_axis, sem="relaxed")
        states = _tile(hidden, rows, is_row, axis, width, WIDEN)
        to_weight = grad_weight + columns.to(tl.int64)[:, None] * width + axis[None, :]
        added = tl.dot(tl.trans(narrow), states, input_precision="ieee")
        tl.atomic_add(to_weight, added, mask=(columns < vocab)[:, None] & is_axis, sem="relaxed")
