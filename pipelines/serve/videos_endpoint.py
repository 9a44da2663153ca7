"""`POST /v1/videos/generations`: a video from words, one that begins with a picture, or one that continues a clip.

OpenAI's API for videos queues a job that is asked about again and again; this one answers like the one for images, at
once or as a stream.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

import reelmill
from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.eval.generation import Clip, Request, latents_in, preview, visual_request
from reelmill.pipelines.serve.encoding import mp4, png
from reelmill.pipelines.serve.event_stream import Event, EventStream, comment, unless_disconnected
from reelmill.pipelines.serve.images_endpoint import COMMENT_S, MAX_PARTIALS
from reelmill.pipelines.serve.sampling_fields import SamplingFields
from reelmill.pipelines.serve.served_model import ServedModel
from reelmill.pipelines.serve.sizes import AUTO, grid_of
from reelmill.pipelines.serve.token_stream import TokenStream
from reelmill.pipelines.serve.uploads import bytes_of
from reelmill.pipelines.web.errors import HttpError
from reelmill.pipelines.web.json_body import read_json
from reelmill.tokenize.documents import Header, parse
from reelmill.tokenize.vision import Codes

MAX_SECONDS, MAX_FPS, MAX_CONTEXT_S = 600, 120, 30
RETRY_S = 1.0
"""How long the next part of a video waits where the queue is full."""


@dataclass(kw_only=True)
class VideosRequest(SamplingFields):
    """The body. `seconds` of video at `fps`; with `image` (a data URI) it begins with this picture.

    With `video` it begins with the last `context_seconds` of this clip, and `seconds` more follow, as many at a time.
    """

    prompt: str = ""
    model: str | None = None
    seconds: float = 2.0
    fps: float = 8.0
    size: str = AUTO
    image: str | None = None
    video: str | None = None
    context_seconds: float = 2.0
    stream: bool = False
    partial_images: int = 0
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["mp4"] = "mp4"
    user: str = ""

    def check(self) -> None:
        """Raise ConfigError for numbers out of bounds, DataError for text that is too long."""
        self.check_fields(
            self.prompt,
            seconds=(0, MAX_SECONDS),
            fps=(0.1, MAX_FPS),
            context_seconds=(0.1, MAX_CONTEXT_S),
            partial_images=(0, MAX_PARTIALS),
        )
        if self.image and self.video:
            raise ConfigError("a video begins with an image or with a video; send one of them")


class VideoJob:
    """A video, which is generated in one part, or in several where it continues a clip."""

    def __init__(self, served: ServedModel, request: VideosRequest) -> None:
        request.check()
        studio = served.studio
        if not studio.vocab.layout.has_video:
            raise ConfigError(f"this model writes documents of the layout {studio.vocab.layout}, which has no video")
        self.served, self.request = served, request
        self.sampling = request.sampling(
            served.preset.sampling, random.getrandbits(31) if request.seed is None else request.seed
        )
        self.prompt = request.prompt + served.preset.suffix
        self.codes = self._beginning()
        self.given = len(self.codes)
        self.h: int = self.codes.shape[1]
        self.w: int = self.codes.shape[2]
        if request.video is None:
            self.latents = Header(self.h, self.w, request.fps, request.seconds).t
        else:
            self.latents = self.given + latents_in(request.seconds, request.fps)
        self._window = latents_in(request.context_seconds, request.fps)
        self._tokens: list[int] = []
        self._done, self._due = 0, 0
        self.new_tokens = 0

    def _beginning(self) -> Codes:
        """The codes [t, h, w] that it begins with; t is 0 where nothing is given."""
        request, vision = self.request, self.served.studio.vision
        uploads, area, cell = self.served.uploads, self.served.area, vision.spatial
        if request.video is not None:
            data = bytes_of(request.video, "video", "video")
            return vision.encode(uploads.clip(data, area, cell, request.fps, request.context_seconds, "video"))
        if request.image is not None:
            return vision.encode_image(uploads.picture(bytes_of(request.image, "image"), area, cell, "image"))[None]
        return np.empty((0, *grid_of(request.size, area, self.served.studio)), dtype=np.int32)

    def next_request(self) -> Request | None:
        """The request for the next part; None when the video is complete."""
        left = self.latents - len(self.codes)
        if left <= 0:
            return None
        request, studio = self.request, self.served.studio
        self._tokens = []
        if request.video is None:
            header = Header(self.h, self.w, request.fps, request.seconds)
            asked = visual_request(
                studio.visual_grammar, self.prompt, header, prefix=self.codes, sampling=self.sampling
            )
        else:
            new, context = min(self._window, left), self.codes[-self._window :]
            asked = studio.window_request(context, new, request.fps, self.prompt, self.sampling, len(self.codes))
        self._prompt: list[int] = np.asarray(asked.prompt).tolist()
        return asked

    def append(self, token: int) -> None:
        """Append a token to the present part."""
        vocab = self.served.studio.vocab
        self._tokens.append(token)
        self.new_tokens += 1
        self._done += vocab.vision_start <= token < vocab.vision_stop

    def end_part(self) -> None:
        """The present part is complete."""
        whole = parse(self.served.studio.vocab, np.array([*self._prompt, *self._tokens], dtype=np.int32)).codes
        if self.request.video is None:
            self.codes = whole
        else:
            context = min(self._window, len(self.codes))
            self.codes = np.concatenate((self.codes, whole[context:]))

    @property
    def rows(self) -> int:
        """Complete rows of codes of all new latent frames."""
        return self._done // self.w

    @property
    def total_rows(self) -> int:
        """How many these will be."""
        return (self.latents - self.given) * self.h

    @property
    def is_partial_due(self) -> bool:
        """Whether a picture of the newest frame should be sent."""
        return bool(self.request.partial_images) and self.rows // self._every > self._due

    @property
    def _every(self) -> int:
        """Rows between partial pictures."""
        return max(1, self.total_rows // (self.request.partial_images + 1))

    def partial(self) -> tuple[int, str]:
        """How many rows are complete, and the newest frame as base64. The next one is due at a later row."""
        rows, studio = self.rows, self.served.studio
        self._due = rows // self._every
        shown = preview(studio.vocab, studio.vision, [*self._prompt, *self._tokens])
        assert shown is not None, "it has a row"
        return rows, base64.b64encode(png(shown)).decode()

    def complete(self) -> dict[str, Any]:
        """The whole video as base64, with its settings inside, and its name in the gallery."""
        served, vision, request = self.served, self.sampling.vision, self.request
        clip = Clip(served.studio.vision.decode(self.codes), request.fps)
        settings = {
            "prompt": self.prompt,
            "stream": 0,
            "checkpoint": served.folder,
            "tokenizer": served.studio.vision.name,
            "reelmill": reelmill.__version__,
            "negative": self.sampling.negative,
            "temperature": vision.temperature,
            "top_k": vision.top_k,
            "top_p": vision.top_p,
            "guidance": self.sampling.guidance,
            "seed": self.sampling.seed,
            "seconds": request.seconds,
            "fps": request.fps,
            **served.studio.settings,
        }
        data = mp4(clip, settings)
        name = served.gallery.add(data, {**settings, "prompt": request.prompt, "size": self.size}, ".mp4")
        return {"b64_json": base64.b64encode(data).decode(), "name": name}

    @property
    def size(self) -> str:
        """Width and height in pixels."""
        cell = self.served.studio.vision.spatial
        return f"{self.w * cell}x{self.h * cell}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the answer and every event say."""
        made = int(time.time())
        return {"created_at": made, "output_format": "mp4", "size": self.size, "seed": self.sampling.seed}


