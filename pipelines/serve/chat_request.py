"""The body of `POST /v1/chat/completions`, and the engine's request for its answer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from reelmill.errors import ConfigError
from reelmill.eval.generation import Request, SamplingParams, begun, task_request, text_request
from reelmill.eval.generation.studio import PICTURE_TASKS
from reelmill.pipelines.serve.chat_messages import MAX_PICTURES, Conversation, Part, parse_messages
from reelmill.pipelines.serve.served_model import ServedModel, given
from reelmill.pipelines.serve.sizes import AUTO, grid_of
from reelmill.tokenize.documents import (
    Grammar,
    Header,
    Turn,
    Visual,
    answer_ids,
    chat_prompt,
    interleaved_document,
    seconds_of,
)

TEXT_TOKENS = 512
"""The most tokens of an answer in text, if a request does not say."""
CLIP_FPS, CLIP_S = 8.0, 2.0
"""What a model is shown of a clip: its last seconds, as by `reelmill ask`."""
CLIP_FRAMES = 4
"""Frames of a clip, one a second, where a layout has no video."""


@dataclass(kw_only=True)
class ChatRequest:
    """The body: OpenAI's fields, then ours. Fields that only OpenAI can use (user, store) have no effect.

    `top_p` and `top_k` apply to text, `temperature` to text and codes, `guidance` and `image_guidance` to codes. `task`
    is one of Emu3.5's: the last message is what it is asked, and an answer may contain pictures. `size`: of every
    picture of the answer; with `auto` the model writes it. With `continue_final_message` the last message is the
    assistant's, and the answer goes on from it. `max_pictures` ends an answer behind so many. With `previews` the
    comments of a stream hold the picture that is being drawn.
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
    size: str = AUTO
    max_pictures: int | None = None
    continue_final_message: bool = False
    previews: bool = False
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
            ("max_pictures", self.max_pictures, 1, MAX_PICTURES),
        ):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be {low} to {high}")

    @property
    def may_draw(self) -> bool:
        """Whether an answer may contain pictures."""
        return self.task is not None or "image" in self.modalities

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
    """The request for the engine. It takes a while: pictures and clips are decoded and encoded here."""
    request.check()

    def encode(data: bytes, kind: str, where: str) -> list[Visual]:
        return _clip(served, data, where) if kind == "video" else [_picture(served, data, where)]

    found = parse_messages(request.messages, encode, continues=request.continue_final_message)
    seed = random.getrandbits(31) if request.seed is None else request.seed
    sampling = request.sampling(served.preset.sampling, seed)
    if request.task is not None:
        asked = _of_task(served, request, found, sampling)
    elif not (found.turns or found.answer or request.may_draw or any(isinstance(part, str) for part in found.question)):
        asked = text_request(served.studio.grammar, found.question, 1, sampling=sampling)  # its caption
    else:
        asked = _of_chat(served, request, found, sampling)
    if found.answer:
        asked = begun(asked, _beginning(served, request, found.answer))
    room = served.engine.capacity - (longest := max(map(len, asked.prompts)))
    if room < 1:
        raise ConfigError(
            f"the conversation is {longest:,} tokens long, and a row of this server holds {served.engine.capacity:,}: "
            "leave out turns or pictures, or start it with a larger --context-tokens"
        )
    return replace(
        asked, max_new_tokens=request.max_new_tokens or (room if request.may_draw else min(room, TEXT_TOKENS))
    )


def _picture(served: ServedModel, data: bytes, where: str) -> Visual:
    vision = served.studio.vision
    return Visual(vision.encode_image(served.uploads.picture(data, served.area, vision.spatial, where)))


def _clip(served: ServedModel, data: bytes, where: str) -> list[Visual]:
    """A clip as the model knows clips: a video, or pictures where its layout has none."""
    vision = served.studio.vision
    if not served.studio.vocab.layout.has_video:
        frames = served.uploads.clip(data, served.area, vision.spatial, 1.0, CLIP_FRAMES, where)
        return [Visual(vision.encode_image(frame)) for frame in frames]
    codes = vision.encode(served.uploads.clip(data, served.area, vision.spatial, CLIP_FPS, CLIP_S, where))
    return [Visual(codes, CLIP_FPS, seconds_of(len(codes), CLIP_FPS))]


def _of_chat(served: ServedModel, request: ChatRequest, found: Conversation, sampling: SamplingParams) -> Request:
    vocab = served.studio.vocab
    # The unconditional prompt has the pictures so far and the negative text, as for pages.
    parts = [part for turn in (*found.turns, Turn(found.question, ())) for part in (*turn.question, *turn.answer)]
    without_text: list[Part] = [*(part for part in parts if isinstance(part, Visual)), sampling.negative]
    is_guided = request.may_draw and sampling.guidance != 1
    return Request(
        prompt=chat_prompt(vocab, found.question, found.turns, found.system),
        unconditional=interleaved_document(vocab, without_text)[:-1] if is_guided else None,
        max_new_tokens=1,
        stop_id=vocab.eos,
        sampling=sampling,
        grammar=_grammar(served, request),
        allowed_ids=None if request.may_draw else ((0, vocab.text_size), (vocab.eos, vocab.eos + 1)),
    )


def _of_task(served: ServedModel, request: ChatRequest, found: Conversation, sampling: SamplingParams) -> Request:
    """The request for the answer in a task. t2i and x2i end with their first picture."""
    assert request.task is not None
    words = " ".join(part for part in found.question if isinstance(part, str))
    pictures = [part for part in found.question if isinstance(part, Visual)]
    grammar = _grammar(served, request)
    return task_request(grammar, request.task, words, 1, pictures=pictures, before=found.turns, sampling=sampling)


def _grammar(served: ServedModel, request: ChatRequest) -> Grammar:
    studio, one_block = served.studio, request.task in PICTURE_TASKS
    if request.size == AUTO:
        return studio.visual_grammar if one_block else studio.grammar
    header = Header(*grid_of(request.size, served.area, studio))
    return Grammar(studio.vocab, one_block=one_block, header=header)


def _beginning(served: ServedModel, request: ChatRequest, answer: list[Part]) -> list[int]:
    """The ids of the beginning of an answer. In a world what follows a movement is what is seen then."""
    vocab = served.studio.vocab
    ids: list[int] = np.asarray(answer_ids(vocab, answer)).tolist()
    return [*ids, vocab.boi] if request.task == "explore" and isinstance(answer[-1], str) else ids
