"""What users make with a trained model: pictures, video, the future of a video, words about pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelmill.errors import DataError
from reelmill.eval.generation.engine import run
from reelmill.eval.generation.loading import opened
from reelmill.eval.generation.prompts import (
    DEFAULT,
    chat_request,
    free_request,
    visual_request,
    words_request,
)
from reelmill.eval.generation.request import Ids, Request, SampledToken
from reelmill.eval.generation.sampling import SamplingParams
from reelmill.tokenize.documents import Document, Grammar, Header, Visual, parse, seconds_of
from reelmill.tokenize.documents.header import PIXEL_FRAMES_PER_LATENT
from reelmill.tokenize.documents.writing import Codes
from reelmill.tokenize.vision import Frames, VisionTokenizer
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder


@dataclass(frozen=True)
class Clip:
    """Pictures [T, H, W, 3] uint8 RGB at `fps`; one picture where `fps` is None."""

    frames: Frames
    fps: float | None = None


@dataclass
class GenerationProgress:
    """Requests that are drawn together, as far as they are.

    Their `tokens` (prompt and all), how many of these were drawn (`count`), the `last` of them, how many may be drawn
    (`most`), and how many the longest sequence may have (`longest`).
    """

    tokens: list[list[int]]
    count: int
    last: SampledToken
    most: int
    longest: int


Watch = Callable[[GenerationProgress], None]
"""Called after each drawn token."""


class Studio:
    """A model, the vision tokenizer of its codes, and `watch`, which sees every token as it is drawn.

    `rows` and `compile`: see `run`. `context` is the longest row that the model was trained on, where it is known.
    """

    rows = 16
    compile = False
    context: int | None = None

    def __init__(self, model: Decoder, vocab: Vocabulary, vision: VisionTokenizer, watch: Watch | None = None) -> None:
        self.model, self.vocab, self.vision, self.watch = model, vocab, vision, watch
        self.one_block = Grammar(vocab, one_block=True)
        self.free = Grammar(vocab)

    @classmethod
    def open(cls, checkpoint: Path, tokenizer: str | None = None, watch: Watch | None = None) -> Studio:
        """The studio of a checkpoint or published folder; see `opened`."""
        model, vocab, vision, context = opened(checkpoint, tokenizer)
        studio = cls(model, vocab, vision, watch)
        studio.context = context
        return studio

    def generate(self, requests: Sequence[Request]) -> list[Ids]:
        """The whole token sequences, prompt and all, of requests that are drawn together."""
        drawn = dict(self.generate_each(requests))
        return [drawn[number] for number in range(len(requests))]

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Ids]]:
        """The same, each with its number once it is drawn."""
        if not requests:
            return
        tokens: list[list[int]] = [[*np.asarray(r.prompt).tolist(), *np.asarray(r.drawn).tolist()] for r in requests]
        most, longest = sum(request.most for request in requests), max(request.tokens for request in requests)
        events = run(self.model, self.vocab, requests, rows=self.rows, compile=self.compile)
        for count, event in enumerate(events, 1):
            tokens[event.request].append(event.token)
            if self.watch:
                self.watch(GenerationProgress(tokens, count, event, most, longest))
            if event.is_last:
                yield event.request, np.array(tokens[event.request], dtype=np.int32)

    def visuals(
        self,
        captions: Sequence[str],
        header: Header,
        *,
        begun: Clip | None = None,
        sampling: SamplingParams = DEFAULT,
        negative: str = "",
        streams: Sequence[int] = (),
    ) -> Iterator[tuple[int, Clip]]:
        """A picture or video of `header` for each caption, drawn together; each with its number once it is there.

        Videos begin with `begun`, a picture or a clip. Random streams: 0, 1, ... where not given.
        """
        codes = None if begun is None else self._begun(begun, header)
        requests = [
            visual_request(
                self.one_block, caption, header, begun=codes, sampling=sampling, negative=negative, stream=stream
            )
            for caption, stream in zip(captions, streams or range(len(captions)), strict=True)
        ]
        for number, tokens in self.generate_each(requests):
            yield number, self._clip(self._document(tokens))

    def images(
        self,
        captions: Sequence[str],
        h: int,
        w: int,
        *,
        sampling: SamplingParams = DEFAULT,
        negative: str = "",
        streams: Sequence[int] = (),
    ) -> list[Frames]:
        """A picture [8h, 8w, 3] for each caption, drawn together. Random streams: 0, 1, ... where not given."""
        drawn = dict(self.visuals(captions, Header(h, w), sampling=sampling, negative=negative, streams=streams))
        return [drawn[number].frames[0] for number in range(len(captions))]

    def video(
        self,
        caption: str,
        header: Header,
        *,
        begun: Clip | None = None,
        sampling: SamplingParams = DEFAULT,
        negative: str = "",
        stream: int = 0,
    ) -> Clip:
        """A video for a caption, as long and wide as `header` says; it begins with `begun`, a picture or a clip."""
        how = {"sampling": sampling, "negative": negative, "streams": [stream]}
        ((_, clip),) = self.visuals([caption], header, begun=begun, **how)  # type: ignore[arg-type]
        return clip

    def future(
        self,
        clip: Clip,
        seconds: float,
        *,
        caption: str = "",
        window_s: float = 2.0,
        sampling: SamplingParams = DEFAULT,
        negative: str = "",
        stream: int = 0,
    ) -> Clip:
        """A clip with `seconds` more of it, drawn a window at a time from the last window (Emu3, section 3.3: 2 s)."""
        if clip.fps is None:
            raise DataError("a future is that of a video; animate a picture with `video(begun=...)`")
        window = latents_in(window_s, clip.fps)
        codes = self.vision.encode(clip.frames)
        wanted = len(codes) + latents_in(seconds, clip.fps)
        _, h, w = codes.shape
        while len(codes) < wanted:
            context = codes[-window:]
            new = min(window, wanted - len(codes))
            header = Header(h, w, clip.fps, seconds_of(len(context) + new, clip.fps))
            request = visual_request(
                self.one_block, caption, header, begun=context, sampling=sampling, negative=negative,
                stream=(stream << 32) + len(codes),  # each window has its own
            )  # fmt: skip
            (tokens,) = self.generate([request])
            drawn = self._document(tokens).codes
            codes = np.concatenate((codes, drawn[len(context) :]))
        return Clip(self.vision.decode(codes), clip.fps)

    def caption(self, clip: Clip, *, most: int = 256, sampling: SamplingParams = DEFAULT) -> str:
        """Words after a picture or clip, as documents whose caption stands after the codes have them."""
        return self._words(words_request(self.free, [self._visual(clip)], most, sampling=sampling))

    def answer(self, clip: Clip, question: str, *, most: int = 1024, sampling: SamplingParams = DEFAULT) -> str:
        """The answer to a question about a picture or clip, in Emu3's chat template."""
        return self._words(chat_request(self.free, [self._visual(clip), question], most, sampling=sampling))

    def interleaved(
        self, prompt: str, *, begun: Clip | None = None, most: int = 4096, sampling: SamplingParams = DEFAULT
    ) -> list[str | Clip]:
        """Words and pictures as the model likes: see `pages`."""
        ((_, parts),) = self.pages([prompt], begun=begun, most=most, sampling=sampling)
        return parts

    def pages(
        self,
        prompts: Sequence[str],
        *,
        begun: Clip | None = None,
        most: int = 4096,
        sampling: SamplingParams = DEFAULT,
        negative: str = "",
        streams: Sequence[int] = (),
    ) -> Iterator[tuple[int, list[str | Clip]]]:
        """Words and pictures as the model likes, after `begun` and each prompt, with which the parts begin.

        Drawn together, each with its number once it is there. A picture that `most` tokens cut off is left out.
        Guidance is away from `negative` in the prompt's place.
        """
        before = [] if begun is None else [self._visual(begun)]
        requests = [
            free_request(self.free, [*before, prompt], most, sampling=sampling, negative=negative, stream=stream)
            for prompt, stream in zip(prompts, streams or range(len(prompts)), strict=True)
        ]
        for number, tokens in self.generate_each(requests):
            yield number, list(self.parts(tokens))

    def _words(self, request: Request) -> str:
        (tokens,) = self.generate([request])
        drawn = tokens[len(np.asarray(request.prompt)) :]
        return self.vocab.tokenizer.decode(drawn[drawn < self.vocab.text_size].tolist()).strip()

    def parts(self, tokens: Ids) -> Iterator[str | Clip]:
        """The texts and visuals of a sequence that may have been cut off anywhere."""
        vocab, at = self.vocab, 1
        ends = np.flatnonzero(tokens == vocab.eoi)
        for begin in np.flatnonzero(tokens == vocab.boi):
            yield from self._text(tokens[at:begin])
            if not (ends > begin).any():
                return
            at = int(ends[ends > begin][0]) + 1
            document = parse(vocab, np.array([vocab.bos, *tokens[begin:at], vocab.eos], dtype=np.int32))
            yield self._clip(document)
        yield from self._text(tokens[at:])

    def _text(self, tokens: Ids) -> Iterator[str]:
        text = self.vocab.tokenizer.decode(tokens[tokens < self.vocab.text_size].tolist()).strip()
        if text:
            yield text

    def _clip(self, document: Document) -> Clip:
        header = document.blocks[0].header
        if header.fps is None:
            return Clip(self.vision.decode_image(document.codes[0])[None])
        return Clip(self.vision.decode(document.codes), header.fps)

    def _visual(self, clip: Clip) -> Visual:
        if clip.fps is None:
            return Visual(self.vision.encode_image(clip.frames[0]))
        codes = self.vision.encode(clip.frames)
        return Visual(codes, clip.fps, seconds_of(len(codes), clip.fps))

    def _begun(self, clip: Clip, header: Header) -> Codes:
        """The given beginning in codes; a picture is one latent frame."""
        if clip.fps is None:
            return self.vision.encode_image(clip.frames[0])[None]
        if clip.fps != header.fps:
            raise DataError(f"the beginning has {clip.fps:g} frames/s, the video {header.fps:g}; give both the same")
        return self.vision.encode(clip.frames)

    def _document(self, tokens: Ids) -> Document:
        return parse(self.vocab, tokens)


def latents_in(seconds: float, fps: float) -> int:
    """Latent frames in so many seconds, at least one."""
    return max(1, round(seconds * fps / PIXEL_FRAMES_PER_LATENT))
