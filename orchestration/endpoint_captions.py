"""Captions by a chat endpoint: frames are decoded while earlier samples are being asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from reelmill.curation.captions.chat_client import Endpoint, EndpointFailed
from reelmill.orchestration.model_captions import ModelCaptionWorker, Outcome, Question, answered

GIVE_UP = 32
"""Samples that fail in a row, each with all its tries, before a worker stops asking: the endpoint is down."""


class EndpointWorker(ModelCaptionWorker):
    """Asks any endpoint that speaks OpenAI's chat API."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._failed_in_a_row = 0

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> Outcome:
        try:
            return asyncio.run(self._ask_all(rows))
        except ExceptionGroup as group:  # a wrong address or model stops the run with its own message
            raise group.exceptions[0] from None

    async def _ask_all(self, rows: Sequence[Mapping[str, Any]]) -> Outcome:
        outcome = Outcome()
        async with Endpoint(self._config.endpoint) as endpoint, asyncio.TaskGroup() as asking:
            for item in self._items(rows):
                if self._failed_in_a_row >= GIVE_UP:
                    message = f"not asked: {GIVE_UP} samples failed in a row at {self._config.endpoint.url}"
                    outcome.failures.extend(message for _ in item)
                    continue
                for question in await asyncio.to_thread(self._questions, item, outcome):
                    asking.create_task(self._ask_one(endpoint, question, outcome))
        return outcome

    async def _ask_one(self, endpoint: Endpoint, question: Question, outcome: Outcome) -> None:
        """One sample: all its parts, or none."""
        config = self._config
        try:
            answers = [await endpoint.ask(part, config.max_tokens, config.temperature) for part in question.parts]
        except EndpointFailed as failure:
            self._failed_in_a_row += 1
            outcome.failures.append(str(failure))
            return
        self._failed_in_a_row = 0
        outcome.rows.append(answered(question, answers))
