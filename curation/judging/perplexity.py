"""How well a transcript reads to a language model on this machine: its perplexity.

A causal model of Transformers in a folder: `config.json`, weights in safetensors, the tokenizer. No code of the folder
runs.
"""

from __future__ import annotations

import math
from pathlib import Path

from reelmill.compat import torchvision
from reelmill.curation.judging.answers import Judgement
from reelmill.errors import ConfigError, WeightsError

MOST_CONTEXT = 2048
"""Tokens that are read together, at most: attention costs the square of them."""
LEAST_TOKENS = 8
"""Of fewer a perplexity says nothing."""


def require(folder: str) -> Path:
    """The folder of a model, looked at but not loaded. WeightsError where it holds none."""
    path = Path(folder)
    if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
        raise WeightsError(
            f"{folder}, which judging.lm.model names, is no folder of a causal language model of Transformers: it "
            "needs config.json, weights in safetensors and a tokenizer."
        )
    return path


class Perplexity:
    """A causal language model and its tokenizer."""

    def __init__(self, folder: str) -> None:
        """Raises ConfigError without Transformers, WeightsError for a folder that cannot be loaded."""
        path = require(folder)
        torchvision()
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise ConfigError(
                "judge perplexity needs Transformers. Run: pip install transformers, or leave it out of judging.ask"
            ) from None
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, **local)
            self._model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, **local).eval()
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder}, which judging.lm.model names, cannot be loaded: {error}") from None
        known = getattr(self._model.config, "max_position_embeddings", None) or MOST_CONTEXT
        self._context = min(int(known), MOST_CONTEXT)

    def judge(self, text: str) -> Judgement:
        """e to the mean negative log-probability of the text's tokens, each given those before it.

        A long text is read in parts of the model's context, each after the beginning-of-text token where the model has
        one; else a part's first token is not counted.
        """
        import torch

        if not text:
            return Judgement(None, problem="nothing_said")
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        begin = self._tokenizer.bos_token_id
        first = [] if begin is None else [begin]
        size = self._context - len(first)
        total, counted = 0.0, 0
        for start in range(0, len(ids), size):
            part = torch.tensor([[*first, *ids[start : start + size]]])
            if part.shape[1] < 2:
                continue
            with torch.inference_mode():
                logits = self._model(input_ids=part).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="sum"))
            counted += part.shape[1] - 1
        if counted < LEAST_TOKENS:
            return Judgement(None, problem="too_short")
        return Judgement(math.exp(min(total / counted, 700.0)))
