"""How a request to draw a picture or a video may state its sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reelmill.errors import ConfigError
from reelmill.eval.generation import SamplingParams
from reelmill.pipelines.generate.prompts import check_text
from reelmill.pipelines.serve.served_model import given


@dataclass(kw_only=True)
class SamplingFields:
    """What is not stated is as the server has it."""

    seed: int | None = None
    negative_prompt: str | None = None
    guidance: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    def check_fields(self, prompt: str, **bounds: tuple[float, float]) -> None:
        """Raise ConfigError for numbers out of bounds, of these fields and those named; DataError for too long text."""
        bounds |= {"seed": (0, 2**63 - 1), "guidance": (0, 100), "temperature": (0, 100), "top_k": (0, 2**31)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be {low} to {high}")
        check_text(prompt, "prompt")
        check_text(self.negative_prompt or "", "negative_prompt")

    def sampling(self, usual: SamplingParams, seed: int) -> SamplingParams:
        """The server's usual sampling, with what the request states."""
        vision = replace(usual.vision, **given(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p))
        return replace(usual, vision=vision, seed=seed, **given(guidance=self.guidance, negative=self.negative_prompt))
