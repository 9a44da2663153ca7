"""Captions by any chat endpoint that speaks OpenAI's API: frames are decoded while earlier samples are asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from reelmill.config import at_least
from reelmill.curation.captions.chat_client import Endpoint, EndpointFailed
from reelmill.curation.captions.config import EndpointConfig
from reelmill.curation.captions.contract import AnswerSettings, ModelCaptioner, Question, Reply, Unavailable
from reelmill.curation.captions.frames import conversations
from reelmill.errors import ConfigError

GIVE_UP = 32
"""Samples that fail in a row, each with all its tries, before a worker stops asking: the endpoint is down."""


class EndpointCaptioner(ModelCaptioner):
    """Asks an endpoint, many requests at a time."""

    Config = EndpointConfig

    def check(self, table: str) -> None:
        """Any http(s) address may be the operator's own, this machine's included; nothing else is one."""
        url = self.config.url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            example = "http://127.0.0.1:8000/v1"
            raise ConfigError(f"{table}.url is {url!r}; it must be an http or https address such as {example}")
        if parts.username or parts.password:
            raise ConfigError(f"{table}.url holds a password; put the key into the variable of api_key_env")
        at_least(table, self.config, concurrency=1, tries=1)

    def address(self) -> str:
        """The endpoint's."""
        return str(self.config.url)

    def setup(self, settings: AnswerSettings) -> None:
        """Nothing is loaded; a connection is made for each batch."""
        self._settings = settings
        self._failed_in_a_row = 0

    def ask(self, questions: Iterator[Question]) -> Iterable[Reply]:
        """All replies of a batch. Unavailable once the endpoint is down, in this batch and in those that follow."""
        try:
            yield from asyncio.run(self._ask_all(questions))
        except ExceptionGroup as group:  # a wrong address or model stops the run with its own message
            raise group.exceptions[0] from None
        if self._failed_in_a_row >= GIVE_UP:
            raise Unavailable(f"{GIVE_UP} samples failed in a row at {self.config.url}")

    async def _ask_all(self, questions: Iterator[Question]) -> list[Reply]:
        replies: list[Reply] = []
        async with Endpoint(self.config) as endpoint, asyncio.TaskGroup() as asking:
            while self._failed_in_a_row < GIVE_UP and (question := await asyncio.to_thread(next, questions, None)):
                asking.create_task(self._ask_one(endpoint, question, replies))
        return replies

    async def _ask_one(self, endpoint: Endpoint, question: Question, replies: list[Reply]) -> None:
        """One sample: all its parts, or none."""
        settings = self._settings
        try:
            answers = [
                await endpoint.ask(messages, settings.max_tokens, settings.temperature)
                for messages in conversations(question)
            ]
        except EndpointFailed as failure:
            self._failed_in_a_row += 1
            replies.append(Reply(question, failure=str(failure)))
            return
        self._failed_in_a_row = 0
        replies.append(Reply(question, answers))
