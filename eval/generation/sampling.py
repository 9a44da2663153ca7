"""How the next token is drawn from logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reelmill.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Of one kind of token. `temperature` 0 takes the likeliest; `top_k` 0 and `top_p` 1 let all stand."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        if not self.temperature >= 0:
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 (the likeliest token) or more.")
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}; it must be 0 (all tokens) or more.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be over 0 and at most 1 (all tokens).")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a sequence is drawn: codes by `vision`, all else by `text`.

    `guidance` s draws from unconditional + s * (conditional - unconditional) logits (classifier-free guidance), where a
    request has an unconditional prompt; 1 draws from the conditional ones alone. The defaults of `vision` are those of
    Emu3's released image generation, which guides by 3.
    """

    vision: Draw = Draw(top_k=2048)
    text: Draw = Draw()
    guidance: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        self.vision.check()
        self.text.check()
        if not self.guidance >= 0:
            raise ConfigError(f"guidance is {self.guidance}; it must be 0 or more, 1 for none.")


def draw(logits: Tensor, how: Draw, chances: Tensor) -> Tensor:
    """An index int64 [n] a row of logits [n, ids], each by its own chance float32 [n] in [0, 1).

    The kept ids lie on [0, 1) from the likeliest on, each as wide as its probability; the chance says which is taken.
    So a row's draw depends on its own logits and chance alone, whatever other rows there are.
    """
    if how.temperature == 0:
        return logits.argmax(dim=-1)
    ids = logits.shape[-1]
    ranked, order = logits.topk(how.top_k, dim=-1) if 0 < how.top_k < ids else logits.sort(dim=-1, descending=True)
    reached = torch.softmax(ranked.float() / how.temperature, dim=-1).cumsum(dim=-1)
    # What remains is the shortest beginning that holds top_p.
    whole = reached[:, -1]
    if how.top_p < 1:
        last = torch.searchsorted(reached, (whole * how.top_p)[:, None]).clamp(max=ranked.shape[-1] - 1)
        whole = reached.gather(1, last)[:, 0]
    place = torch.searchsorted(reached, (chances * whole)[:, None], right=True).clamp(max=ranked.shape[-1] - 1)
    return order.gather(1, place)[:, 0]
