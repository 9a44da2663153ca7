"""Emu3.5's tasks: their prompts, and the negative prompts of guidance.

The wording is that of its released configurations (configs/example_config_*.py), which name six tasks and have a
configuration for the first four:

    BOS "You are a helpful assistant for t2i task. USER: QUESTION" images " ASSISTANT: " BSS

`x2i` has its images before the question. `howto` asks for words and images in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from reelmill.config import nearest
from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.documents.chat import Chat, Parts, Turn, chat_document, chat_prompt
from reelmill.tokenize.documents.reading import parse_unchecked
from reelmill.tokenize.documents.writing import Ids, Visual
from reelmill.tokenize.vocabulary import Vocabulary

P = TypeVar("P")
_OPENING = 160
"""Tokens in which a task is named, also where each is a byte."""

TASKS = {
    "t2i": "a picture from words",
    "x2i": "a picture from pictures and words: editing, reference pictures",
    "howto": "instructions, step by step, with pictures",
    "story": "a story with pictures",
    "explore": "a world in which one moves",
    "vla": "a robot's task: pictures and actions",
}
"""The subject of each task."""


def task_prompt(
    vocab: Vocabulary, task: str, question: str, pictures: Sequence[Visual] = (), before: Sequence[Turn] = ()
) -> Ids:
    """What a model continues with its answer: `BOS ... ASSISTANT: BSS`; int32 [tokens]. `before`: earlier turns.

    Raises ConfigError for an unknown task, DataError where the vocabulary's layout marks no answers.
    """
    return chat_prompt(_marked(vocab), task_question(task, question, pictures), before, task_system(task))


def task_document(vocab: Vocabulary, task: str, question: str, answer: Parts, pictures: Sequence[Visual] = ()) -> Chat:
    """The whole document, and where its answer stands in it (with ESS). Raises as `task_prompt` does, and DataError
    where the answer is empty."""
    return chat_document(_marked(vocab), [Turn(task_question(task, question, pictures), answer)], task_system(task))


def unconditional_prompt(vocab: Vocabulary, pictures: Sequence[Visual] = ()) -> Ids:
    """The prompt without task and question; guidance by `pictures` as well as by words keeps none of them."""
    return chat_prompt(_marked(vocab), pictures)


def without_words(vocab: Vocabulary, tokens: Ids, start: int) -> Ids | None:
    """A task's document, whose answer begins at token `start`, under the prompt that guidance goes away from: neither
    task nor question, its pictures kept. None for another document.
    """
    prompt = tokens[:start]
    words = vocab.tokenizer.decode(prompt[1:_OPENING][prompt[1:_OPENING] < vocab.text_size].tolist())
    if not any(words.startswith(task_system(task)) for task in TASKS):
        return None
    given = parse_unchecked(vocab, np.concatenate([prompt[:-1], [vocab.eos]], dtype=np.int32))  # without BSS
    pictures = [Visual(given.block_codes(block)[0]) for block in given.blocks]
    return np.concatenate([unconditional_prompt(vocab, pictures), tokens[start:]], dtype=np.int32)


def task_system(task: str) -> str:
    """The text before `USER:`."""
    if task not in TASKS:
        raise ConfigError(f"no task {task!r}; {nearest(task, TASKS)}")
    system = f"You are a helpful assistant for {task} task."
    return f"{system} Please generate a response with interleaved text and images." if task == "howto" else system


def task_question(task: str, question: str, pictures: Sequence[P]) -> list[str | P]:
    """The contents after `USER:`; x2i has its pictures first."""
    return [*pictures, question] if task == "x2i" else [question, *pictures]


def _marked(vocab: Vocabulary) -> Vocabulary:
    if not vocab.layout.has_spans:
        raise DataError(f"tasks are Emu3.5's; documents of the layout {vocab.layout} have none. Use chat_prompt.")
    return vocab
