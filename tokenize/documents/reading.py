"""Reading documents back: ids to captions, codes and the kind of every token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.tokenize.documents.grammar import DocumentError, Grammar, Phase, State, grammar_of
from reelmill.tokenize.documents.header import Header, read_header
from reelmill.tokenize.vocabulary import Vocabulary

Ids = npt.NDArray[np.int32]


class TokenKind(IntEnum):
    """The kind of a token for losses, where META (the digits of a header) counts as STRUCTURE."""

    TEXT = 0
    STRUCTURE = 1
    VISION = 2
    META = 3


class Span(NamedTuple):
    """Tokens start .. stop - 1, all of one kind."""

    start: int
    stop: int
    kind: TokenKind


@dataclass(frozen=True)
class Block:
    """An image or video inside a document: BOI at `start`, the first code at `body`, EOI at `stop` - 1."""

    start: int
    body: int
    stop: int
    header: Header

    @property
    def frame_tokens(self) -> int:
        """Tokens of a latent frame."""
        return (self.stop - 1 - self.body) // self.header.t


@dataclass(frozen=True, eq=False)
class Document:
    """A well-formed document. `tokens`: int32 [N]; `kinds`: uint8 [N], a TokenKind each; `blocks`: in order.

    What a document with one block says of it (`caption`, `codes`, `grid`, ...) raises DataError on an interleaved one.
    """

    vocab: Vocabulary
    tokens: Ids
    kinds: npt.NDArray[np.uint8]
    blocks: tuple[Block, ...]

    @cached_property
    def kind(self) -> Literal["text", "image", "video", "interleaved"]:
        """The row's kind in a tokens table; text on both sides of a block, two blocks, or a block in an answer make it
        interleaved."""
        if not self.blocks:
            return "text"
        before, after = self._outside(0), self._outside(1)
        is_marked = any((ids >= self.vocab.text_size).any() for ids in (before, after))
        if len(self.blocks) > 1 or (before.size and after.size) or is_marked:
            return "interleaved"
        return "video" if self.blocks[0].header.is_video else "image"

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text before each block and after the last, including answers and thoughts; "" where there is none."""
        outside = (self._outside(i) for i in range(len(self.blocks) + 1))
        return tuple(self.vocab.tokenizer.decode(ids[ids < self.vocab.text_size].tolist()) for ids in outside)

    @property
    def caption(self) -> str:
        """The caption, wherever it is; for a text document, the text."""
        return "".join(self.texts) if self._only_block() else self.texts[0]

    @property
    def caption_after(self) -> bool:
        """Whether a caption follows the block (an empty caption counts as before)."""
        return self._only_block() is not None and self._outside(1).size > 0

    @property
    def grid(self) -> tuple[int, int, int]:
        """(T, H, W) in codes; zeros for a text."""
        block = self._only_block()
        return (block.header.t, block.header.h, block.header.w) if block else (0, 0, 0)

    @property
    def fps(self) -> float | None:
        """Frames a second of a video."""
        block = self._only_block()
        return block.header.fps if block else None

    @property
    def seconds(self) -> float | None:
        """Duration of a video."""
        block = self._only_block()
        return block.header.seconds if block else None

    @property
    def codes(self) -> Ids:
        """int32 [T, H, W]; a text has none (DataError)."""
        block = self._only_block()
        if block is None:
            raise DataError("a text document has no codes")
        return self.block_codes(block)

    @property
    def n_vision(self) -> int:
        """Number of codes."""
        return sum(block.header.t * block.header.h * block.header.w for block in self.blocks)

    @property
    def loss_kinds(self) -> npt.NDArray[np.uint8]:
        """uint8 [N]: TEXT, STRUCTURE or VISION for each token."""
        return np.where(self.kinds == TokenKind.META, np.uint8(TokenKind.STRUCTURE), self.kinds)

    @property
    def spans(self) -> list[Span]:
        """Runs of tokens of one kind, in order."""
        edges = [0, *(np.flatnonzero(np.diff(self.kinds)) + 1).tolist(), len(self.kinds)]
        return [Span(a, b, TokenKind(int(self.kinds[a]))) for a, b in pairwise(edges)]

    def block_codes(self, block: Block) -> Ids:
        """int32 [T, H, W]: the codes of one of `blocks`."""
        t, h, w = block.header.t, block.header.h, block.header.w
        frames = self.tokens[block.body : block.stop - 1].reshape(t, -1)
        if not self.vocab.layout.last_row_ends:
            frames = np.pad(frames, ((0, 0), (0, 1)))
        rows = frames[:, : h * (w + 1)].reshape(t, h, w + 1)
        return rows[:, :, :w] - np.int32(self.vocab.vision_start)

    def _outside(self, index: int) -> Ids:
        """The text ids before block `index`, or after the last."""
        start = self.blocks[index - 1].stop if index else 1
        stop = self.blocks[index].start if index < len(self.blocks) else len(self.tokens) - 1
        return self.tokens[start:stop]

    def _only_block(self) -> Block | None:
        if self.kind == "interleaved":
            raise DataError("an interleaved document has no one caption, grid or codes; use `texts` and `blocks`")
        return self.blocks[0] if self.blocks else None


