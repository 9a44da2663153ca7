"""`POST /v1/images/generations`: OpenAI's request and answers, rows of a picture as they are drawn."""

from __future__ import annotations

import asyncio
import base64
import math
import random
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response

import reelmill
from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.eval.generation import Request, SamplingParams, image_request, preview
from reelmill.pipelines.serve.event_stream import Event, EventStream, comment, unless_left
from reelmill.pipelines.serve.served_model import Serving, given
from reelmill.pipelines.serve.token_stream import Ticket
from reelmill.pipelines.serve.uploads import png
from reelmill.pipelines.web.errors import read_json
from reelmill.tokenize.documents import grid_for_ratio

MOST_PICTURES = 10
MOST_PARTIALS = 64
LONGEST_PROMPT = 32_000
TICK_S = 0.5
"""How often a stream says how far it is, where nothing else is to be said."""


@dataclass(kw_only=True)
class ImagesAsked:
    """The body: OpenAI's fields, then ours. What is OpenAI's own business (quality, style, user) changes nothing."""

    prompt: str
    model: str | None = None
    n: int = 1
    size: str = "auto"
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
    seed: int | None = None
    negative_prompt: str | None = None
    guidance: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    def check(self) -> None:
        """Raise ConfigError for numbers beyond their bounds."""
        for name, value, low, high in (
            ("n", self.n, 1, MOST_PICTURES),
            ("partial_images", self.partial_images, 0, MOST_PARTIALS),
            ("seed", self.seed, 0, 2**63 - 1),
            ("guidance", self.guidance, 0, 100),
            ("temperature", self.temperature, 0, 100),
            ("top_k", self.top_k, 0, 2**31),
        ):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be {low} to {high}")
        for name, text in (("prompt", self.prompt), ("negative_prompt", self.negative_prompt or "")):
            if len(text) > LONGEST_PROMPT:
                raise ConfigError(f"{name} has {len(text):,} characters; at most {LONGEST_PROMPT:,} are taken")

    def grid(self, area: int, cell: int) -> tuple[int, int]:
        """Rows and columns of codes of `cell` pixels; ConfigError for more than `area` pixels."""
        if self.size == "auto":
            return grid_for_ratio("1:1", area)
        if ":" in self.size:
            return grid_for_ratio(self.size, area)
        found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", self.size)
        if found is None:
            raise ConfigError(f"size is {self.size!r}; it is WIDTHxHEIGHT in pixels, a ratio such as 16:9, or auto")
        w, h = (max(1, round(int(side) / cell)) for side in found.groups())
        if h * w * cell**2 > area:
            side = math.isqrt(area)
            raise ConfigError(
                f"size is {self.size}; this server draws at most {area:,} pixels (such as {side}x{side}): ask for "
                "fewer, or start it with a larger --area"
            )
        return h, w

    def sampling(self, usual: SamplingParams, seed: int) -> SamplingParams:
        """How it is drawn: as usual, where nothing else is asked for."""
        vision = replace(usual.vision, **given(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p))
        return replace(usual, vision=vision, seed=seed, **given(guidance=self.guidance))


