"""Captions by vLLM in the worker's own process, on GPUs: one actor a model, requests of a task in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reelmill.curation.captions.chat_client import Answer
from reelmill.errors import ConfigError
from reelmill.orchestration.model_captions import ModelCaptionWorker, Outcome, answered


class VllmWorker(ModelCaptionWorker):
    """Asks a model that vLLM has loaded here. The same frames, words and checks as the endpoint's."""

    def __init__(self, settings: dict[str, Any]) -> None:
        try:
            import vllm
        except ImportError:
            raise ConfigError(
                "captions by vllm need vLLM, which is not installed here: pip install 'reelmill[vllm]' (CUDA only), or "
                "start `vllm serve MODEL` anywhere and use the source endpoint with its address"
            ) from None
        super().__init__(settings)
        config = self._config
        self._llm = vllm.LLM(
            model=config.vllm.model,
            tensor_parallel_size=config.vllm.gpus,
            max_model_len=config.vllm.max_model_len,
            gpu_memory_utilization=config.vllm.gpu_memory,
            limit_mm_per_prompt={"image": config.frames.frames},
        )
        self._sampling = vllm.SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature)

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> Outcome:
        outcome = Outcome()
        questions = [question for item in self._items(rows) for question in self._questions(item, outcome)]
        conversations: list[Any] = [part for question in questions for part in question.parts]
        if not conversations:
            return outcome
        outputs = iter(self._llm.chat(conversations, self._sampling, use_tqdm=False))
        for question in questions:
            choices = [next(outputs).outputs[0] for _ in question.parts]
            answers = [Answer(choice.text, choice.finish_reason == "length") for choice in choices]
            outcome.rows.append(answered(question, answers))
        return outcome
