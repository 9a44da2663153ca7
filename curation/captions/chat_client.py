"""A client of any chat endpoint that speaks OpenAI's API: bounded, retried, suspicious of what comes back."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import httpx2

from reelmill.curation.captions.config import EndpointConfig
from reelmill.curation.captions.contract import Answer
from reelmill.errors import ConfigError, brief
from reelmill.isolation.untrusted import First, Maybe, Nonsense, Record, Text, load_json

MAX_WAIT_S = 60.0
TRY_AGAIN = {408, 409, 425, 429}
_COMPLETION = Record(
    {
        "choices": First(
            Record(
                {
                    "message": Record({"content": Maybe(Text(1 << 20, repair=True))}),
                    "finish_reason": Maybe(Text(100)),
                }
            )
        )
    }
)
MISCONFIGURED = {301, 302, 303, 307, 308, 401, 403, 404, 405}


class EndpointFailed(Exception):
    """The endpoint gave no usable answer; asking again later may help."""


class TransientError(EndpointFailed):
    """A failure that may be gone in a moment; `wait_s` when the server said how long it takes."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Endpoint:
    """Asks one model. Use as an asynchronous context manager; `ask` may be called concurrently."""

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.concurrency)
        key = os.environ.get(config.api_key_env, "") if config.api_key_env else ""
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(config.request_s, connect=config.connect_s, pool=None),
            limits=httpx2.Limits(max_connections=config.concurrency),
        )

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(self, messages: Sequence[dict[str, Any]], max_tokens: int, temperature: float) -> Answer:
        """The model's answer to a conversation.

        Connection failures, stalls, 429, 5xx and malformed answers are tried again with growing waits. Raises
        EndpointFailed when that did not help, ConfigError when the address, the key or the model must be wrong.
        """
        request = {
            "model": self._config.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": False,
        }
        body = json.dumps(request).encode()
        wait_s = self._config.backoff_s
        for attempt in range(1, self._config.tries + 1):
            try:
                async with self._slots:
                    return await self._once(body)
            except TransientError as failure:
                if attempt == self._config.tries:
                    raise EndpointFailed(f"{failure} ({attempt} tries)") from None
                await asyncio.sleep(min(failure.wait_s or wait_s * random.uniform(0.5, 1.5), MAX_WAIT_S))
                wait_s *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    async def _once(self, body: bytes) -> Answer:
        config = self._config
        url = f"{config.url.rstrip('/')}/chat/completions"
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(config.request_s),
                self._client.stream("POST", url, content=body, headers=headers) as response,
            ):
                text = await self._read(response)
        except TimeoutError:
            raise TransientError(f"timeout: no whole answer within {config.request_s:g} s") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise TransientError(f"{type(error).__name__}: {brief(str(error)) or 'no message'}") from None
        _check_status(response, text, config)
        return _answer(text)

    async def _read(self, response: httpx2.Response) -> bytes:
        """The body, as long as it is within the bound."""
        most = self._config.max_response_bytes
        read = bytearray()
        async for chunk in response.aiter_bytes():
            read += chunk
            if len(read) > most:
                raise TransientError(f"too_large: the answer has more than {most} bytes")
        return bytes(read)


def _check_status(response: httpx2.Response, text: bytes, config: EndpointConfig) -> None:
    status = response.status_code
    if status == 200:
        return
    message = f"status {status}: {brief(text.decode('utf-8', 'replace')) or 'no message'}"
    if status in MISCONFIGURED:
        raise ConfigError(
            f"the endpoint {config.url} answered {message}. Check its url in the recipe (it ends in /v1), "
            f"its model ({config.model!r}) and the key in {config.api_key_env or '(no variable)'}."
        )
    if status in TRY_AGAIN or status >= 500:
        raise TransientError(message, _retry_after(response))
    raise EndpointFailed(message)


def _retry_after(response: httpx2.Response) -> float | None:
    header: str = response.headers.get("retry-after", "")
    return float(header) if header.isascii() and header.isdigit() and len(header) <= 6 else None


def _answer(text: bytes) -> Answer:
    """The first choice's text. A missing text is an answer too: an empty one."""
    try:
        choice = _COMPLETION.check(load_json(text), "the answer")["choices"]
    except Nonsense as error:
        raise TransientError(f"nonsense: no chat completion: {error}") from None
    return Answer(choice["message"]["content"] or "", choice["finish_reason"] == "length")
