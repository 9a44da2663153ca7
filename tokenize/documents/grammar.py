"""What may follow what in a document: one state machine for verifying, reading and constrained decoding.

    document = BOS (text | block)* EOS PAD*
    block    = BOI meta IMG ((code^W EOL)^H EOF)^T EOI

Every image and video of Emu3 is such a document (paper, section 2.4; EOL after every row, EOF after every frame); the
meta text fixes H, W and T (`header.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.tokenize.documents.header import Header, is_header_prefix, read_header
from reelmill.tokenize.vocabulary import Vocabulary

Ranges = tuple[tuple[int, int], ...]


class DocumentError(DataError):
    """A token stands where it may not. `position` is its index, `found` its name, `allowed` what may stand there."""

    def __init__(self, position: int, found: str, allowed: str) -> None:
        super().__init__(f"ill-formed document: found {found} at position {position}; allowed there: {allowed}")
        self.position = position
        self.found = found
        self.allowed = allowed


class Phase(IntEnum):
    """Where in a document the next token stands."""

    START = 0  # before BOS
    TEXT = 1  # text, the beginning of a block, or the end
    HEADER = 2  # between BOI and IMG
    BODY = 3  # between IMG and EOI
    CLOSED = 4  # after the only block, with `one_block`
    DONE = 5  # after EOS
    PADDED = 6  # after PAD


class State(NamedTuple):
    """A point between two tokens. `offset` counts the body's tokens so far; `h`, `w`, `t` are the block's grid."""

    phase: Phase
    position: int
    header: str = ""
    t: int = 0
    h: int = 0
    w: int = 0
    offset: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the tokens so far are a whole document."""
        return self.phase == Phase.DONE


class Grammar:
    """The state machine of a vocabulary's documents.

    With `one_block`, EOI is followed by EOS only: generation of one image or video, which is Emu3's rule
    (`prefix_allowed_tokens_fn` of its released inference). Header tokens are those that the text tokenizer writes, so
    "qwen" needs the weights `qwen-bpe`.
    """

    def __init__(self, vocab: Vocabulary, *, one_block: bool = False) -> None:
        self.vocab = vocab
        self.one_block = one_block
        tokenizer = vocab.tokenizer
        samples = (*"0123456789*. s", "fps")
        self._pieces = {piece: tokenizer.decode([piece]) for sample in samples for piece in tokenizer.encode(sample)}
        self._codes = ((vocab.vision_start, vocab.vision_stop),)
        self._bos, self._eol, self._eof, self._eoi, self._eos, self._pad = (
            ((token, token + 1),) for token in (vocab.bos, vocab.eol, vocab.eof, vocab.eoi, vocab.eos, vocab.pad)
        )
        self._text = _as_ranges([*range(vocab.text_size), vocab.boi, vocab.eos])

    def start(self) -> State:
        """The state before the first token."""
        return State(Phase.START, 0)

    def allowed(self, state: State) -> Ranges:
        """The ids that may come next, as (start, stop) ranges in rising order."""
        phase = state.phase
        if phase == Phase.BODY:
            return self._allowed_in_body(state)
        if phase == Phase.TEXT:
            return self._text
        if phase == Phase.HEADER:
            candidates = (*self._pieces, self.vocab.img)
            return _as_ranges([token for token in candidates if self._may_follow(state.header, token)])
        if phase == Phase.START:
            return self._bos
        return self._eos if phase == Phase.CLOSED else self._pad

    def mask(self, state: State) -> npt.NDArray[np.bool_]:
        """bool [vocabulary size]: which ids may come next."""
        mask = np.zeros(self.vocab.size, dtype=np.bool_)
        for start, stop in self.allowed(state):
            mask[start:stop] = True
        return mask

    def advance(self, state: State, token: int) -> State:
        """The state after `token`; DocumentError where it may not stand."""
        token = int(token)
        if state.phase == Phase.HEADER:
            is_allowed = self._may_follow(state.header, token)
        else:
            is_allowed = any(start <= token < stop for start, stop in self.allowed(state))
        if not is_allowed:
            raise self.refusal(state, token)
        position = state.position + 1
        if state.phase == Phase.BODY and token != self.vocab.eoi:
            return State(Phase.BODY, position, state.header, state.t, state.h, state.w, state.offset + 1)
        if state.phase == Phase.HEADER:
            if token == self.vocab.img:
                return self.body(position, _stated(state.header))
            return State(Phase.HEADER, position, state.header + self._pieces[token])
        return State(self._next_phase(state.phase, token), position)

    def advance_all(self, state: State, tokens: Iterable[int]) -> State:
        """The state after all `tokens`; DocumentError at the first that may not stand."""
        for token in tokens:
            state = self.advance(state, token)
        return state

    def body(self, position: int, header: Header, offset: int = 0) -> State:
        """The state `offset` tokens after the IMG of a block with this header."""
        return State(Phase.BODY, position, header.text, header.t, header.h, header.w, offset)

    def refusal(self, state: State, token: int | None) -> DocumentError:
        """The error for `token` at `state`; None stands for the end of the document."""
        found = "the end" if token is None else self.vocab.name(token)
        return DocumentError(state.position, found, self.describe(self.allowed(state)))

    def describe(self, ranges: Ranges) -> str:
        """Ranges of ids in words."""
        name = self.vocab.name
        return ", ".join(name(a) if b == a + 1 else f"{name(a)} to {name(b - 1)}" for a, b in ranges)

    def _may_follow(self, meta: str, token: int) -> bool:
        """Whether `token` may follow the meta text so far."""
        if token == self.vocab.img:
            return read_header(meta) is not None
        return token in self._pieces and is_header_prefix(meta + self._pieces[token])

    def _next_phase(self, phase: Phase, token: int) -> Phase:
        """The phase after an allowed `token` outside header and codes."""
        vocab = self.vocab
        if token in (vocab.boi, vocab.eos, vocab.pad):
            return {vocab.boi: Phase.HEADER, vocab.eos: Phase.DONE, vocab.pad: Phase.PADDED}[token]
        return Phase.CLOSED if token == vocab.eoi and self.one_block else Phase.TEXT

    def _allowed_in_body(self, state: State) -> Ranges:
        row = state.w + 1
        frame = state.h * row + 1
        if state.offset == state.t * frame:
            return self._eoi
        in_frame = state.offset % frame
        if in_frame == frame - 1:
            return self._eof
        return self._eol if in_frame % row == state.w else self._codes


@lru_cache(maxsize=16)
def grammar_of(vocab: Vocabulary) -> Grammar:
    """The grammar of a vocabulary's documents, made once."""
    return Grammar(vocab)


def _as_ranges(ids: Iterable[int]) -> Ranges:
    """Sorted, merged (start, stop) ranges of ids."""
    ordered = np.unique(np.fromiter(ids, dtype=np.int64))
    breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in np.split(ordered, breaks) if run.size)


def _stated(text: str) -> Header:
    header = read_header(text)
    if header is None:
        raise DataError(f"{text!r} is not a header")
    return header
