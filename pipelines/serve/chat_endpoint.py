"""`POST /v1/chat/completions`: OpenAI's answers, text as it is sampled, with pictures in it.

A picture of the model stands in the content where the model generated it, as Markdown with a data URI. When it is sent
back as part of the conversation, it is a picture to the model again. Pictures are possible if `modalities` has "image".
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import numpy as np
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from reelmill.config import from_dict
from reelmill.eval.generation import Clip, Request, preview, rows_so_far
from reelmill.pipelines.serve.chat_request import ChatRequest, engine_request
from reelmill.pipelines.serve.encoding import data_uri, png
from reelmill.pipelines.serve.event_stream import Event, EventStream, comment, unless_disconnected
from reelmill.pipelines.serve.served_model import ServedModel
from reelmill.pipelines.serve.text_decoder import TextDecoder
from reelmill.pipelines.serve.token_stream import TokenStream
from reelmill.pipelines.web.json_body import read_json

COMMENT_S = 0.5


async def completions(http: HttpRequest) -> Response:
    """Answer: at the end, or as a stream of chunks."""
    served: ServedModel = http.app.state.served
    async with served.admission:
        chat = from_dict(ChatRequest, await read_json(http))
        served.check_model(chat.model)
        request = await served.vision_worker.run(engine_request, served, chat)
        tokens = TokenStream(served.engine, [request])
    answer = _Answer(served, chat, request)
    if chat.stream:
        return EventStream(_chunks(answer, tokens), tokens.close)
    try:
        return JSONResponse(await unless_disconnected(http, _whole(answer, tokens)))
    finally:
        tokens.close()


class _Answer:
    """An answer as it is generated, and its shape."""

    def __init__(self, served: ServedModel, chat: ChatRequest, request: Request) -> None:
        self.served, self.chat, self.request = served, chat, request
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
        self.new_tokens = self.pictures = self._rows_shown = 0
        self.finish_reason = "length"
        self.decoder = TextDecoder(served.studio)
        if request.prompts[0][-1] == served.studio.vocab.boi:  # the answer goes on inside of a picture
            self.decoder.append(served.studio.vocab.boi)

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
                    self.pictures, self._rows_shown = self.pictures + 1, 0
                    if self.pictures == self.chat.max_pictures:
                        is_last, self.finish_reason = True, "stop"
                        break
            text += self.decoder.flush() if is_last else ""
            text = text if has_begun else text.lstrip()
            has_begun = has_begun or bool(text)
            yield text or None

    async def news(self, tokens: TokenStream) -> dict[str, Any]:
        """How far the answer is: its tokens, and the rows of the picture that is being drawn, with a preview of it
        where one was asked for and there is time."""
        news: dict[str, Any] = {"tokens": self.new_tokens, "queue_position": tokens.queue_position}
        found = rows_so_far(self.served.studio.vocab, self.decoder.block)
        if found is None:
            return news
        header, rows = found
        news |= {"rows": len(rows), "total_rows": header.h * header.t}
        if self.chat.previews and len(rows) > self._rows_shown:
            shown = await self.served.vision_worker.run_if_idle(self._preview, list(self.decoder.block))
            if shown:
                self._rows_shown = len(rows)
                news["preview"] = shown
        return news

    def _picture(self, block: list[int]) -> str:
        studio = self.served.studio
        (clip,) = studio.parts(np.array([studio.vocab.bos, *block], dtype=np.int32))
        assert isinstance(clip, Clip)
        return data_uri(clip)

    def _preview(self, block: list[int]) -> str | None:
        shown = preview(self.served.studio.vocab, self.served.studio.vision, block)
        return None if shown is None else f"data:image/png;base64,{base64.b64encode(png(shown)).decode()}"

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of the prompt and tokens sampled."""
        prompt = len(self.request.prompts[0])
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.new_tokens,
            "total_tokens": prompt + self.new_tokens,
        }


async def _whole(answer: _Answer, tokens: TokenStream) -> dict[str, Any]:
    async with aclosing(answer.pieces(tokens)) as pieces:
        content = "".join([piece async for piece in pieces if piece])
    message = {"role": "assistant", "content": content.rstrip(), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
    return {**answer.head, "object": "chat.completion", "choices": [choice], "usage": answer.usage}


async def _chunks(answer: _Answer, tokens: TokenStream) -> AsyncIterator[Event]:
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
                yield comment(await answer.news(tokens))
                last_comment = time.monotonic()
    yield chunk({}, answer.finish_reason)
    if answer.chat.stream_options.get("include_usage"):
        yield {**answer.head, "object": "chat.completion.chunk", "choices": [], "usage": answer.usage}
    yield "[DONE]"
