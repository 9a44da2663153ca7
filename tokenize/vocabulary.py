"""The id space: text, then 211 special tokens, then vision codes; Emu3's, to the id, for Qwen's text BPE."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize import text as text_tokenizers
from reelmill.tokenize.layout import EMU3, LAYOUTS, Layout

_TEXT_SIZES = {"qwen": text_tokenizers.QWEN_SIZE, "bytes": text_tokenizers.BYTES_SIZE}
_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{n}|>" for n in range(205)),
    "<|image token|>",
    "<|image start|>",
    "<|image end|>",
)
_STRUCTURE = {
    "PAD": "<|endoftext|>",
    "EOL": "<|extra_200|>",
    "EOF": "<|extra_201|>",
    "BOS": "<|extra_203|>",
    "EOS": "<|extra_204|>",
    "IMG": "<|image token|>",
    "BOI": "<|image start|>",
    "EOI": "<|image end|>",
    "BSS": "<|extra_100|>",
    "ESS": "<|extra_101|>",
    "BOG": "<|extra_60|>",
    "EOG": "<|extra_61|>",
    "BOC": "<|extra_50|>",
    "EOC": "<|extra_51|>",
}
_ROLES = {string: role for role, string in _STRUCTURE.items()}
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Vocabulary:
    """A text tokenizer and the size of a visual codebook, from which every id follows, and the layout of documents.

    `Vocabulary()` is Emu3's 184,622 ids (paper, Table 3): 151,643 text, 211 specials, 32,768 codes;
    `Vocabulary("qwen", 131_072, EMU3_5)` is Emu3.5's 282,926. `Vocabulary("bytes", n)` has 256 text ids and the same
    specials in the same order. Raises ConfigError for an unknown text tokenizer or a codebook that int32 cannot number.
    """

    text: Literal["qwen", "bytes"] = "qwen"
    codes: int = 32_768
    layout: Layout = EMU3

    def __post_init__(self) -> None:
        if self.text not in _TEXT_SIZES:
            raise ConfigError(f'Unknown text tokenizer "{self.text}"; there are {", ".join(_TEXT_SIZES)}.')
        most = _LARGEST_ID - self.vision_start
        if isinstance(self.codes, bool) or not isinstance(self.codes, int) or not 1 <= self.codes <= most:
            raise ConfigError(f"A codebook has 1 to {most:,} codes, not {self.codes!r}.")

    @property
    def text_size(self) -> int:
        """Number of text ids, which are 0 .. text_size - 1."""
        return _TEXT_SIZES[self.text]

    @cached_property
    def pad(self) -> int:
        """Padding, after a document's end."""
        return self._special("PAD")

    @cached_property
    def bos(self) -> int:
        """Beginning of a document."""
        return self._special("BOS")

    @cached_property
    def eos(self) -> int:
        """End of a document."""
        return self._special("EOS")

    @cached_property
    def boi(self) -> int:
        """Beginning of an image or video; the meta text follows."""
        return self._special("BOI")

    @cached_property
    def img(self) -> int:
        """End of the meta text; the codes follow."""
        return self._special("IMG")

    @cached_property
    def eol(self) -> int:
        """End of a row of codes."""
        return self._special("EOL")

    @cached_property
    def eof(self) -> int:
        """End of a (latent) frame."""
        return self._special("EOF")

    @cached_property
    def eoi(self) -> int:
        """End of an image or video."""
        return self._special("EOI")

    @cached_property
    def bss(self) -> int:
        """Beginning of an answer (Emu3.5)."""
        return self._special("BSS")

    @cached_property
    def ess(self) -> int:
        """End of an answer (Emu3.5)."""
        return self._special("ESS")

    @cached_property
    def bog(self) -> int:
        """Beginning of a thought about the whole answer (Emu3.5)."""
        return self._special("BOG")

    @cached_property
    def eog(self) -> int:
        """End of a thought about the whole answer (Emu3.5)."""
        return self._special("EOG")

    @cached_property
    def boc(self) -> int:
        """Beginning of a thought about the next image (Emu3.5)."""
        return self._special("BOC")

    @cached_property
    def eoc(self) -> int:
        """End of a thought about the next image (Emu3.5)."""
        return self._special("EOC")

    @property
    def vision_start(self) -> int:
        """The id of code 0."""
        return self.text_size + len(_SPECIALS)

    @property
    def vision_stop(self) -> int:
        """One past the id of the last code."""
        return self.vision_start + self.codes

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.vision_stop

    @property
    def tokenizer(self) -> text_tokenizers.TextTokenizer:
        """The text tokenizer; "qwen" needs the weights `qwen-bpe`."""
        return text_tokenizers.load(self.text)

    def is_vision(self, ids: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which ids are codes; same shape as `ids`."""
        array = np.asarray(ids)
        return (array >= self.vision_start) & (array < self.vision_stop)

    def name(self, token: int) -> str:
        """A readable name of an id: `BOS`, `text 15`, `code 3`, `<|extra_7|>`."""
        if 0 <= token < self.text_size:
            return f"text {token}"
        if self.text_size <= token < self.vision_start:
            string = _SPECIALS[token - self.text_size]
            return _ROLES.get(string, string)
        if self.vision_start <= token < self.vision_stop:
            return f"code {token - self.vision_start}"
        return f"{token} (outside the vocabulary's 0 to {self.size - 1})"

    def to_json(self) -> str:
        """`{"text": ..., "codes": ...}`, and `"layout"` where it is not Emu3's."""
        fields: dict[str, str | int] = {"text": self.text, "codes": self.codes}
        return json.dumps(fields if self.layout == EMU3 else {**fields, "layout": self.layout.name})

    @classmethod
    def from_json(cls, data: str | bytes) -> Vocabulary:
        """The inverse of `to_json`; DataError where the JSON is not a vocabulary's."""
        try:
            fields = json.loads(data)
        except ValueError as error:
            raise DataError(f"Not a vocabulary: {data[:200]!r} is not JSON ({error}).") from error
        if not isinstance(fields, dict) or fields.keys() - {"layout"} != {"text", "codes"}:
            raise DataError(f'Not a vocabulary: {data[:200]!r}; it is {{"text": "qwen" or "bytes", "codes": number}}.')
        layout = fields.get("layout", EMU3.name)
        if not isinstance(layout, str) or layout not in LAYOUTS:
            raise DataError(f"Not a vocabulary: {data[:200]!r}; the layouts are {', '.join(LAYOUTS)}.")
        try:
            return cls(fields["text"], fields["codes"], LAYOUTS[layout])
        except (ConfigError, TypeError) as error:
            raise DataError(f"Not a vocabulary: {data[:200]!r}. {error}") from error

    def _special(self, role: str) -> int:
        return self.text_size + _SPECIALS.index(_STRUCTURE[role])
