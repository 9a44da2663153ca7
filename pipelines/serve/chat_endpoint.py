"""`POST /v1/chat/completions`: OpenAI's request and answers, words as they are drawn, pictures among them.

A picture of the model stands in the answer's content where the model drew it, as Markdown with a data URI; sent back
as part of the conversation it is a picture again. Pictures are drawn where `modalities` names "image".
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response

from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.eval.generation import Request, SamplingParams, Studio
from reelmill.pipelines.serve.chat_messages import Part, conversation
from reelmill.pipelines.serve.event_stream import Event, EventStream, comment, unless_left
from reelmill.pipelines.serve.served_model import Serving, given
from reelmill.pipelines.serve.token_stream import Ticket
from reelmill.pipelines.serve.uploads import data_uri
from reelmill.pipelines.web.errors import read_json
from reelmill.tokenize.documents import Visual, interleaved_document
from reelmill.tokenize.documents.chat import Turn, chat_prompt

MOST_WORDS = 512
"""Tokens of an answer in words, where a request does not say."""
TICK_S = 0.5
_LONGEST_CHARACTER = 8
"""A character that is not whole after so many tokens never will be."""


@dataclass(kw_only=True)
class ChatAsked:
    """The body: OpenAI's fields, `top_k` and `guidance`. What is OpenAI's own business (user, store) changes nothing.

    `top_p` and `top_k` are those of words, `temperature` that of codes too; `guidance` is that of codes.
    """

    messages: list[Any]
    model: str | None = None
    modalities: list[Literal["text", "image"]] = field(default_factory=lambda: ["text"])
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    guidance: float | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: dict[str, bool] = field(default_factory=dict)
    n: Literal[1] = 1
    logprobs: Literal[False] = False
    frequency_penalty: Literal[0] = 0
    presence_penalty: Literal[0] = 0
    user: str = ""
    store: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    safety_identifier: str = ""

    def check(self) -> None:
        """Raise ConfigError for numbers beyond their bounds."""
        for name, value, low, high in (
            ("max_completion_tokens", self.most, 1, 10**6),
            ("seed", self.seed, 0, 2**63 - 1),
            ("temperature", self.temperature, 0, 100),
            ("top_k", self.top_k, 0, 2**31),
            ("guidance", self.guidance, 0, 100),
        ):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be {low} to {high}")

    @property
    def most(self) -> int | None:
        """Most tokens of the answer, under either name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def sampling(self, usual: SamplingParams, seed: int) -> SamplingParams:
        """How it is drawn: as usual, where nothing else is asked for."""
        text = replace(usual.text, **given(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p))
        vision = replace(usual.vision, **given(temperature=self.temperature))
        return replace(usual, text=text, vision=vision, seed=seed, **given(guidance=self.guidance))


def request_of(serving: Serving, asked: ChatAsked) -> Request:
    """What is to be drawn. Pictures are decoded and encoded here, which takes its time."""
    asked.check()
    studio, vocab = serving.studio, serving.studio.vocab

    def see(data: bytes, where: str) -> Visual:
        picture = serving.uploads.picture(data, serving.area, studio.vision.spatial, where)
        return Visual(studio.vision.encode_image(picture))

    system, turns, question = conversation(asked.messages, see)
    prompt = chat_prompt(vocab, question, turns, system)
    draws = "image" in asked.modalities
    room = serving.service.capacity - len(prompt)
    seed = random.getrandbits(31) if asked.seed is None else asked.seed
    sampling = asked.sampling(serving.preset.sampling, seed)
    # Guidance is away from the pictures so far without a word, as in pages that are drawn freely.
    parts = [part for turn in (*turns, Turn(question, ())) for part in (*turn.question, *turn.answer)]
    wordless: list[Part] = [*(part for part in parts if isinstance(part, Visual)), serving.preset.negative]
    return Request(
        prompt=prompt,
        unconditional=interleaved_document(vocab, wordless)[:-1] if draws and sampling.guidance != 1 else None,
        most=max(1, room if draws else min(room, MOST_WORDS)) if asked.most is None else asked.most,
        end=vocab.eos,
        sampling=sampling,
        grammar=studio.free,
        only=None if draws else ((0, vocab.text_size), (vocab.eos, vocab.eos + 1)),
    )


