"""The pictures and videos of a batch whose codes are predicted in it: what objectives copy behind the documents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from reelmill.tokenize.documents import TokenKind
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.attention import Backend
from reelmill.train.data.batches import Batch
from reelmill.train.model import ModelConfig


class Pictures(NamedTuple):
    """Of a document of so many tokens, which begins at `first` in the flattened batch, the pictures and videos: where
    IMG stands, and the place behind the last code."""

    document: int
    first: int
    length: int
    places: list[tuple[int, int]]


def pictures_of(batch: Batch, vocab: Vocabulary, documents: int) -> Iterator[Pictures]:
    """The pictures of each document. Those from number `documents` on are synthetic: their codes follow no law."""
    tokens, kinds = batch.tokens.reshape(-1), batch.kinds.reshape(-1)
    at = 0
    for length, document in zip(batch.lengths, batch.documents, strict=True):
        first, at = at, at + length
        if 0 <= document < documents:
            places = ((first + begin, first + stop) for begin, stop in _visuals(vocab, tokens[first:at]))
            # Tokens of a question are not predicted.
            predicted = [(begin, stop) for begin, stop in places if kinds[begin] == TokenKind.VISION]
            yield Pictures(document, first, length, predicted)


def backend_of_copies(device: torch.device, model: ModelConfig) -> Backend:
    """FlexAttention on CUDA, unless there is dropout, which it has not."""
    return "flex" if device.type == "cuda" and not model.attention_dropout else "documents"


def _visuals(vocab: Vocabulary, tokens: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """From IMG up to behind the last code, of each picture or video of a document that ends anywhere."""
    is_code = vocab.is_vision(tokens)
    begins = np.flatnonzero(tokens == vocab.img)
    for begin, until in pairwise([*begins, len(tokens)]):
        places = np.flatnonzero(is_code[begin:until])
        if len(places):
            yield int(begin), int(begin + places[-1]) + 1
