"""Conversations: Emu3's chat template, and which tokens of it are answers.

Its released processor (emu3/mllm/processing_emu3.py) asks one question about one image:

    BOS "You are a helpful assistant. USER: " image "QUESTION. ASSISTANT:"

Not disclosed, chosen here: an answer is its own run of ids and begins with a blank (` A cat`), so that the ids of a
prompt are the same whether or not an answer follows; further turns go on with `" USER: " ... ". ASSISTANT:"`; the end
of an answer is EOS in what the model learns, while the document itself goes on with the next turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reelmill.errors import DataError
from reelmill.tokenize.documents.writing import Ids, Visual, interleaved_document
from reelmill.tokenize.vocabulary import Vocabulary

SYSTEM = "You are a helpful assistant."
"""What a conversation begins with, unless it has words of its own for that."""

Parts = Sequence[str | Visual]
Span = tuple[int, int]


class Turn(NamedTuple):
    """A question and its answer, each texts and visuals in their order."""

    question: Parts
    answer: Parts


class Chat(NamedTuple):
    """A whole conversation. tokens: int32 [N], a document; answers: (start, stop) of each answer in them."""

    tokens: Ids
    answers: list[Span]


def chat_prompt(vocab: Vocabulary, question: Parts, before: Sequence[Turn] = (), system: str = SYSTEM) -> Ids:
    """The conversation up to where the model answers `question`: `BOS ... ASSISTANT:`; int32 [tokens]."""
    return _run_together(vocab, [*before, Turn(question, ())], system)[0][:-1]


def chat_document(vocab: Vocabulary, turns: Sequence[Turn], system: str = SYSTEM) -> Chat:
    """A conversation of one turn or more. Raises DataError, naming the turn, where an answer is empty."""
    if not turns:
        raise DataError("a conversation has at least one question and answer")
    for number, turn in enumerate(turns, 1):
        if not any(not isinstance(part, str) or part.strip() for part in turn.answer):
            raise DataError(f"the answer of turn {number} is empty")
    return Chat(*_run_together(vocab, turns, system))


def _run_together(vocab: Vocabulary, turns: Sequence[Turn], system: str) -> tuple[Ids, list[Span]]:
    """The document of these turns, and where their answers stand."""
    runs: list[Ids] = []
    answers: list[Span] = []
    at = 1  # after BOS
    opening = f"{system} USER: " if system else "USER: "
    for turn in turns:
        question = _ids(vocab, [opening, *turn.question, ". ASSISTANT:"])
        answer = _ids(vocab, _with_blank(turn.answer))
        runs += [question, answer]
        answers.append((at + len(question), at + len(question) + len(answer)))
        at = answers[-1][1]
        opening = " USER: "
    return np.concatenate([[vocab.bos], *runs, [vocab.eos]], dtype=np.int32), answers


def _with_blank(answer: Parts) -> Parts:
    """The answer with a blank before its first word; none before a picture."""
    if not answer or not isinstance(answer[0], str):
        return answer
    return [" " + answer[0].lstrip(), *answer[1:]]


def _ids(vocab: Vocabulary, parts: Parts) -> Ids:
    """The ids of parts in their order; texts that touch are one text to the tokenizer, as in a string."""
    joined: list[str | Visual] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return interleaved_document(vocab, joined)[1:-1]
