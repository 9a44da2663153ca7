"""Captions by vLLM in the worker's own process, on GPUs: it answers while the next samples are decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reelmill.config import at_least
from reelmill.curation.captions.ahead import decoded_ahead
from reelmill.curation.captions.config import VllmConfig
from reelmill.curation.captions.contract import (
    Answer,
    AnswerSettings,
    ModelCaptioner,
    Question,
    Reply,
    Resources,
)
from reelmill.curation.captions.frames import conversations
from reelmill.errors import ConfigError

LEAST = 8
"""Questions of a call, but for the last: fewer would leave most of a GPU idle."""


class VllmCaptioner(ModelCaptioner):
    """Asks a model that vLLM has loaded here. The same frames, prompts and checks as the endpoint's."""

    Config = VllmConfig

    def check(self, table: str) -> None:
        """A worker has a GPU at least."""
        at_least(table, self.config, workers=1, gpus=1)

    def resources(self) -> Resources:
        """Actors of its own, with GPUs."""
        return Resources(self.config.workers, float(self.config.gpus))

    def setup(self, settings: AnswerSettings) -> None:
        """Load the model. ConfigError where vLLM is not installed."""
        try:
            import vllm
        except ImportError:
            raise ConfigError(
                "captions by vllm need vLLM, which is not installed here: pip install 'reelmill[vllm]' (CUDA only), or "
                "start `vllm serve MODEL` anywhere and use the source endpoint with its address"
            ) from None
        self._llm = vllm.LLM(
            model=self.config.model,
            tensor_parallel_size=self.config.gpus,
            max_model_len=self.config.max_model_len,
            gpu_memory_utilization=self.config.gpu_memory,
            limit_mm_per_prompt={"image": settings.frames},
        )
        self._sampling = vllm.SamplingParams(max_tokens=settings.max_tokens, temperature=settings.temperature)

    def ask(self, questions: Iterator[Question]) -> Iterable[Reply]:
        """In calls of `LEAST` questions or more: of all that were decoded while it answered those before."""
        for batch in decoded_ahead(questions, LEAST):
            messages: list[Any] = [conversation for question in batch for conversation in conversations(question)]
            outputs = iter(self._llm.chat(messages, self._sampling, use_tqdm=False))
            for question in batch:
                choices = [next(outputs).outputs[0] for _ in question.parts]
                yield Reply(question, [Answer(choice.text, choice.finish_reason == "length") for choice in choices])
