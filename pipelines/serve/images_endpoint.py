"""`POST /v1/images/generations`: OpenAI's request and answers, and previews of pictures that are being generated."""

from __future__ import annotations

import asyncio
import base64
import math
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

import reelmill
from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.eval.generation import (
    PictureDraft,
    Request,
    SamplingParams,
    draft_preview,
    image_request,
    preview,
    task_picture_request,
)
from reelmill.pipelines.generate.options import MAX_REFERENCES
from reelmill.pipelines.serve.encoding import png
from reelmill.pipelines.serve.event_stream import Event, EventStream, comment, unless_disconnected
from reelmill.pipelines.serve.sampling_fields import SamplingFields
from reelmill.pipelines.serve.served_model import ServedModel, given
from reelmill.pipelines.serve.sizes import AUTO, grid_of
from reelmill.pipelines.serve.token_stream import TokenStream
from reelmill.pipelines.serve.uploads import bytes_of
from reelmill.pipelines.web.json_body import read_json
from reelmill.tokenize.documents import Header, Visual
from reelmill.tokenize.vision import Frames

MAX_IMAGES = 10
MAX_PARTIALS = 64
COMMENT_S = 0.5
"""How often a stream says how far it is, if there is nothing else to send."""


@dataclass(kw_only=True)
class ImagesRequest(SamplingFields):
    """The body: OpenAI's fields, then ours. Fields that only OpenAI can use (quality, style, user) have no effect.

    `task`: asks in the words of one of Emu3.5's tasks. `images`: data URIs of the pictures that x2i is about; with the
    size `auto` the answer has the shape of the first.
    """

    prompt: str
    model: str | None = None
    n: int = 1
    size: str = AUTO
    stream: bool = False
    partial_images: int = 0
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png"] = "png"
    background: Literal["auto", "opaque"] = "auto"
    quality: str = "auto"
    style: str = ""
    moderation: str = ""
    user: str = ""
    safety_identifier: str = ""
    task: Literal["t2i", "x2i"] | None = None
    images: list[str] = field(default_factory=list)
    image_guidance: float | None = None

    def check(self) -> None:
        """Raise ConfigError for numbers out of bounds, DataError for text that is too long."""
        self.check_fields(self.prompt, n=(1, MAX_IMAGES), partial_images=(0, MAX_PARTIALS), image_guidance=(0, 100))
        least, most = (1, MAX_REFERENCES) if self.task == "x2i" else (0, 0)
        if not least <= len(self.images) <= most:
            raise ConfigError(
                f"there are {len(self.images)} images, the task is {self.task}; x2i takes 1 to {MAX_REFERENCES}, any "
                "other none"
            )

    def sampling(self, usual: SamplingParams, seed: int) -> SamplingParams:
        """The server's usual sampling, with what the request states."""
        stated = super().sampling(usual, seed)
        return replace(stated, **given(image_guidance=self.image_guidance))


