"""Tokens of an answer as text, as they are sampled."""

from __future__ import annotations

from reelmill.eval.generation import Studio

_LONGEST_CHARACTER = 8
"""A character that is incomplete after this many tokens never completes."""


class TextDecoder:
    """Decodes tokens one by one to text. `block` is the picture that has begun, from BOI on, `picture` the one that has
    just ended, BOI to EOI."""

    def __init__(self, studio: Studio) -> None:
        self._vocab = studio.vocab
        self._pending: list[int] = []
        self.block: list[int] = []
        self.picture: list[int] | None = None

    def append(self, token: int) -> str:
        """The text that this token completes."""
        vocab = self._vocab
        self.picture = None
        if self.block or token == vocab.boi:
            self.block.append(token)
            if token == vocab.eoi:
                self.picture, self.block = self.block, []
            return self.flush()
        if token in (vocab.bog, vocab.boc):  # a thought is a quotation
            return f"{self.flush()}\n\n> "
        if token in (vocab.eog, vocab.eoc):
            return f"{self.flush()}\n\n"
        if token >= vocab.text_size:
            return self.flush()
        self._pending.append(token)
        text = vocab.tokenizer.decode(self._pending)
        # The bytes of a character may be spread over several tokens.
        if text.endswith("\ufffd") and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        self._pending = []
        return text

    def flush(self) -> str:
        """The text that was held back."""
        text = self._vocab.tokenizer.decode(self._pending)
        self._pending = []
        return text
