"""Text tokenizers: text to ids and back. Special strings are not known here, so they can only be plain text."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from base64 import b64decode
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import tiktoken

from reelmill import weights
from reelmill.errors import ConfigError, WeightsError

QWEN_SIZE = 151_643
BYTES_SIZE = 256

# Qwen's split: English contractions, letters with one leading mark, SINGLE digits, punctuation, newlines, spaces.
_QWEN_SPLIT = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"""
    r"""| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
# tiktoken's regex engine overflows its stack (a panic) on about 10^6 blanks in a row; longer runs than this are cut.
_LONGEST_BLANK = 100_000
# Normalising a run of combining marks takes quadratic time (5 s for 100,000). NFC never joins an ASCII character to the
# one before it, so text may be cut there; longer runs without any are cut too.
_LONGEST_NON_ASCII = 4096


class TextTokenizer(Protocol):
    """Text to ids 0 .. size - 1 and back."""

    @property
    def size(self) -> int:
        """Number of ids."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that the ids depend on."""

    def normalise(self, text: str) -> str:
        """The text that `decode(encode(text))` gives back."""

    def encode(self, text: str) -> list[int]:
        """Ids of `normalise(text)`; strings such as `<|endoftext|>` are plain text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD."""


class BytesTokenizer:
    """UTF-8 bytes, ids 0-255: for toys and tests; needs no file."""

    size = BYTES_SIZE
    fingerprint = hashlib.sha256(b"reelmill text: utf-8 bytes").hexdigest()

    def normalise(self, text: str) -> str:
        """The text with lone surrogates replaced."""
        return _without_surrogates(text)

    def encode(self, text: str) -> list[int]:
        """One id per byte."""
        return list(self.normalise(text).encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Text of bytes."""
        return bytes(ids).decode(errors="replace")


class QwenTokenizer:
    """Qwen-1's byte-level BPE, which is Emu3's text vocabulary (Emu3 paper, section 2.3).

    `path`: `qwen.tiktoken`, one `base64(token) rank` a line, 151,643 lines. A damaged file raises WeightsError.
    """

    size = QWEN_SIZE

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines() if line)}
        if sorted(ranks.values()) != list(range(QWEN_SIZE)):
            raise WeightsError(
                f"{path} holds {len(ranks):,} BPE ranks; Qwen's has exactly the ranks 0 to {QWEN_SIZE - 1:,}. "
                "Run `reelmill models verify`, then `reelmill models pull qwen-bpe`."
            )
        self.fingerprint = hashlib.sha256(_QWEN_SPLIT.encode() + b"\0NFC\0" + data).hexdigest()
        self._bpe = tiktoken.Encoding("qwen", pat_str=_QWEN_SPLIT, mergeable_ranks=ranks, special_tokens={})

    def normalise(self, text: str) -> str:
        """The text in NFC, with lone surrogates replaced."""
        return "".join(unicodedata.normalize("NFC", piece) for piece in _cut_long_marks(_without_surrogates(text)))

    def encode(self, text: str) -> list[int]:
        """BPE ids of the text."""
        ids: list[int] = []
        for piece in _cut_long_blanks(self.normalise(text)):
            ids += self._bpe.encode_ordinary(piece)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of BPE ids."""
        return self._bpe.decode(list(ids))


@lru_cache(maxsize=4)
def load(name: str) -> TextTokenizer:
    """The text tokenizer "qwen" (needs the weights `qwen-bpe`) or "bytes"."""
    if name == "bytes":
        return BytesTokenizer()
    if name == "qwen":
        return QwenTokenizer(weights.path("qwen-bpe"))
    raise ConfigError(f'Unknown text tokenizer "{name}"; there are "qwen" and "bytes".')


def _without_surrogates(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become U+FFFD; pairs become their character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _cut_long_marks(text: str) -> list[str]:
    """Pieces that can be normalized alone, in bounded time each."""
    if len(text) <= _LONGEST_NON_ASCII or text.isascii():
        return [text]
    return re.findall(rf"[\x00-\x7f]*[^\x00-\x7f]{{0,{_LONGEST_NON_ASCII}}}", text)


def _cut_long_blanks(text: str) -> Iterator[str]:
    """The text whole, unless a run of spaces is so long that it must be cut."""
    start = 0
    if len(text) > _LONGEST_BLANK:
        for run in re.finditer(r"\s+", text):
            for cut in range(run.start() + _LONGEST_BLANK, run.end(), _LONGEST_BLANK):
                yield text[start:cut]
                start = cut
    yield text[start:]
