"""`POST /v1/chat/completions`: OpenAI's request and answers, text as it is sampled, with pictures in it.

A picture of the model stands in the content where the model generated it, as Markdown with a data URI. When it is sent
back as part of the conversation, it is a picture to the model again. Pictures are possible if `modalities` has "image".
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.eval.generation import Clip, Request, SamplingParams, Studio, task_request
from reelmill.eval.generation.studio import PICTURE_TASKS
from reelmill.pipelines.serve.chat_messages import Part, parse_messages
from reelmill.pipelines.serve.encoding import data_uri
from reelmill.pipelines.serve.event_stream import Event, EventStream, comment, unless_disconnected
from reelmill.pipelines.serve.served_model import ServedModel, given
from reelmill.pipelines.serve.token_stream import TokenStream
from reelmill.pipelines.web.json_body import read_json
from reelmill.tokenize.documents import Visual, interleaved_document
from reelmill.tokenize.documents.chat import Turn, chat_prompt

TEXT_TOKENS = 512
"""The most tokens of an answer in text, if a request does not say."""
COMMENT_S = 0.5
_LONGEST_CHARACTER = 8
"""A character that is incomplete after this many tokens never completes."""


@dataclass(kw_only=True)
class ChatRequest:
    """The body: OpenAI's fields, `top_k`, `guidance`, `image_guidance` and `task`. Fields that only OpenAI can use
    (user, store) have no effect.

    `top_p` and `top_k` apply to text, `temperature` to text and codes, `guidance` and `image_guidance` to codes. `task`
    is one of Emu3.5's: the last message is what it is asked, and an answer may contain pictures.
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
    image_guidance: float | None = None
    task: str | None = None
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
        """Raise ConfigError for numbers out of bounds."""
        for name, value, low, high in (
            ("max_completion_tokens", self.max_new_tokens, 1, 10**6),
            ("seed", self.seed, 0, 2**63 - 1),
            ("temperature", self.temperature, 0, 100),
            ("top_k", self.top_k, 0, 2**31),
            ("guidance", self.guidance, 0, 100),
            ("image_guidance", self.image_guidance, 0, 100),
        ):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be {low} to {high}")

    @property
    def max_new_tokens(self) -> int | None:
        """The most tokens of the answer, under either of OpenAI's names."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def sampling(self, usual: SamplingParams, seed: int) -> SamplingParams:
        """The server's usual sampling, with what the request states."""
        text = replace(usual.text, **given(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p))
        vision = replace(usual.vision, **given(temperature=self.temperature))
        guidance = given(guidance=self.guidance, image_guidance=self.image_guidance)
        return replace(usual, text=text, vision=vision, seed=seed, **guidance)


def engine_request(served: ServedModel, request: ChatRequest) -> Request:
    """The request for the engine. It takes a while: pictures are decoded and encoded here."""
    request.check()
    studio, vocab = served.studio, served.studio.vocab

    def encode(data: bytes, where: str) -> Visual:
        picture = served.uploads.picture(data, served.area, studio.vision.spatial, where)
        return Visual(studio.vision.encode_image(picture))

    system, turns, question = parse_messages(request.messages, encode)
    seed = random.getrandbits(31) if request.seed is None else request.seed
    sampling = request.sampling(served.preset.sampling, seed)
    if request.task is not None:
        return _task_request(served, request, turns, question, sampling)
    prompt = chat_prompt(vocab, question, turns, system)
    may_draw = "image" in request.modalities
    room = served.engine.capacity - len(prompt)
    max_new_tokens = request.max_new_tokens
    if max_new_tokens is None:
        max_new_tokens = max(1, room if may_draw else min(room, TEXT_TOKENS))
    # The unconditional prompt has the pictures so far and the negative text, as for pages.
    parts = [part for turn in (*turns, Turn(question, ())) for part in (*turn.question, *turn.answer)]
    without_text: list[Part] = [*(part for part in parts if isinstance(part, Visual)), sampling.negative]
    return Request(
        prompt=prompt,
        unconditional=interleaved_document(vocab, without_text)[:-1] if may_draw and sampling.guidance != 1 else None,
        max_new_tokens=max_new_tokens,
        stop_id=vocab.eos,
        sampling=sampling,
        grammar=studio.grammar,
        allowed_ids=None if may_draw else ((0, vocab.text_size), (vocab.eos, vocab.eos + 1)),
    )


def _task_request(
    served: ServedModel, request: ChatRequest, turns: Sequence[Turn], question: Sequence[Part], sampling: SamplingParams
) -> Request:
    """The request for the answer in a task. t2i and x2i end with their first picture."""
    assert request.task is not None
    studio = served.studio
    words = " ".join(part for part in question if isinstance(part, str))
    pictures = [part for part in question if isinstance(part, Visual)]
    asked = task_request(
        studio.visual_grammar if request.task in PICTURE_TASKS else studio.grammar,
        request.task,
        words,
        request.max_new_tokens or 1,
        pictures=pictures,
        before=turns,
        sampling=sampling,
    )
    room = served.engine.capacity - max(map(len, asked.prompts))
    return asked if request.max_new_tokens else replace(asked, max_new_tokens=max(1, room))