class Sheet:
    """The pictures of one body: their requests, tokens so far, and what is said of them."""

    def __init__(self, serving: Serving, asked: ImagesAsked) -> None:
        asked.check()
        self.serving, self.asked = serving, asked
        self.seed = random.getrandbits(31) if asked.seed is None else asked.seed
        self.cell = serving.studio.vision.spatial
        self.h, self.w = asked.grid(serving.area, self.cell)
        preset = serving.preset
        self.sampling = asked.sampling(preset.sampling, self.seed)
        self.negative = preset.negative if asked.negative_prompt is None else asked.negative_prompt
        self.prompt = asked.prompt + preset.suffix
        self.requests: list[Request] = [
            image_request(
                serving.studio.one_block,
                self.prompt,
                self.h,
                self.w,
                sampling=self.sampling,
                negative=self.negative,
                stream=stream,
            )
            for stream in range(asked.n)
        ]
        self.drawn: list[list[int]] = [[] for _ in self.requests]
        self.rows = [0] * asked.n
        # Rows at which a picture is shown, the last ones first.
        steps = range(asked.partial_images, 0, -1)
        self._due = [[math.ceil(self.h * step / (asked.partial_images + 1)) for step in steps] for _ in self.requests]

    def take(self, index: int, token: int) -> None:
        """Note a token of a picture."""
        self.drawn[index].append(token)
        self.rows[index] += token == self.serving.studio.vocab.eol

    def is_due(self, index: int) -> bool:
        """Whether a picture should be shown as far as it is; says so once for all rows that are done."""
        due, is_due = self._due[index], False
        while due and due[-1] <= self.rows[index] < self.h:
            due.pop()
            is_due = True
        return is_due

    @property
    def size(self) -> str:
        """Width and height in pixels."""
        return f"{self.w * self.cell}x{self.h * self.cell}"

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens read and drawn."""
        read, drawn = len(self.requests[0].prompts[0]), sum(map(len, self.drawn))
        details = {"input_tokens_details": {"text_tokens": read, "image_tokens": 0}}
        return {"input_tokens": read, "output_tokens": drawn, "total_tokens": read + drawn, **details}

    def partial(self, index: int) -> str:
        """The picture as far as it is, in base64."""
        return base64.b64encode(png(self._picture(index))).decode()

    def whole(self, index: int) -> tuple[str, str | None]:
        """The picture in base64, with its settings inside, and its name in the gallery."""
        vision, serving = self.sampling.vision, self.serving
        settings = {
            "prompt": self.prompt,
            "stream": index,
            "checkpoint": serving.checkpoint,
            "tokenizer": serving.studio.vision.name,
            "reelmill": reelmill.__version__,
            "negative": self.negative,
            "temperature": vision.temperature,
            "top_k": vision.top_k,
            "top_p": vision.top_p,
            "guidance": self.sampling.guidance,
            "seed": self.seed,
        }
        data = png(self._picture(index), settings)
        name = serving.gallery.add(data, {**settings, "prompt": self.asked.prompt, "size": self.size})
        return base64.b64encode(data).decode(), name

    def _picture(self, index: int) -> Any:
        studio = self.serving.studio
        tokens = [*self.requests[index].prompts[0].tolist(), *self.drawn[index]]
        return preview(studio.vocab, studio.vision, tokens)


async def generations(request: Asked) -> Response:
    """Draw pictures: all at the end, or as a stream of partial and whole ones."""
    serving: Serving = request.app.state.serving
    async with serving.desk:
        asked = from_dict(ImagesAsked, await read_json(request))
        serving.check_model(asked.model)
        sheet = await run_in_threadpool(Sheet, serving, asked)
        ticket = Ticket(serving.service, sheet.requests)
    if asked.stream:
        return EventStream(_events(sheet, ticket), ticket.close)
    try:
        return JSONResponse(await unless_left(request, _answer(sheet, ticket)))
    finally:
        ticket.close()


async def _answer(sheet: Sheet, ticket: Ticket) -> dict[str, Any]:
    pictures = {}
    async with aclosing(_events(sheet, ticket)) as events:
        async for event in events:
            if isinstance(event, dict):
                pictures[event["index"]] = {"b64_json": event["b64_json"]}
    about = {"background": "opaque", "output_format": "png", "size": sheet.size, "seed": sheet.seed}
    data = [pictures[index] for index in sorted(pictures)]
    return {"created": int(time.time()), "data": data, "usage": sheet.usage, **about}


async def _events(sheet: Sheet, ticket: Ticket) -> AsyncGenerator[Event, None]:
    """Partial pictures where they are due, whole ones, and comments of how far all are."""
    asked, eye = sheet.asked, sheet.serving.eye
    left, shown, said = set(range(asked.n)), [0] * asked.n, 0.0
    about = {"background": "opaque", "output_format": "png", "quality": "auto", "size": sheet.size, "seed": sheet.seed}
    while left:
        for index, drawn in await ticket.some(TICK_S):
            sheet.take(index, drawn.token)
            if drawn.is_last:
                left.discard(index)
                picture, name = await eye.look(sheet.whole, index)
                facts = {"index": index, "name": name, "b64_json": picture, "created_at": int(time.time())}
                yield {"type": "image_generation.completed", **facts, **about, "usage": sheet.usage}
        for index in sorted(left):
            if eye.may_glance and sheet.is_due(index):
                picture = await eye.glance(sheet.partial, index)
                facts = {"index": index, "partial_image_index": shown[index], "rows": sheet.rows[index]}
                shown[index] += 1
                when = {"created_at": int(time.time()), "b64_json": picture}
                yield {"type": "image_generation.partial_image", **facts, **when, **about}
        now = asyncio.get_running_loop().time()
        if left and now - said >= TICK_S:
            said = now
            yield comment({"rows": sheet.rows, "of": sheet.h, "before": ticket.before})