async def generations(http: HttpRequest) -> Response:
    """Generate a video: at the end, or as a stream of frames on the way and the whole."""
    served: ServedModel = http.app.state.served
    async with served.admission:
        request = from_dict(VideosRequest, await read_json(http))
        served.check_model(request.model)
        job = await served.vision_worker.run(VideoJob, served, request)
        first = job.next_request()
        assert first is not None, "seconds are above 0"
        parts = _Parts(job, TokenStream(served.engine, [first]))
    if request.stream:
        return EventStream(_events(job, parts), parts.close)
    try:
        return JSONResponse(await unless_disconnected(http, _answer(job, parts)))
    finally:
        parts.close()


class _Parts:
    """The parts of a video, one after another: the tokens of the present one."""

    def __init__(self, job: VideoJob, tokens: TokenStream) -> None:
        self.job, self.tokens = job, tokens

    def close(self) -> None:
        """Cancel what is not finished."""
        self.tokens.close()

    async def go_on(self) -> bool:
        """Begin the next part; False when there is none. It waits where the queue is full."""
        self.job.end_part()
        request = self.job.next_request()
        while request is not None:
            try:
                self.tokens = TokenStream(self.job.served.engine, [request])
            except HttpError as refused:
                if refused.status_code != 429:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return True
        return False


async def _answer(job: VideoJob, parts: _Parts) -> dict[str, Any]:
    async with aclosing(_events(job, parts)) as events:
        whole = [event async for event in events if isinstance(event, dict)]
    data = {name: whole[-1][name] for name in ("b64_json", "name")}
    return {"created": int(time.time()), "data": [data], **job.facts}


async def _events(job: VideoJob, parts: _Parts) -> AsyncGenerator[Event, None]:
    """Frames on the way, comments that say how far it is, and the whole video."""
    worker, last_comment, partials, is_whole = job.served.vision_worker, 0.0, 0, False
    while not is_whole:
        for _, token in await parts.tokens.read(COMMENT_S):
            job.append(token.token)
            if token.is_last:
                is_whole = not await parts.go_on()
        if not is_whole and job.is_partial_due and (shown := await worker.run_if_idle(job.partial)):
            rows, picture = shown
            facts = {"partial_image_index": partials, "rows": rows, "b64_json": picture, **job.facts}
            partials += 1
            yield {"type": "video_generation.partial_image", **facts}
        now = asyncio.get_running_loop().time()
        if not is_whole and now - last_comment >= COMMENT_S:
            last_comment = now
            waits = parts.tokens.queue_position
            yield comment({"rows": job.rows, "total_rows": job.total_rows, "queue_position": waits})
    usage = {"output_tokens": job.new_tokens}
    yield {"type": "video_generation.completed", **await worker.run(job.complete), **job.facts, "usage": usage}