async def completions(http: HttpRequest) -> Response:
    """Answer: at the end, or as a stream of chunks."""
    served: ServedModel = http.app.state.served
    async with served.admission:
        chat = from_dict(ChatRequest, await read_json(http))
        served.check_model(chat.model)
        request = await served.vision_worker.run(engine_request, served, chat)
        tokens = TokenStream(served.engine, [request])
    answer = _Answer(served, request)
    if chat.stream:
        return EventStream(_chunks(answer, tokens, bool(chat.stream_options.get("include_usage"))), tokens.close)
    try:
        return JSONResponse(await unless_disconnected(http, _whole(answer, tokens)))
    finally:
        tokens.close()


class _Answer:
    """An answer as it is generated, and its shape."""

    def __init__(self, served: ServedModel, request: Request) -> None:
        self.served, self.request, self.decoder = served, request, TextDecoder(served.studio)
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
        self.new_tokens = 0
        self.finish_reason = "length"

    async def pieces(self, tokens: TokenStream) -> AsyncGenerator[str | None, None]:
        """The content piece by piece; None now and then if there is nothing new."""
        is_last, has_begun = False, False
        while not is_last:
            text = ""
            for _, sampled in await tokens.read(COMMENT_S):
                self.new_tokens += 1
                is_last = sampled.is_last
                if sampled.token == self.request.stop_id:
                    self.finish_reason = "stop"
                text += self.decoder.append(sampled.token)
                block = self.decoder.picture
                if block:
                    text += f"\n\n![picture]({await self.served.vision_worker.run(self._picture, block)})\n\n"
            text += self.decoder.flush() if is_last else ""
            text = text if has_begun else text.lstrip()
            has_begun = has_begun or bool(text)
            yield text or None

    def _picture(self, block: list[int]) -> str:
        studio = self.served.studio
        (clip,) = studio.parts(np.array([studio.vocab.bos, *block], dtype=np.int32))
        assert isinstance(clip, Clip)
        return data_uri(clip)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of the prompt and tokens sampled."""
        prompt = len(self.request.prompts[0])
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.new_tokens,
            "total_tokens": prompt + self.new_tokens,
        }


class TextDecoder:
    """Decodes tokens one by one to text. `picture` is the block that has just ended, BOI to EOI."""

    def __init__(self, studio: Studio) -> None:
        self._vocab = studio.vocab
        self._pending: list[int] = []
        self._block: list[int] = []
        self.picture: list[int] | None = None

    def append(self, token: int) -> str:
        """The text that this token completes."""
        vocab = self._vocab
        self.picture = None
        if self._block or token == vocab.boi:
            self._block.append(token)
            if token == vocab.eoi:
                self.picture, self._block = self._block, []
            return self.flush()
        if token in (vocab.bog, vocab.boc):  # a thought is a quotation
            return f"{self.flush()}\n\n> "
        if token in (vocab.eog, vocab.eoc):
            return f"{self.flush()}\n\n"
        if token >= vocab.text_size:
            return self.flush()
        self._pending.append(token)
        text = vocab.tokenizer.decode(self._pending)
        # The bytes of a character may be spread over several tokens.
        if text.endswith("\ufffd") and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        self._pending = []
        return text

    def flush(self) -> str:
        """The text that was held back."""
        text = self._vocab.tokenizer.decode(self._pending)
        self._pending = []
        return text


async def _whole(answer: _Answer, tokens: TokenStream) -> dict[str, Any]:
    async with aclosing(answer.pieces(tokens)) as pieces:
        content = "".join([piece async for piece in pieces if piece])
    message = {"role": "assistant", "content": content.rstrip(), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
    return {**answer.head, "object": "chat.completion", "choices": [choice], "usage": answer.usage}


async def _chunks(answer: _Answer, tokens: TokenStream, with_usage: bool) -> AsyncIterator[Event]:
    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**answer.head, "object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    last_comment = 0.0
    async with aclosing(answer.pieces(tokens)) as pieces:
        async for piece in pieces:
            if piece:
                yield chunk({"content": piece})
            elif time.monotonic() - last_comment >= COMMENT_S:
                last_comment = time.monotonic()
                yield comment({"tokens": answer.new_tokens, "queue_position": tokens.queue_position})
    yield chunk({}, answer.finish_reason)
    if with_usage:
        yield {**answer.head, "object": "chat.completion.chunk", "choices": [], "usage": answer.usage}
    yield "[DONE]"
