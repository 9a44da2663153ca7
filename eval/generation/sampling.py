"""How the next token is sampled from logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reelmill.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TokenSampling:
    """How tokens of one kind are sampled. Temperature 0 takes the likeliest; `top_k` 0 and `top_p` 1 keep all."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 (the likeliest token) or more.")
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}; it must be 0 (all tokens) or more.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be over 0 and at most 1 (all tokens).")


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How a sequence is sampled: visual codes by `vision`, every other token by `text`.

    `guidance` is the scale s of classifier-free guidance, for requests with an unconditional prompt: codes are sampled
    from the logits unconditional + s * (conditional - unconditional), and s = 1 means the conditional logits alone.
    `image_guidance` is the scale of guidance by the pictures of a prompt (see `Request`), and 1 means none. `negative`
    is the text of the unconditional prompt. The defaults of `vision` are those of Emu3's released image
    generation, which uses a guidance of 3.
    """

    vision: TokenSampling = TokenSampling(top_k=2048)
    text: TokenSampling = TokenSampling()
    guidance: float = 1.0
    image_guidance: float = 1.0
    negative: str = ""
    seed: int = 0

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        self.vision.check()
        self.text.check()
        if not 0 <= self.guidance < math.inf:
            raise ConfigError(f"guidance is {self.guidance}; it must be 0 or more, 1 for none.")
        if not 0 <= self.image_guidance < math.inf:
            raise ConfigError(f"image guidance is {self.image_guidance}; it must be 0 or more, 1 for none.")


def sample(logits: Tensor, params: TokenSampling, uniforms: Tensor) -> Tensor:
    """Sample an index from each row of `logits` [n, ids], given a uniform number float32 [n] in [0, 1); int64 [n].

    This is inverse transform sampling: the ids that top-k and top-p keep share [0, 1), the likeliest first, each as
    wide as its probability, and the uniform number falls on one of them. A row's sample depends on nothing but its own
    logits and its own number, whatever else is in the batch.
    """
    if params.temperature == 0:
        return logits.argmax(dim=-1)
    ids = logits.shape[-1]
    top_k = params.top_k
    ranked, order = logits.topk(top_k, dim=-1) if 0 < top_k < ids else logits.sort(dim=-1, descending=True)
    cumulative = torch.softmax(ranked.float() / params.temperature, dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1]
    if params.top_p < 1:  # keep the shortest prefix that holds top_p
        last = torch.searchsorted(cumulative, (total * params.top_p)[:, None]).clamp(max=ranked.shape[-1] - 1)
        total = cumulative.gather(1, last)[:, 0]
    place = torch.searchsorted(cumulative, (uniforms * total)[:, None], right=True).clamp(max=ranked.shape[-1] - 1)
    return order.gather(1, place)[:, 0]
