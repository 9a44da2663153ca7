"""The least that generated tokens have to read from memory: what bounds their time, whatever else is done well."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelmill.eval.generation.request import Request
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder


def weight_bytes(model: Decoder, vocab: Vocabulary) -> int:
    """Bytes of weights that a pass over pictures reads: the layers, and of the head the rows of codes.

    Of the embedding it reads a row a token, which is nothing beside them. Weights of one byte count as they are stored.
    """
    layers = sum(map(_stored, model.layers.parameters()))
    return layers + vocab.codes * model.config.hidden * model.lm_head.weight.element_size()


def cache_bytes(model: Decoder, requests: Sequence[Request]) -> int:
    """Bytes of keys and values that plain decoding of these requests reads: of each row, all before each new token."""
    sizes = model.config
    a_token = 2 * sizes.layers * sizes.kv_heads * sizes.head_size * model.embed_tokens.weight.element_size()
    return a_token * sum(_read(len(prompt), r.max_new_tokens) for r in requests for prompt in r.prompts)


def _read(prompt: int, new: int) -> int:
    """Tokens that a row reads in all: before the n-th new one stand prompt + n - 1."""
    return new * prompt + new * (new - 1) // 2


def _stored(weight: Tensor) -> int:
    """Bytes of a weight; of torchao's, of its numbers and scales."""
    parts = [getattr(weight, name) for name in getattr(weight, "tensor_data_names", ())]
    tensors = [part for part in parts if isinstance(part, torch.Tensor)] or [weight]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
