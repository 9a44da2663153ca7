"""Requests as JSON, for the other ranks that compute a model together."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.config import from_dict
from reelmill.eval.generation.request import Request
from reelmill.eval.generation.sampling import SamplingParams
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.documents.header import read_header
from reelmill.tokenize.vocabulary import Vocabulary


def to_message(request: Request) -> dict[str, Any]:
    """All of a request in values that JSON has. Its grammar is that of the vocabulary that reads it."""
    grammar = request.grammar
    rules = grammar and {"one_block": grammar.one_block, "header": grammar.header and grammar.header.text}
    return {
        "prompt": _listed(request.prompt),
        "max_new_tokens": request.max_new_tokens,
        "stop_id": request.stop_id,
        "sampling": asdict(request.sampling),
        "stream": request.stream,
        "grammar": rules,
        "unconditional": _listed(request.unconditional),
        "without_pictures": _listed(request.without_pictures),
        "allowed_ids": request.allowed_ids,
        "generated": _listed(request.generated),
        "ending": _listed(request.ending),
    }


def from_message(message: dict[str, Any], vocab: Vocabulary) -> Request:
    """The request that `to_message` wrote."""
    rules, ranges = message["grammar"], message["allowed_ids"]
    grammar = rules and Grammar(
        vocab, one_block=rules["one_block"], header=rules["header"] and read_header(rules["header"])
    )
    allowed_ids = ranges and tuple((start, stop) for start, stop in ranges)
    sampling = from_dict(SamplingParams, message["sampling"])
    return Request(**{**message, "grammar": grammar, "allowed_ids": allowed_ids, "sampling": sampling})


def _listed(ids: npt.ArrayLike | None) -> Any:
    return None if ids is None else np.asarray(ids).tolist()
