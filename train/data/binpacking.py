"""Bin packing of integers into rows of equal capacity: a fast heuristic, a slower one that evens out, and a bound."""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heapreplace

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

WORTH_EVENING = 1.004
"""Rows over the bound from which `bin_pack` tries to do better than best fit."""
_SLACK = (0.004, 0.001, 0.0003)  # shares of rows over the bound that evening out is tried with
_DEEPEST = 48  # slots of a row that one exchange looks at: what it costs grows with the square
_PATIENCE = 200  # rounds of exchanges without progress before it gives up, fewer where many rows take part
_DUAL_FUNCTIONS = 64


def bin_pack(sizes: Ints, context: int) -> tuple[Ints, int]:
    """The row of each piece (1 to `context` slots), and the number of rows.

    Best fit decreasing is hard to beat where small pieces are left for the end. Where it leaves more rows than
    `WORTH_EVENING` times the bound (pieces of similar sizes), the loads are evened out over fewer rows.
    """
    row, rows = best_fit(sizes, context)
    bound = fewest_rows(sizes, context)
    if rows > bound * WORTH_EVENING:
        rng = np.random.default_rng(0)  # which rows are tried together is not up to the caller
        for slack in _SLACK:
            fewer = int(np.ceil(bound * (1 + slack)))
            evened = even_out(sizes, fewer, context, rng) if fewer < rows else None
            if evened is not None:
                row, rows = evened, fewer
            elif fewer < rows:
                break
    return row, rows


def fewest_rows(sizes: Ints, context: int) -> int:
    """A lower bound on the number of rows.

    The best of: the sum over the context; the dual feasible functions u(k) of Fekete and Schepers (2001, "New classes
    of fast lower bounds for bin packing problems"), of which u(1) counts the pieces longer than half a row.
    """
    values, counts = np.unique(sizes, return_counts=True)
    bound = -(-int((values * counts).sum()) // context)
    for k in range(1, _DUAL_FUNCTIONS + 1):
        scaled = values * (k + 1)
        # u(k) of size / context, in units of 1 / (k x context) of a row so that it stays whole.
        units = np.where(scaled % context == 0, values * k, scaled // context * context)
        bound = max(bound, -(-int((units * counts).sum()) // (k * context)))
    return bound


def best_fit(sizes: Ints, context: int) -> tuple[Ints, int]:
    """Row of each piece and the number of rows: longest first, each into the fullest row that still has room.

    Pieces of one size are placed together: of the rows with the least sufficient space each takes as many as fit.
    """
    order = np.argsort(-sizes, kind="stable")
    values, counts = np.unique(-sizes, return_counts=True)
    rows_with: dict[int, list[int]] = {}  # free slots -> rows, the one to take next at the end
    spaces: list[int] = []  # the keys of rows_with, rising
    placed: list[int] = []  # rows, in `order`
    count = 0
    for size, pieces in zip((-values).tolist(), counts.tolist(), strict=True):
        left = pieces
        while left:
            at = bisect_left(spaces, size)
            space = spaces[at] if at < len(spaces) else context
            each = space // size
            wanted = -(-left // each)
            if at == len(spaces):
                taken = list(range(count, count + wanted))
                count += wanted
            else:
                rows = rows_with[space]
                taken = rows[: -wanted - 1 : -1]
                del rows[-wanted:]
                if not rows:
                    del rows_with[space], spaces[at]
            now = min(left, each * len(taken))
            placed += (taken if each == 1 else [row for row in taken for _ in range(each)])[:now]
            left -= now
            spare = each * len(taken) - now  # how many fewer the last row took
            if spare:
                _put(taken[-1:], space - (each - spare) * size, rows_with, spaces)
                taken.pop()
            _put(taken, space - each * size, rows_with, spaces)
    row = np.empty(len(sizes), dtype=np.int64)
    row[order] = placed
    return row, count


def _put(rows: list[int], space: int, rows_with: dict[int, list[int]], spaces: list[int]) -> None:
    """Record that these rows have `space` free slots."""
    if rows and space:
        if space not in rows_with:
            rows_with[space] = []
            insort(spaces, space)
        rows_with[space] += rows


def even_out(sizes: Ints, rows: int, context: int, rng: np.random.Generator) -> Ints | None:
    """The row of each piece such that none of `rows` rows holds more than `context`; None if no packing was found.

    Each piece, longest first, goes to the emptiest row; then rows with too much exchange a piece (or nothing) with rows
    that have room, all at once. For each two rows, the exchange is the one that brings their loads closest together.
    """
    held = _dealt(sizes, rows)
    size = np.append(sizes, 0)
    load = size[held].sum(axis=1)
    least, waited, tried = np.inf, 0, 0
    while waited < _PATIENCE and tried <= rows:
        over = np.flatnonzero(load > context)
        if not len(over):
            row = np.empty(len(sizes) + 1, dtype=np.int64)
            row[held] = np.arange(rows)[:, None]
            return row[:-1]
        excess = float((load[over] - context).sum())
        waited, tried = (0, 0) if excess < least else (waited + 1, tried + len(over))
        least = min(least, excess)
        over, under = _partners(load, over, context, rng)
        _exchange(held, load, size, over, under, rng)
    return None


def _dealt(sizes: Ints, rows: int) -> Ints:
    """int64 [rows, slots]: the pieces of each row, longest first into the emptiest; -1 for an empty slot."""
    loads = [(0, row) for row in range(rows)]
    held: list[list[int]] = [[] for _ in range(rows)]
    for piece in np.argsort(-sizes, kind="stable").tolist():
        load, row = loads[0]
        held[row].append(piece)
        heapreplace(loads, (load + int(sizes[piece]), row))
    deep = max(map(len, held)) + 1
    return np.array([row + [-1] * (deep - len(row)) for row in held], dtype=np.int64)


def _partners(load: Ints, over: Ints, context: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Overfull rows, fullest first, and as many rows with room, emptiest first."""
    under = rng.permutation(np.flatnonzero(load < context))
    over = rng.permutation(over)[: len(under)]
    under = under[: 2 * len(over)]
    return over[np.argsort(-load[over])], under[np.argsort(load[under])][: len(over)]


def _exchange(held: Ints, load: Ints, size: Ints, over: Ints, under: Ints, rng: np.random.Generator) -> None:
    """Exchange one piece between over[i] and under[i], where that brings their loads closer together; in place."""
    at_over, at_under = (_slots(len(over), held.shape[1], rng) for _ in range(2))
    each = np.arange(len(over))
    theirs = size[held[over[:, None], at_over]].astype(np.int32)
    ours = size[held[under[:, None], at_under]].astype(np.int32)
    gap = (load[over] - load[under]).astype(np.int32)
    left = np.abs(gap[:, None, None] - 2 * (theirs[:, :, None] - ours[:, None, :])).reshape(len(over), -1)
    best = left.argmin(axis=1)
    helps = left[each, best] < gap
    i = at_over[each, best // ours.shape[1]][helps]
    j = at_under[each, best % ours.shape[1]][helps]
    over, under = over[helps], under[helps]
    moved = size[held[over, i]] - size[held[under, j]]
    held[over, i], held[under, j] = held[under, j], held[over, i]
    load[over] -= moved
    load[under] += moved


def _slots(rows: int, deep: int, rng: np.random.Generator) -> Ints:
    """int64 [rows, at most `_DEEPEST`]: the slots of each row to look at, all where they are few."""
    if deep <= _DEEPEST:
        return np.broadcast_to(np.arange(deep), (rows, deep))
    return rng.integers(0, deep, (rows, _DEEPEST))
