"""The diagonals of a picture: which of its tokens are read together, and which tokens stand beside and above each code.

The code in row r and column c is on diagonal r + c, and is predicted from its left neighbor and from the one above it,
which are on the diagonal before (FlashAR, arXiv 2605.09430). Left of a row's first code stands what opens the row: IMG,
or the end of the row above, which is known and is read with the first code of that row. A picture of H rows of W codes
has H + W - 1 diagonals. The latent frames of a video follow each other, each opened by the end of the one before.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]


class Diagonals(NamedTuple):
    """Of n tokens from IMG on: the `groups` int64 [n], counted from 0, in which they are read.

    Of the m codes among them, places int64 [m] of: the `codes`, the token to the left of each, and the code above it,
    -1 where there is none. Both are in the group before that of the code.
    """

    groups: Ints
    codes: Ints
    left: Ints
    above: Ints


def diagonals_of(vocab: Vocabulary, ids: npt.ArrayLike) -> Diagonals:
    """The diagonals of a picture or video, int [n]: IMG and what follows, up to any token."""
    tokens = np.asarray(ids)
    openers = np.flatnonzero(~vocab.is_vision(tokens))
    groups = np.zeros(len(tokens), dtype=np.int64)
    above = np.full(len(tokens), -1, dtype=np.int64)
    base = row = last = 0
    """The group that opens the frame, the row in it, and where the row above begins."""
    for opener, stop in pairwise([*openers.tolist(), len(tokens)]):
        if tokens[opener] == vocab.eof:
            base, row = int(groups.max()), 0
        groups[opener:stop] = base + row + np.arange(stop - opener)
        if row:
            above[opener + 1 : stop] = last + np.arange(stop - opener - 1)
        row, last = row + 1, opener + 1
    codes = np.flatnonzero(vocab.is_vision(tokens))
    return Diagonals(groups, codes, codes - 1, above[codes])
