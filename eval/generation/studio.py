"""What users make with a trained model: pictures, videos, the future of a video, text about pictures, whole pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.distributed.device_mesh import DeviceMesh

from reelmill.errors import DataError
from reelmill.eval.generation.decoding import PLAIN, Decoding, check_decode, decoding_of
from reelmill.eval.generation.engine import run
from reelmill.eval.generation.loading import find_model, load_model
from reelmill.eval.generation.prompts import (
    DEFAULT,
    chat_request,
    interleaved_request,
    task_request,
    text_request,
    visual_request,
)
from reelmill.eval.generation.request import Ids, OnDraft, Request, SampledToken
from reelmill.eval.generation.sampling import SamplingParams
from reelmill.eval.generation.weight_types import check_weights
from reelmill.tokenize.documents import Document, Grammar, Header, Thought, Visual, parse, seconds_of
from reelmill.tokenize.documents.header import PIXEL_FRAMES_PER_LATENT
from reelmill.tokenize.documents.writing import Codes
from reelmill.tokenize.vision import Frames, VisionTokenizer
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder


@dataclass(frozen=True)
class Clip:
    """Pictures [T, H, W, 3] uint8 RGB at `fps`, or a single picture if `fps` is None."""

    frames: Frames
    fps: float | None = None


PagePart = str | Thought | Clip
"""What stands on a page: words, what the model thought, a picture or a video."""
PICTURE_TASKS = ("t2i", "x2i")
"""Tasks whose answer ends with its first picture."""


@dataclass(frozen=True)
class GenerationProgress:
    """How far the requests that are generated together have come.

    `tokens`: each sequence so far, prompt included. `new_tokens`: how many were sampled, of at most `max_new_tokens`.
    `last`: the newest token. `max_length`: the longest that a sequence can become.
    """

    tokens: list[list[int]]
    new_tokens: int
    last: SampledToken
    max_new_tokens: int
    max_length: int


OnToken = Callable[[GenerationProgress], None]
"""Called after each sampled token."""


@dataclass(frozen=True)
class Studio:
    """A model and the vision tokenizer of its codes.

    `rows` and `compile`: see `Engine`. `context`: the longest row that the model was trained on, if known. `on_token`
    is called after each sampled token, `on_draft` after each pass over a picture that is drawn in another order than
    that of its tokens. `decoding`: how codes are decoded. `weights`: the type that was asked for.
    """

    model: Decoder
    vocab: Vocabulary
    vision: VisionTokenizer
    rows: int = 16
    compile: bool = False
    context: int | None = None
    on_token: OnToken | None = None
    on_draft: OnDraft | None = None
    decoding: Decoding = PLAIN
    weights: str | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        tokenizer: str | None = None,
        *,
        rows: int = 16,
        compile: bool = False,
        decode: str = "plain",
        steps: int | None = None,
        lag: int | None = None,
        mesh: DeviceMesh | None = None,
        weights: str | None = None,
    ) -> Studio:
        """The studio of a training run, a checkpoint or a Hugging Face folder; see `load_model` (for `mesh` and
        `weights` too), and `decoding_of` for `decode`, `steps` and `lag`."""
        check_decode(decode, steps, lag)
        if weights is not None:
            check_weights(weights)
        place = find_model(folder)
        model, vocab, vision, context = load_model(place, tokenizer, mesh, weights)
        decoding = decoding_of(decode, steps, lag, place, vision, rows)
        return cls(model, vocab, vision, rows, compile, context, decoding=decoding, weights=weights)

    @property
    def settings(self) -> dict[str, Any]:
        """What is written into files: how codes are decoded, and the type of the weights where it was chosen."""
        return {**self.decoding.settings, **({"weights": self.weights} if self.weights else {})}

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar of all documents."""
        return Grammar(self.vocab)

    @cached_property
    def visual_grammar(self) -> Grammar:
        """The grammar of documents that end after their first image or video."""
        return Grammar(self.vocab, one_block=True)

    def generate(self, requests: Sequence[Request]) -> list[Ids]:
        """The whole token sequence of each request, prompt included. All are generated together."""
        sequences = dict(self.generate_each(requests))
        return [sequences[number] for number in range(len(requests))]

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Ids]]:
        """The same, each with its number as soon as it is complete."""
        if not requests:
            return
        tokens = [[*np.asarray(r.prompt).tolist(), *np.asarray(r.generated).tolist()] for r in requests]
        max_new_tokens = sum(request.max_new_tokens for request in requests)
        max_length = max(request.max_length for request in requests)
        sampled = run(
            self.model,
            self.vocab,
            requests,
            rows=self.rows,
            compile=self.compile,
            window=self.decoding.window,
            pictures=self.decoding.pictures,
            on_draft=self.on_draft,
        )
        for new_tokens, last in enumerate(sampled, 1):
            tokens[last.request].append(last.token)
            if self.on_token:
                self.on_token(GenerationProgress(tokens, new_tokens, last, max_new_tokens, max_length))
            if last.is_last:
                yield last.request, np.array(tokens[last.request], dtype=np.int32)

    def visuals(
        self,
        captions: Sequence[str],
        header: Header,
        *,
        prefix: Clip | None = None,
        ending: Clip | None = None,
        sampling: SamplingParams = DEFAULT,
        streams: Sequence[int] = (),
    ) -> Iterator[tuple[int, Clip]]:
        """The picture or video of `header` for each caption, generated together; each with its number when complete.

        Videos begin with `prefix`, a picture or a clip, and end with `ending`, which takes a `decoding` that draws all
        of it at once. `streams` are the random streams, 0, 1, ... by default.
        """
        first, last = (None if clip is None else self._given_codes(clip, header) for clip in (prefix, ending))
        requests = [
            visual_request(
                self.visual_grammar, caption, header, prefix=first, ending=last, sampling=sampling, stream=stream
            )
            for caption, stream in zip(captions, streams or range(len(captions)), strict=True)
        ]
        for number, tokens in self.generate_each(requests):
            yield number, self._decode(parse(self.vocab, tokens))

    def images(
        self,
        captions: Sequence[str],
        h: int,
        w: int,
        *,
        sampling: SamplingParams = DEFAULT,
        streams: Sequence[int] = (),
    ) -> list[Frames]:
        """A picture [8h, 8w, 3] for each caption, generated together. `streams`: as for `visuals`."""
        clips = dict(self.visuals(captions, Header(h, w), sampling=sampling, streams=streams))
        return [clips[number].frames[0] for number in range(len(captions))]

    def video(
        self,
        caption: str,
        header: Header,
        *,
        prefix: Clip | None = None,
        ending: Clip | None = None,
        sampling: SamplingParams = DEFAULT,
        stream: int = 0,
    ) -> Clip:
        """A video for a caption, of the size and length in `header`; `prefix` and `ending` as for `visuals`."""
        clips = self.visuals([caption], header, prefix=prefix, ending=ending, sampling=sampling, streams=[stream])
        ((_, clip),) = clips
        return clip

    def future(
        self,
        clip: Clip,
        seconds: float,
        *,
        caption: str = "",
        window_s: float = 2.0,
        sampling: SamplingParams = DEFAULT,
        stream: int = 0,
    ) -> Clip:
        """A clip and the `seconds` that follow it, one window at a time, each from the last window (Emu3, section 3.3:
        2 s)."""
        if clip.fps is None:
            raise DataError("only a video has a future; animate a picture with `video(prefix=...)`")
        window = latents_in(window_s, clip.fps)
        codes = self.vision.encode(clip.frames)
        required = len(codes) + latents_in(seconds, clip.fps)
        while len(codes) < required:
            new = min(window, required - len(codes))
            request = self.window_request(
                codes[-window:], new, clip.fps, caption, sampling, (stream << 32) + len(codes)
            )
            (tokens,) = self.generate([request])
            codes = np.concatenate((codes, parse(self.vocab, tokens).codes[-new:]))
        return Clip(self.vision.decode(codes), clip.fps)

    def window_request(
        self, context: Codes, new: int, fps: float, caption: str, sampling: SamplingParams, stream: int
    ) -> Request:
        """The request for the `new` latent frames that follow `context` [t, h, w]; each window has a stream of its
        own."""
        t, h, w = context.shape
        header = Header(h, w, fps, seconds_of(t + new, fps))
        return visual_request(self.visual_grammar, caption, header, prefix=context, sampling=sampling, stream=stream)

    def caption(self, clip: Clip, *, max_new_tokens: int = 256, sampling: SamplingParams = DEFAULT) -> str:
        """A caption of a picture or clip, as in documents whose caption follows the codes."""
        return self._text(text_request(self.grammar, [self._visual(clip)], max_new_tokens, sampling=sampling))

    def answer(
        self, clip: Clip, question: str, *, max_new_tokens: int = 1024, sampling: SamplingParams = DEFAULT
    ) -> str:
        """The answer to a question about a picture or clip, in Emu3's chat template."""
        return self._text(chat_request(self.grammar, [self._visual(clip), question], max_new_tokens, sampling=sampling))

    def pages(
        self,
        prompts: Sequence[str],
        *,
        prefix: Clip | None = None,
        max_new_tokens: int = 4096,
        sampling: SamplingParams = DEFAULT,
        streams: Sequence[int] = (),
    ) -> Iterator[tuple[int, list[PagePart]]]:
        """Text and pictures in whatever order the model chooses, after `prefix` and a prompt, which are the first
        parts.

        All pages are generated together; each comes with its number when it is complete. A picture that
        `max_new_tokens` cuts off is left out.
        """
        before = [] if prefix is None else [self._visual(prefix)]
        requests = [
            interleaved_request(self.grammar, [*before, prompt], max_new_tokens, sampling=sampling, stream=stream)
            for prompt, stream in zip(prompts, streams or range(len(prompts)), strict=True)
        ]
        for number, tokens in self.generate_each(requests):
            yield number, list(self.parts(tokens))

    def answers(
        self,
        task: str,
        questions: Sequence[str],
        *,
        pictures: Sequence[Clip] = (),
        size: tuple[int, int] | None = None,
        max_new_tokens: int = 4096,
        sampling: SamplingParams = DEFAULT,
        streams: Sequence[int] = (),
    ) -> Iterator[tuple[int, list[PagePart]]]:
        """The answer to each question in one of Emu3.5's tasks; all see the same `pictures`.

        `size`: (h, w) in codes of every picture that is generated; without it the model writes sizes itself. t2i and
        x2i end with their first picture. Each answer comes with its number when it is complete; a picture that
        `max_new_tokens` cuts off is left out. Raises DataError where the model's documents have no tasks.
        """
        header = Header(*size) if size else None
        grammar = Grammar(self.vocab, one_block=task in PICTURE_TASKS, header=header)
        given = [self._visual(picture) for picture in pictures]
        requests = [
            task_request(grammar, task, question, max_new_tokens, pictures=given, sampling=sampling, stream=stream)
            for question, stream in zip(questions, streams or range(len(questions)), strict=True)
        ]
        for number, tokens in self.generate_each(requests):
            yield number, list(self.parts(tokens, len(np.asarray(requests[number].prompt))))

    def parts(self, tokens: Ids, start: int = 1) -> Iterator[PagePart]:
        """The texts, thoughts and visuals of a sequence that may end anywhere, from `start` on."""
        vocab, position = self.vocab, start
        ends = np.flatnonzero(tokens == vocab.eoi)
        begins = np.flatnonzero(tokens == vocab.boi)
        for begin in begins[begins >= start]:
            yield from self._words(tokens[position:begin])
            if not (ends > begin).any():
                return
            position = int(ends[ends > begin][0]) + 1
            document = parse(vocab, np.array([vocab.bos, *tokens[begin:position], vocab.eos], dtype=np.int32))
            yield self._decode(document)
        yield from self._words(tokens[position:])

    def _text(self, request: Request) -> str:
        (tokens,) = self.generate([request])
        return "".join(self._decoded_text(tokens[len(np.asarray(request.prompt)) :]))

    def _words(self, tokens: Ids) -> Iterator[str | Thought]:
        """The texts and thoughts of tokens without a visual."""
        vocab, position = self.vocab, 0
        closing = {vocab.bog: vocab.eog, vocab.boc: vocab.eoc}
        for begin in np.flatnonzero(np.isin(tokens, list(closing))).tolist():
            yield from self._decoded_text(tokens[position:begin])
            ends = np.flatnonzero(tokens[begin:] == closing[int(tokens[begin])])
            position = begin + int(ends[0]) if len(ends) else len(tokens)
            is_global = int(tokens[begin]) == vocab.bog
            yield from (Thought(text, is_global) for text in self._decoded_text(tokens[begin:position]))
        yield from self._decoded_text(tokens[position:])

    def _decoded_text(self, tokens: Ids) -> Iterator[str]:
        """The text of these tokens, unless it is blank."""
        text = self.vocab.tokenizer.decode(tokens[tokens < self.vocab.text_size].tolist()).strip()
        if text:
            yield text

    def _decode(self, document: Document) -> Clip:
        header = document.blocks[0].header
        if header.fps is None:
            return Clip(self.vision.decode_image(document.codes[0])[None])
        return Clip(self.vision.decode(document.codes), header.fps)

    def _visual(self, clip: Clip) -> Visual:
        if clip.fps is None:
            return Visual(self.vision.encode_image(clip.frames[0]))
        codes = self.vision.encode(clip.frames)
        return Visual(codes, clip.fps, seconds_of(len(codes), clip.fps))

    def _given_codes(self, clip: Clip, header: Header) -> Codes:
        """The codes of a given beginning or end; a picture is one latent frame."""
        if clip.fps is None:
            return self.vision.encode_image(clip.frames[0])[None]
        if clip.fps != header.fps:
            raise DataError(f"the given clip has {clip.fps:g} frames/s, the video {header.fps:g}; make them equal")
        return self.vision.encode(clip.frames)


def latents_in(seconds: float, fps: float) -> int:
    """Latent frames in a duration, at least one."""
    return max(1, round(seconds * fps / PIXEL_FRAMES_PER_LATENT))