async def completions(request: Asked) -> Response:
    """Answer: whole, or as a stream of chunks."""
    serving: Serving = request.app.state.serving
    async with serving.desk:
        asked = from_dict(ChatAsked, await read_json(request))
        serving.check_model(asked.model)
        asking = await serving.eye.look(request_of, serving, asked)
        ticket = Ticket(serving.service, [asking])
    answer = _Answer(serving, asking)
    if asked.stream:
        return EventStream(_chunks(answer, ticket, bool(asked.stream_options.get("include_usage"))), ticket.close)
    try:
        return JSONResponse(await unless_left(request, _whole(answer, ticket)))
    finally:
        ticket.close()


class _Answer:
    """An answer as it is drawn, and its shape."""

    def __init__(self, serving: Serving, request: Request) -> None:
        self.serving, self.request, self.words = serving, request, Words(serving.studio)
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": serving.name}
        self.count = 0
        self.reason = "length"

    async def pieces(self, ticket: Ticket) -> AsyncGenerator[str | None, None]:
        """The content piece by piece; None now and then where there is nothing new."""
        is_last, begun = False, False
        while not is_last:
            new = ""
            for _, drawn in await ticket.some(TICK_S):
                self.count += 1
                is_last = drawn.is_last
                if drawn.token == self.request.end:
                    self.reason = "stop"
                new += self.words.take(drawn.token)
                block = self.words.picture
                if block:
                    new += f"\n\n![picture]({await self.serving.eye.look(self._picture, block)})\n\n"
            new += self.words.rest() if is_last else ""
            new = new if begun else new.lstrip()
            begun = begun or bool(new)
            yield new or None

    def _picture(self, block: list[int]) -> str:
        studio = self.serving.studio
        (clip,) = studio.parts(np.array([studio.vocab.bos, *block], dtype=np.int32))
        assert not isinstance(clip, str)
        return data_uri(clip)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and drawn."""
        read = len(self.request.prompts[0])
        return {"prompt_tokens": read, "completion_tokens": self.count, "total_tokens": read + self.count}


class Words:
    """Text out of tokens that come one by one; `picture` is the block that has just ended, BOI to EOI."""

    def __init__(self, studio: Studio) -> None:
        self._vocab = studio.vocab
        self._pending: list[int] = []
        self._block: list[int] = []
        self.picture: list[int] | None = None

    def take(self, token: int) -> str:
        """The text that is whole with this token."""
        vocab = self._vocab
        self.picture = None
        if self._block or token == vocab.boi:
            self._block.append(token)
            if token == vocab.eoi:
                self.picture, self._block = self._block, []
            return self.rest()
        if token >= vocab.text_size:
            return self.rest()
        self._pending.append(token)
        text = vocab.tokenizer.decode(self._pending)
        # Bytes of a character whose other bytes are still to come.
        if text.endswith("\ufffd") and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        self._pending = []
        return text

    def rest(self) -> str:
        """What was held back."""
        text = self._vocab.tokenizer.decode(self._pending)
        self._pending = []
        return text


async def _whole(answer: _Answer, ticket: Ticket) -> dict[str, Any]:
    async with aclosing(answer.pieces(ticket)) as pieces:
        content = "".join([piece async for piece in pieces if piece])
    message = {"role": "assistant", "content": content.rstrip(), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": answer.reason, "logprobs": None}
    return {**answer.head, "object": "chat.completion", "choices": [choice], "usage": answer.usage}


async def _chunks(answer: _Answer, ticket: Ticket, with_usage: bool) -> AsyncIterator[Event]:
    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**answer.head, "object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    said = 0.0
    async with aclosing(answer.pieces(ticket)) as pieces:
        async for piece in pieces:
            if piece:
                yield chunk({"content": piece})
            elif time.monotonic() - said >= TICK_S:
                said = time.monotonic()
                yield comment({"tokens": answer.count, "before": ticket.before})
    yield chunk({}, answer.reason)
    if with_usage:
        yield {**answer.head, "object": "chat.completion.chunk", "choices": [], "usage": answer.usage}
    yield "[DONE]"