class ImageBatch:
    """The pictures of one request and their tokens so far. It takes a while to make: `images` are encoded."""

    def __init__(self, served: ServedModel, request: ImagesRequest) -> None:
        request.check()
        self.served, self.request = served, request
        seed = random.getrandbits(31) if request.seed is None else request.seed
        self.cell = served.studio.vision.spatial
        given = [self._given(uri, f"images[{number}]") for number, uri in enumerate(request.images)]
        if given and request.size == AUTO:
            self.h, self.w = given[0].codes.shape
        else:
            self.h, self.w = grid_of(request.size, served.area, served.studio)
        self.sampling = request.sampling(served.preset.sampling, seed)
        self.prompt = request.prompt + served.preset.suffix
        self.requests: list[Request] = [self._request(given, stream) for stream in range(request.n)]
        self._tokens: list[list[int]] = [[] for _ in self.requests]
        self._codes = [0] * request.n
        self.drafts: dict[int, PictureDraft] = {}
        """By number, pictures that are drawn in another order than that of their tokens."""
        # Rows from which a partial picture is due, the last one first.
        steps = range(request.partial_images, 0, -1)
        due = [math.ceil(self.h * step / (request.partial_images + 1)) for step in steps]
        self._due = [list(due) for _ in self.requests]

    def _given(self, uri: str, field: str) -> Visual:
        vision = self.served.studio.vision
        data = bytes_of(uri, field)
        return Visual(vision.encode_image(self.served.uploads.picture(data, self.served.area, self.cell, field)))

    def _request(self, given: Sequence[Visual], stream: int) -> Request:
        grammar, task = self.served.studio.visual_grammar, self.request.task
        how: Any = {"sampling": self.sampling, "stream": stream}
        if task is None:
            return image_request(grammar, self.prompt, self.h, self.w, **how)
        return task_picture_request(grammar, task, self.prompt, Header(self.h, self.w), pictures=given, **how)

    def append(self, index: int, token: int) -> None:
        """Append a token to a picture."""
        vocab = self.served.studio.vocab
        self._tokens[index].append(token)
        self._codes[index] += vocab.vision_start <= token < vocab.vision_stop

    @property
    def rows(self) -> list[int]:
        """Complete rows of codes of each picture; of one that is drawn in another order, its share of them."""
        rows = [codes // self.w for codes in self._codes]
        for index, draft in list(self.drafts.items()):
            rows[index] = int(draft.done * self.h)
        return rows

    def is_partial_due(self, index: int) -> bool:
        """Whether a partial picture should be sent."""
        due, rows = self._due[index], self.rows[index]
        return bool(due) and due[-1] <= rows < self.h

    def partial(self, index: int) -> tuple[int, str]:
        """How many rows of a picture are complete, and the picture as base64. The next one is due at a later row."""
        rows, due = self.rows[index], self._due[index]
        while due and due[-1] <= rows:
            due.pop()
        return rows, base64.b64encode(png(self._picture(index))).decode()

    def complete(self, index: int) -> tuple[str, str | None]:
        """The whole picture as base64, with its settings inside, and its name in the gallery."""
        vision, served = self.sampling.vision, self.served
        settings = {
            "prompt": self.prompt,
            "stream": index,
            "checkpoint": served.folder,
            "tokenizer": served.studio.vision.name,
            "reelmill": reelmill.__version__,
            "negative": self.sampling.negative,
            "temperature": vision.temperature,
            "top_k": vision.top_k,
            "top_p": vision.top_p,
            "guidance": self.sampling.guidance,
            "seed": self.sampling.seed,
            **served.studio.settings,
        }
        if self.request.task:
            settings |= {"task": self.request.task, "image_guidance": self.sampling.image_guidance}
        data = png(self._picture(index), settings)
        name = served.gallery.add(data, {**settings, "prompt": self.request.prompt, "size": self.size})
        return base64.b64encode(data).decode(), name

    @property
    def size(self) -> str:
        """Width and height in pixels."""
        return f"{self.w * self.cell}x{self.h * self.cell}"

    @property
    def facts(self) -> dict[str, Any]:
        """What every answer and event says."""
        return {"background": "opaque", "output_format": "png", "size": self.size, "seed": self.sampling.seed}

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens of the prompt and tokens sampled."""
        prompt, sampled = len(self.requests[0].prompts[0]), sum(map(len, self._tokens))
        details = {"input_tokens_details": {"text_tokens": prompt, "image_tokens": 0}}
        return {"input_tokens": prompt, "output_tokens": sampled, "total_tokens": prompt + sampled, **details}

    def _picture(self, index: int) -> Frames:
        studio, draft = self.served.studio, self.drafts.get(index)
        if draft is not None:
            return draft_preview(studio.vocab, studio.vision, draft)
        tokens = [*self.requests[index].prompts[0].tolist(), *self._tokens[index]]
        picture = preview(studio.vocab, studio.vision, tokens)
        assert picture is not None, "it has a row"
        return picture


async def generations(http: HttpRequest) -> Response:
    """Generate pictures: all at the end, or as a stream of partial and whole ones."""
    served: ServedModel = http.app.state.served
    async with served.admission:
        request = from_dict(ImagesRequest, await read_json(http))
        served.check_model(request.model)
        # Without pictures there is nothing to encode, and nothing to wait for.
        run = served.vision_worker.run if request.images else run_in_threadpool
        batch = await run(ImageBatch, served, request)
        tokens = TokenStream(served.engine, batch.requests, drafts=request.stream and request.partial_images > 0)
        batch.drafts = tokens.drafts
    if request.stream:
        return EventStream(_events(batch, tokens), tokens.close)
    try:
        return JSONResponse(await unless_disconnected(http, _answer(batch, tokens)))
    finally:
        tokens.close()


async def _answer(batch: ImageBatch, tokens: TokenStream) -> dict[str, Any]:
    pictures = {}
    async with aclosing(_events(batch, tokens)) as events:
        async for event in events:
            if isinstance(event, dict):
                pictures[event["index"]] = {"b64_json": event["b64_json"]}
    data = [pictures[index] for index in sorted(pictures)]
    return {"created": int(time.time()), "data": data, "usage": batch.usage, **batch.facts}


async def _events(batch: ImageBatch, tokens: TokenStream) -> AsyncGenerator[Event, None]:
    """Partial pictures when they are due, whole ones, and comments that say how far all are."""
    worker = batch.served.vision_worker
    unfinished, partials, last_comment = set(range(batch.request.n)), [0] * batch.request.n, 0.0
    while unfinished:
        for index, token in await tokens.read(COMMENT_S):
            batch.append(index, token.token)
            if token.is_last:
                unfinished.discard(index)
                picture, name = await worker.run(batch.complete, index)
                facts = {"index": index, "name": name, **_picture_facts(batch, picture), "usage": batch.usage}
                yield {"type": "image_generation.completed", **facts}
        for index in sorted(unfinished):
            partial = await worker.run_if_idle(batch.partial, index) if batch.is_partial_due(index) else None
            if partial is not None:
                rows, picture = partial
                facts = {"index": index, "partial_image_index": partials[index], "rows": rows}
                partials[index] += 1
                yield {"type": "image_generation.partial_image", **facts, **_picture_facts(batch, picture)}
        now = asyncio.get_running_loop().time()
        if unfinished and now - last_comment >= COMMENT_S:
            last_comment = now
            yield comment({"rows": batch.rows, "total_rows": batch.h, "queue_position": tokens.queue_position})


def _picture_facts(batch: ImageBatch, picture: str) -> dict[str, Any]:
    return {"created_at": int(time.time()), "b64_json": picture, "quality": "auto", **batch.facts}
