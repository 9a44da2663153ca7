"""Batched decoding: many sequences at once, of different lengths and sizes, finished ones replaced by waiting ones.

A sequence takes one row of the cache, or two under classifier-free guidance (one with its prompt, one with its
unconditional prompt), or three where its pictures guide it too. Each step reads the next tokens of every row in one
forward pass. A prompt that another row has read already, as for several pictures of one prompt, is shared with it (in a
cache in pages) or copied from it.
Where the grammar allows only certain ids, only their rows of the output head are computed, and none where
it allows a single id.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from reelmill.errors import ConfigError
from reelmill.eval.generation.cache_view import PAGE
from reelmill.eval.generation.decode_step import DecodeStep
from reelmill.eval.generation.denoising import Denoiser, Denoising
from reelmill.eval.generation.diagonal_decoding import ByDiagonals, DiagonalDecoder
from reelmill.eval.generation.paged_cache import kv_cache, pages_of
from reelmill.eval.generation.request import (
    ActiveSequence,
    Ids,
    OnDraft,
    Picture,
    PictureDraft,
    Request,
    SampledToken,
    single_id,
)
from reelmill.eval.generation.row_decoding import ByRows, RowDecoder
from reelmill.eval.generation.sharing import Opening, openings
from reelmill.eval.generation.window_sampler import WindowSampler
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder

Pictures = Denoising | ByRows | ByDiagonals
"""How pictures are drawn where they are not decoded token by token."""
PictureDecoder = Denoiser | RowDecoder | DiagonalDecoder
PREFILL = 512
"""Prompt tokens read in one forward pass."""


class Engine:
    """Generates tokens for requests, in `rows` rows of at most `capacity` tokens each (prompt included).

    The model is in evaluation mode on its device. `prefill` bounds the prompt tokens read in one pass. `static` steps
    have a few fixed shapes (`decode_step.py`) and are replayed as CUDA graphs on a GPU, where they are the default.
    `compile` runs the step through `torch.compile`, which takes a while at first. `cache_tokens` bounds what all rows
    hold together where the cache is in pages (`paged_cache.py`): requests wait for room.

    With a `window` over 1, a pass reads up to that many tokens of each sequence, drafts among them, and settles one or
    more (`window_sampler.py`). The law of the tokens is the same; the random numbers behind them are used otherwise.
    With `pictures` codes are drawn in another order, and other tokens one by one, whatever the window: all at once
    (`denoising.py`) or by diagonals (`diagonal_decoding.py`), by a model that has learned it, or by rows
    (`row_decoding.py`). `passes` counts the passes of steps.
    """

    def __init__(
        self,
        model: Decoder,
        vocab: Vocabulary,
        *,
        rows: int,
        capacity: int,
        prefill: int = PREFILL,
        static: bool | None = None,
        compile: bool = False,
        window: int = 1,
        pictures: Pictures | None = None,
        cache_tokens: int | None = None,
    ) -> None:
        window = 1 if pictures is not None else window
        self.model, self.vocab, self.prefill, self.window = model, vocab, prefill, window
        self.capacity = capacity
        # Drafts past the end of a sequence are read too, where its neighbors have longer windows.
        by_diagonals = isinstance(pictures, ByDiagonals)
        self.cache = kv_cache(
            model.config,
            rows,
            capacity + window - 1,
            model.embed_tokens.weight,
            vertical=by_diagonals,
            backend=model.backend,
            tokens=cache_tokens,
        )
        self._step = DecodeStep(model, self.cache, window, static=static, compile=compile)
        self._sampler = WindowSampler(model, vocab)
        self._pictures = self._picture_decoder(pictures)
        self.passes = 0
        self.free = rows
        self._waiting: deque[ActiveSequence] = deque()
        # The rows of active sequences are contiguous, in this order, from row 0.
        self._active: list[ActiveSequence] = []

    def _picture_decoder(self, how: Pictures | None) -> PictureDecoder | None:
        if isinstance(how, ByRows):
            return RowDecoder(self.model, self.vocab, self.cache, how)
        if isinstance(how, ByDiagonals):
            return DiagonalDecoder(self.model, self.vocab, self.cache)
        return Denoiser(self.model, self.vocab, self.cache, how) if how is not None else None

    def capture(self) -> None:
        """Make ready for any step at once: see `DecodeStep.capture`."""
        with torch.inference_mode():
            self._step.capture()

    def submit(self, number: int, request: Request, on_draft: OnDraft | None = None) -> None:
        """Queue a request under a number; `on_draft` sees its pictures while they are drawn.

        Raises ConfigError for one that can never run, and DocumentError for a prompt that its grammar rejects.
        """
        request.check()
        if request.ending is not None and not isinstance(self._pictures, Denoiser):
            raise ConfigError(
                f"request {number} says how its video ends; only --decode dida draws what comes before known codes."
            )
        rows, tokens = len(request.prompts), request.max_length
        if rows > len(self.cache.lengths) or tokens > self.capacity:
            raise ConfigError(
                f"request {number} needs {rows} rows of {tokens:,} tokens; this engine has "
                f"{len(self.cache.lengths)} of {self.capacity:,}. Make it larger."
            )
        if not self.cache.could_hold(_most(request, self.window)):
            needed = sum(_most(request, self.window))
            raise ConfigError(f"request {number} needs {needed:,} tokens of cache, more than this engine has.")
        sequence = ActiveSequence(number, request, self.vocab)
        sequence.on_draft = on_draft
        self._waiting.append(sequence)

    def cancel(self, number: int) -> None:
        """Drop the requests of that number, waiting or active. No more of their tokens are sampled."""
        self._waiting = deque(sequence for sequence in self._waiting if sequence.number != number)
        with torch.inference_mode():
            self._drop({number})

    @property
    def is_idle(self) -> bool:
        """Whether no request is waiting or active."""
        return not self._waiting and not self._active

    def step(self) -> list[SampledToken]:
        """Start the waiting requests that fit, then sample one token or more for every active sequence, or move its
        picture on by a pass."""
        with torch.inference_mode():
            while self._waiting and self._waiting[0].rows <= self.free:
                sequence = self._waiting[0]
                if self._pictures is not None and sequence.picture is None:
                    self._pictures.begin(sequence)
                rows = self._openings(sequence)
                if not self.cache.has_room(rows):
                    break
                self._start(self._waiting.popleft(), rows)
            events = self._next_tokens()
            if self._pictures is not None:
                events += self._next_pictures(self._pictures)
            self._drop({token.request for token in events if token.is_last})
            return events

    def _next_tokens(self) -> list[SampledToken]:
        """A pass over the sequences that are not drawing a picture."""
        windows = [[] if sequence.picture else sequence.ahead(self.window) for sequence in self._active]
        reading = [sequence for sequence, window in zip(self._active, windows, strict=True) if window]
        if not reading:
            return []
        with self._counted(reading):
            for sequence, window in zip(self._active, windows, strict=True):
                if window:
                    self._sampler.propose(sequence, window)
            hidden = self._step([row for sequence in self._active for row in sequence.unread()])
            sampled = self._sampler.sample(self._active, windows, hidden)
        first = 0
        for sequence, new in zip(self._active, sampled, strict=True):
            for row in range(first, first + sequence.rows):
                self.cache.advance(row, len(new))
            first += sequence.rows
            if self._pictures is not None and new and new[-1].token == self.vocab.img:
                self._pictures.begin(sequence)
        return [token for new in sampled for token in new]

    def _next_pictures(self, decoder: PictureDecoder) -> list[SampledToken]:
        """A pass over the pictures, for each run of neighboring rows whose pictures can share one."""
        groups: list[tuple[int, list[ActiveSequence]]] = []
        row, kind = 0, None
        for sequence in self._active:
            before, kind = kind, decoder.group(sequence.picture) if sequence.picture else None
            if kind is not None and kind == before:
                groups[-1][1].append(sequence)
            elif kind is not None:
                groups.append((row, [sequence]))
            row += sequence.rows
        events = []
        for first, group in groups:
            with self._counted(group):
                decoder.advance(group, first)
            row = first
            for sequence in group:
                if sequence.picture and sequence.picture.step == decoder.passes(sequence.picture):
                    events += self._finish_picture(sequence, sequence.picture, row)
                elif sequence.picture and sequence.on_draft:
                    sequence.on_draft(_draft_of(sequence, sequence.picture, decoder))
                row += sequence.rows
        return events

    def _finish_picture(self, sequence: ActiveSequence, picture: Picture, row: int) -> list[SampledToken]:
        """Append a picture and the tokens that the grammar forces behind it; read all of it unless the sequence ends.

        Read in order, as any tokens are, it is what the tokens after it were trained to follow.
        """
        sequence.picture = None
        tokens = picture.ids.tolist()
        events = [sequence.append(token) for token in tokens[picture.known :]]
        while not events[-1].is_last and (token := single_id(sequence.allowed())) is not None:
            events.append(sequence.append(token))
            tokens.append(token)
        if not events[-1].is_last:
            for number in range(row, row + sequence.rows):
                self._read(sequence, number, np.array(tokens[:-1]))
        return events

    def _openings(self, sequence: ActiveSequence) -> list[Opening]:
        """What its rows need, and what they take over from those of active sequences or from each other."""
        prompts = (prompt for active in self._active for prompt in active.prompts)
        held = [prompt[:length] for prompt, length in zip(prompts, self.cache.lengths, strict=False)]
        most = _most(sequence.request, self.window)
        return openings(sequence.prompts, most, _unread(sequence), held, self.prefill)

    def _start(self, sequence: ActiveSequence, rows: Sequence[Opening]) -> None:
        """Read its prompts up to their last tokens, which the next step reads together with all others, or up to the
        picture that it begins in."""
        first = len(self.cache.lengths) - self.free
        for row, (opening, prompt) in enumerate(zip(rows, sequence.prompts, strict=True), first):
            self.cache.open(row, opening)
            self._read(sequence, row, prompt[opening.count : len(prompt) - _unread(sequence)])
        self.free -= sequence.rows
        self._active.append(sequence)

    def _read(self, sequence: ActiveSequence, row: int, tokens: npt.NDArray[np.int64]) -> None:
        """Read tokens into a row, in chunks."""
        for start in range(0, len(tokens), self.prefill):
            began = time.process_time()
            part = torch.from_numpy(tokens[start : start + self.prefill])[None]
            positions = self.cache.reserve(slice(row, row + 1), part.shape[1])
            self.model(part.to(positions.device), positions, cache=self.cache)
            self.cache.advance(row, part.shape[1])
            sequence.cost.add(time.process_time() - began)

    @contextmanager
    def _counted(self, sequences: Sequence[ActiveSequence]) -> Iterator[None]:
        """Count a pass that these sequences share."""
        began = time.process_time()
        yield
        self.passes += 1
        for sequence in sequences:
            sequence.cost.add((time.process_time() - began) / len(sequences))

    def _drop(self, numbers: set[int]) -> None:
        """Free the rows of these sequences and close the gaps."""
        row = target = 0
        kept = []
        for sequence in self._active:
            sources = range(row, row + sequence.rows)
            row += sequence.rows
            if sequence.number in numbers:
                self.cache.clear(sources)
                continue
            kept.append(sequence)
            for source in sources:
                if source != target:
                    # A picture's tokens stand behind those that count.
                    behind = len(sequence.picture.ids) if sequence.picture else 0
                    self.cache.move(source, target, behind)
                target += 1
        self.free += row - target
        self._active = kept


def _draft_of(sequence: ActiveSequence, picture: Picture, decoder: PictureDecoder) -> PictureDraft:
    ids = picture.ids.cpu().numpy().copy()
    ids[decoder.undrawn(picture)] = -1
    return PictureDraft(sequence.number, ids, picture.step / decoder.passes(picture))


def _unread(sequence: ActiveSequence) -> int:
    """Tokens at the end of its prompts that its first pass reads."""
    return sequence.picture.known if sequence.picture else 1


def _most(request: Request, window: int) -> list[int]:
    """The most tokens of each of its rows, with drafts past its end."""
    return [len(prompt) + request.max_new_tokens + window - 1 for prompt in request.prompts]


def tokens_together(requests: Sequence[Request], rows: int, window: int = 1) -> int:
    """The most tokens, in whole pages, that requests hold which are decoded together, as many as fit in `rows` rows, in
    their order: what they begin with alike is counted once."""
    largest = together = 0
    held: list[npt.NDArray[np.int64]] = []
    for request in requests:
        if len(held) + len(request.prompts) > rows:
            held, together = [], 0
        for opening in openings(request.prompts, _most(request, window), 1, held, PREFILL):
            together += (pages_of(opening.tokens) - opening.count // PAGE) * PAGE
        held += [prompt[:-1] for prompt in request.prompts]
        largest = max(largest, together)
    return largest


def run(
    model: Decoder,
    vocab: Vocabulary,
    requests: Sequence[Request],
    *,
    rows: int = 16,
    compile: bool = False,
    window: int = 1,
    pictures: Pictures | None = None,
    on_draft: OnDraft | None = None,
) -> Iterator[SampledToken]:
    """Run all requests, numbered in the order given, in at most `rows` rows at a time; yields tokens as they come.

    `on_draft` sees pictures while they are drawn in another order than that of their tokens.
    """
    if not requests:
        return
    widths = [len(request.prompts) for request in requests]
    rows = max(*widths, min(rows, sum(widths)))
    capacity = max(request.max_length for request in requests)
    engine = Engine(
        model,
        vocab,
        rows=rows,
        capacity=capacity,
        compile=compile,
        window=window,
        pictures=pictures,
        cache_tokens=tokens_together(requests, rows, 1 if pictures is not None else window),
    )
    for number, request in enumerate(requests):
        engine.submit(number, request, on_draft)
    while not engine.is_idle:
        yield from engine.step()


def continuations(model: Decoder, vocab: Vocabulary, requests: Sequence[Request], *, rows: int = 16) -> list[Ids]:
    """The new tokens of each request, int32 [at most its `max_new_tokens`]."""
    tokens: list[list[int]] = [[] for _ in requests]
    for sampled in run(model, vocab, requests, rows=rows):
        tokens[sampled.request].append(sampled.token)
    return [np.array(ids, dtype=np.int32) for ids in tokens]
