"""Conversations whose answers teach nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.corpus import Corpus

_LONGEST_BLANK = 32
"""Tokens; a longer answer is not examined."""


def conversation_problems(corpus: Corpus) -> Iterator[str]:
    """The problems of a corpus's conversations, one sentence each, with document and run folder.

    Reports an answer without text or codes, and one that lies outside its document (which `write_shard` refuses).
    """
    for document in np.flatnonzero(corpus.answered).tolist():
        tokens, name = corpus.view(document), f"conversation {corpus.name(document)}"
        for number, (start, stop) in enumerate(corpus.answers(document).reshape(-1, 2).tolist(), 1):
            if not 1 <= start < stop < len(tokens):
                yield f"{name}: answer {number} is tokens {start} to {stop} of {len(tokens)}"
            elif _is_blank(corpus.vocab, tokens[start:stop]):
                yield f"{name}: answer {number} is empty"


def _is_blank(vocab: Vocabulary, answer: npt.NDArray[np.int32]) -> bool:
    """Whether an answer has neither codes nor text."""
    if len(answer) > _LONGEST_BLANK or vocab.is_vision(answer).any():
        return False
    return not vocab.tokenizer.decode(answer[answer < vocab.text_size].tolist()).strip()
