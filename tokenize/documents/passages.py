"""The contents of a document in order: words, thoughts and blocks, and which belong to an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reelmill.tokenize.documents.reading import Block, Document


@dataclass(frozen=True)
class Passage:
    """A run of one kind. `text` is "" of a block, `block` None of words; `in_answer`: it stands between BSS and ESS."""

    kind: Literal["text", "thought", "global_thought", "block"]
    text: str = ""
    block: Block | None = None
    in_answer: bool = False


def passages(document: Document) -> list[Passage]:
    """The passages of a document; empty ones are left out, but for empty thoughts."""
    vocab, tokens = document.vocab, document.tokens
    marks = {vocab.bss, vocab.ess, vocab.boc, vocab.eoc, vocab.bog, vocab.eog}
    blocks = {block.start: block for block in document.blocks}
    stops = {*np.flatnonzero(np.isin(tokens, list(marks))).tolist(), *blocks, len(tokens) - 1}
    thoughts: dict[int, Literal["thought", "global_thought"]] = {vocab.boc: "thought", vocab.bog: "global_thought"}
    found: list[Passage] = []
    at, before, in_answer = 1, vocab.bos, False
    for stop in sorted(stops):
        if stop > at or before in thoughts:
            text = vocab.tokenizer.decode(tokens[at:stop].tolist())
            found.append(Passage(thoughts.get(before, "text"), text, in_answer=in_answer))
        at, before = stop + 1, int(tokens[stop])
        if stop in blocks:
            found.append(Passage("block", block=blocks[stop], in_answer=in_answer))
            at = blocks[stop].stop
        in_answer = before == vocab.bss or (in_answer and before != vocab.ess)
    return found