def parse(vocab: Vocabulary, tokens: npt.ArrayLike) -> Document:
    """Read a whole document, int [N]. Raises DocumentError at the first token that the grammar forbids."""
    ids = _as_ids(tokens)
    grammar = grammar_of(vocab)
    state = _step(grammar, grammar.start(), ids)
    kinds = np.full(len(ids), TokenKind.STRUCTURE, dtype=np.uint8)
    blocks: list[Block] = []
    others = np.flatnonzero((ids < 0) | (ids >= vocab.text_size))
    while state.phase in (Phase.TEXT, Phase.THOUGHT):
        following = int(np.searchsorted(others, state.position))
        stop = int(others[following]) if following < len(others) else len(ids)
        kinds[state.position : stop] = TokenKind.TEXT
        state = _step(grammar, state._replace(position=stop), ids)
        if state.phase == Phase.HEADER:
            block, state = _read_block(grammar, state, ids, kinds)
            blocks.append(block)
    if state.position < len(ids):
        raise DocumentError(state.position, vocab.name(int(ids[state.position])), "nothing, the document has ended")
    return Document(vocab, ids, kinds, tuple(blocks))


def token_kinds(
    vocab: Vocabulary, tokens: npt.NDArray[np.integer], meta: TokenKind = TokenKind.META
) -> npt.NDArray[np.uint8]:
    """A TokenKind for each id of documents that are known to be well-formed, much faster than `parse`; uint8 [N].

    `tokens` is any run of ids in which no header is cut: several documents end to end, or a beginning or piece of one.
    `meta`: what the ids of a header are called.
    """
    kinds = (tokens >= vocab.text_size).view(np.uint8)  # TEXT and STRUCTURE are 0 and 1
    kinds += tokens >= vocab.vision_start
    structure = np.flatnonzero(kinds == TokenKind.STRUCTURE.value)  # NumPy takes three times as long with an IntEnum
    begin, end = structure[tokens[structure] == vocab.boi] + 1, structure[tokens[structure] == vocab.img]
    lengths = end - begin
    before = np.cumsum(lengths) - lengths
    kinds[np.repeat(begin - before, lengths) + np.arange(lengths.sum())] = meta
    return kinds


def parse_unchecked(vocab: Vocabulary, tokens: Ids) -> Document:
    """The result of `parse` for a document that is known to be well-formed: faster, because nothing is checked.

    Documents of a shard are: they are parsed when they are written, and pages have checksums.
    """
    begins, ends = np.flatnonzero(tokens == vocab.boi).tolist(), np.flatnonzero(tokens == vocab.img).tolist()
    blocks = []
    for begin, end in zip(begins, ends, strict=True):
        header = read_header(vocab.tokenizer.decode(tokens[begin + 1 : end].tolist()))
        assert header is not None  # it is well-formed
        body = end + 1
        stop = body + header.t * vocab.layout.frame_tokens(header.h, header.w) + 1
        blocks.append(Block(begin, body, stop, header))
    return Document(vocab, tokens, token_kinds(vocab, tokens), tuple(blocks))


def loss_kinds(vocab: Vocabulary, tokens: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """uint8 [N]: TEXT, STRUCTURE or VISION for each token of a whole document."""
    return parse(vocab, tokens).loss_kinds


def _as_ids(tokens: npt.ArrayLike) -> Ids:
    array = np.asarray(tokens)
    limits = np.iinfo(np.int32)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise DataError(f"a document is one row of integers, not {array.dtype} {list(array.shape)}")
    if array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise DataError(f"ids are int32; found values from {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, dtype=np.int32)


def _step(grammar: Grammar, state: State, ids: Ids) -> State:
    """Advance by the token at the state's position; DocumentError if it is missing or forbidden."""
    if state.position >= len(ids):
        raise grammar.refusal(state, None)
    return grammar.advance(state, int(ids[state.position]))


def _read_block(grammar: Grammar, state: State, ids: Ids, kinds: npt.NDArray[np.uint8]) -> tuple[Block, State]:
    """Read a block whose BOI has just been passed; its META and VISION go to `kinds`."""
    start, meta = state.position - 1, ""
    while state.phase == Phase.HEADER:
        meta = state.header
        state = _step(grammar, state, ids)
    header = read_header(meta)
    assert header is not None  # the grammar lets IMG follow nothing else
    body = state.position
    kinds[start + 1 : body - 1] = TokenKind.META
    vocab, layout = grammar.vocab, grammar.vocab.layout
    frame = layout.frame_tokens(header.h, header.w)
    found = ids[body : body + header.t * frame]
    in_frame = np.arange(len(found), dtype=np.int32) % np.int32(frame)
    is_eof = (in_frame == frame - 1) & layout.frames_end
    is_eol = ~is_eof & (in_frame % np.int32(header.w + 1) == header.w)
    is_code = ~(is_eof | is_eol)
    expected = np.where(is_eof, vocab.eof, vocab.eol)
    wrong = np.flatnonzero(np.where(is_code, ~vocab.is_vision(found), found != expected))
    offset = int(wrong[0]) if wrong.size else len(found)
    state = _step(grammar, grammar.body(state._replace(position=body + offset), header, offset), ids)
    kinds[body : body + len(found)][is_code] = TokenKind.VISION
    return Block(start, body, state.position, header), state
