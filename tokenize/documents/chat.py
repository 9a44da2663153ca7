"""Conversations: the chat templates of Emu3 and Emu3.5, and which of their tokens are answers.

Emu3's released processor (emu3/mllm/processing_emu3.py) asks one question about one image, Emu3.5's released
configurations (configs/example_config_*.py) mark the answer:

    Emu3     BOS "You are a helpful assistant. USER: " image "QUESTION. ASSISTANT:" answer EOS
    Emu3.5   BOS "You are a helpful assistant. USER: " image "QUESTION ASSISTANT: " BSS answer ESS EOS

Not disclosed, chosen here: an answer in Emu3's layout is its own run of ids and begins with a blank (` A cat`), so that
the ids of a prompt do not depend on the answer; further turns continue with `" USER: "` and the rest of the template;
the training target after an answer is EOS, while the document continues with the next turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reelmill.errors import DataError
from reelmill.tokenize.documents.writing import Ids, Part, Thought, Visual, part_ids
from reelmill.tokenize.vocabulary import Vocabulary

SYSTEM = "You are a helpful assistant."
"""The default beginning of a conversation."""

Parts = Sequence[Part]
Span = tuple[int, int]


class Turn(NamedTuple):
    """A question and its answer: each a sequence of texts, visuals and (in Emu3.5's layout) thoughts."""

    question: Parts
    answer: Parts


class Chat(NamedTuple):
    """A whole conversation. tokens: int32 [N], a document; answers: (start, stop) of each answer in them."""

    tokens: Ids
    answers: list[Span]


def chat_prompt(vocab: Vocabulary, question: Parts, before: Sequence[Turn] = (), system: str = SYSTEM) -> Ids:
    """The conversation up to where the model answers `question`; int32 [tokens]."""
    runs = _runs(vocab, before, system)
    return np.concatenate([[vocab.bos], *runs, _question(vocab, question, system, len(before))], dtype=np.int32)


def answer_ids(vocab: Vocabulary, answer: Parts) -> Ids:
    """The beginning of an answer, which follows the prompt of `chat_prompt`; int32 [tokens]."""
    return _ids(vocab, answer if vocab.layout.has_spans else _with_blank(answer))


def chat_document(vocab: Vocabulary, turns: Sequence[Turn], system: str = SYSTEM) -> Chat:
    """A conversation of one or more turns. Raises DataError, naming the turn, if an answer is empty."""
    if not turns:
        raise DataError("a conversation has at least one question and answer")
    for number, turn in enumerate(turns, 1):
        if not any(isinstance(part, Visual) or _words(part).strip() for part in turn.answer):
            raise DataError(f"the answer of turn {number} is empty")
    runs = _runs(vocab, turns, system)
    edges = np.cumsum([1, *map(len, runs)]).tolist()  # after BOS
    answers = list(zip(edges[1:-1:2], edges[2::2], strict=True))
    return Chat(np.concatenate([[vocab.bos], *runs, [vocab.eos]], dtype=np.int32), answers)


def _runs(vocab: Vocabulary, turns: Sequence[Turn], system: str) -> list[Ids]:
    """The ids of the question and of the answer, for each turn."""
    runs = []
    for number, turn in enumerate(turns):
        runs += [_question(vocab, turn.question, system, number), _answer(vocab, turn.answer)]
    return runs


def _question(vocab: Vocabulary, question: Parts, system: str, number: int) -> Ids:
    """A question within the template; `number` questions precede it."""
    opening = " USER: " if number else f"{system} USER: " if system else "USER: "
    if not vocab.layout.has_spans:
        return _ids(vocab, [opening, *question, ". ASSISTANT:"])
    return np.append(_ids(vocab, [opening, *question, " ASSISTANT: "]), np.int32(vocab.bss))


def _answer(vocab: Vocabulary, answer: Parts) -> Ids:
    ids = answer_ids(vocab, answer)
    return np.append(ids, np.int32(vocab.ess)) if vocab.layout.has_spans else ids


def _with_blank(answer: Parts) -> Parts:
    """The answer with a space before its first word; none before a picture."""
    if not answer or not isinstance(answer[0], str):
        return answer
    return [" " + answer[0].lstrip(), *answer[1:]]


def _words(part: str | Thought) -> str:
    return part if isinstance(part, str) else part.text


def _ids(vocab: Vocabulary, parts: Parts) -> Ids:
    """The ids of parts in order; adjacent texts are tokenized as one string."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return np.concatenate([np.empty(0, dtype=np.int32), *(part_ids(vocab, part) for part in joined)])
