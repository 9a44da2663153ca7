"""The grammar of documents: one state machine for verifying, reading and constrained decoding.

    document = BOS (text | block)* EOS PAD*
    block    = BOI meta IMG ((code^W EOL)^H EOF)^T EOI

Every image and video of Emu3 is such a document (paper, section 2.4; EOL after every row, EOF after every frame); the
meta text fixes H, W and T (`header.py`). In Emu3.5's layout

    document = BOS (part | BSS part* ESS?)* EOS PAD*
    part     = text | block | BOG text EOG | BOC text EOC
    block    = BOI meta IMG (code^W EOL)^(H-1) code^W EOI
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
    """A token that the grammar forbids. `position` is its index, `found` its name, `allowed` what may come there."""

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
    THOUGHT = 7  # between BOG and EOG, or BOC and EOC


class State(NamedTuple):
    """A point between two tokens.

    `offset` counts the body's tokens so far; `h`, `w`, `t` are the block's grid. `in_answer`: after BSS, before ESS.
    `closing`: the id that ends the thought.
    """

    phase: Phase
    position: int
    header: str = ""
    t: int = 0
    h: int = 0
    w: int = 0
    offset: int = 0
    in_answer: bool = False
    closing: int = -1

    @property
    def is_complete(self) -> bool:
        """Whether the tokens so far form a complete document."""
        return self.phase == Phase.DONE


class Grammar:
    """The state machine of a vocabulary's documents.

    With `one_block`, EOI is followed by EOS only, and an answer by ESS and EOS behind its block and nowhere else:
    generation of one image or video, which is Emu3's rule (`prefix_allowed_tokens_fn` of its released inference). With
    `header`, every block has this one: generation of images of a given size. Header tokens are those that the text
    tokenizer writes, so "qwen" needs the weights `qwen-bpe`.
    """

    def __init__(self, vocab: Vocabulary, *, one_block: bool = False, header: Header | None = None) -> None:
        self.vocab = vocab
        self.one_block = one_block
        self.header = header
        self._header_text = None if header is None else header.text
        tokenizer = vocab.tokenizer
        samples = (*"0123456789*. s", "fps")
        self._pieces = {piece: tokenizer.decode([piece]) for sample in samples for piece in tokenizer.encode(sample)}
        self._codes = ((vocab.vision_start, vocab.vision_stop),)
        self._eol, self._eof, self._eoi = (((token, token + 1),) for token in (vocab.eol, vocab.eof, vocab.eoi))
        has_spans = vocab.layout.has_spans
        self._closing = {vocab.bog: vocab.eog, vocab.boc: vocab.eoc} if has_spans else {}
        words = range(vocab.text_size)
        self._thoughts = {end: _as_ranges([*words, end]) for end in self._closing.values()}
        self._outside: dict[tuple[Phase, bool], Ranges] = {}
        for in_answer in (False, True) if has_spans else (False,):
            mark = [vocab.ess if in_answer else vocab.bss] if has_spans else []
            ends = [] if one_block and in_answer else [vocab.eos, *mark]
            following = {
                Phase.START: [vocab.bos],
                Phase.TEXT: [*words, vocab.boi, *self._closing, *ends],
                Phase.CLOSED: [vocab.ess if in_answer else vocab.eos],
                Phase.DONE: [vocab.pad],
                Phase.PADDED: [vocab.pad],
            }
            self._outside |= {(phase, in_answer): _as_ranges(ids) for phase, ids in following.items()}

    def start(self) -> State:
        """The state before the first token."""
        return State(Phase.START, 0)

    def allowed(self, state: State) -> Ranges:
        """The ids that may come next, as (start, stop) ranges in rising order."""
        phase = state.phase
        if phase == Phase.BODY:
            return self._allowed_in_body(state)
        if phase == Phase.HEADER:
            candidates = (*self._pieces, self.vocab.img)
            return _as_ranges([token for token in candidates if self._may_follow(state.header, token)])
        if phase == Phase.THOUGHT:
            return self._thoughts[state.closing]
        return self._outside[phase, state.in_answer]

    def mask(self, state: State) -> npt.NDArray[np.bool_]:
        """bool [vocabulary size]: which ids may come next."""
        mask = np.zeros(self.vocab.size, dtype=np.bool_)
        for start, stop in self.allowed(state):
            mask[start:stop] = True
        return mask

    def advance(self, state: State, token: int) -> State:
        """The state after `token`; DocumentError if the grammar forbids it."""
        token = int(token)
        if state.phase == Phase.HEADER:
            is_allowed = self._may_follow(state.header, token)
        else:
            is_allowed = any(start <= token < stop for start, stop in self.allowed(state))
        if not is_allowed:
            raise self.refusal(state, token)
        after = state._replace(position=state.position + 1)
        if state.phase == Phase.BODY and token != self.vocab.eoi:
            return after._replace(offset=state.offset + 1)
        if state.phase == Phase.HEADER:
            if token == self.vocab.img:
                return self.body(after, _stated(state.header))
            return after._replace(header=state.header + self._pieces[token])
        return self._between_blocks(after, token)

    def advance_all(self, state: State, tokens: Iterable[int]) -> State:
        """The state after all `tokens`; DocumentError at the first that the grammar forbids."""
        for token in tokens:
            state = self.advance(state, token)
        return state

    def body(self, state: State, header: Header, offset: int = 0) -> State:
        """`state` as one that stands `offset` tokens after the IMG of a block with this header."""
        return state._replace(phase=Phase.BODY, header=header.text, t=header.t, h=header.h, w=header.w, offset=offset)

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
            return read_header(meta) is not None and self._header_text in (None, meta)
        if token not in self._pieces:
            return False
        meta += self._pieces[token]
        if self._header_text is not None:
            return self._header_text.startswith(meta)
        return is_header_prefix(meta) and (self.vocab.layout.has_video or " " not in meta)

    def _between_blocks(self, state: State, token: int) -> State:
        """The state after an allowed `token` outside header and codes; `state` is the one before it, one further on."""
        vocab, phase, in_answer = self.vocab, state.phase, state.in_answer
        if token in self._closing:
            return State(Phase.THOUGHT, state.position, in_answer=in_answer, closing=self._closing[token])
        if token in (vocab.bss, vocab.ess):
            return State(phase, state.position, in_answer=token == vocab.bss)
        if token in (vocab.boi, vocab.eos, vocab.pad):
            phase = {vocab.boi: Phase.HEADER, vocab.eos: Phase.DONE, vocab.pad: Phase.PADDED}[token]
        elif token == vocab.eoi:
            phase = Phase.CLOSED if self.one_block else Phase.TEXT
        elif phase == Phase.START or token == state.closing:
            phase = Phase.TEXT
        is_inside = phase == Phase.THOUGHT
        return State(phase, state.position, in_answer=in_answer, closing=state.closing if is_inside else -1)

    def _allowed_in_body(self, state: State) -> Ranges:
        layout = self.vocab.layout
        frame = layout.frame_tokens(state.h, state.w)
        if state.offset == state.t * frame:
            return self._eoi
        in_frame = state.offset % frame
        if layout.frames_end and in_frame == frame - 1:
            return self._eof
        return self._eol if in_frame % (state.w + 1) == state.w else self._codes


@lru_cache(maxsize=16)
def grammar_of(vocab: Vocabulary) -> Grammar:
    """The grammar of a vocabulary's documents, cached."""
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
