"""Decoding of many sequences at once: prompts of several lengths and sizes, ended ones replaced by waiting ones.

A sequence is one row of the cache, or two under guidance (with its prompt, and with its unconditional prompt). Each
step reads one token of every row in one forward pass. Where the grammar allows certain ids only, only their rows of the
head are computed, and none where it allows one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.decode_step import Step
from reelmill.eval.generation.request import Ids, Request, Running, SampledToken, only_one
from reelmill.eval.generation.sampling import TokenSampling, sample
from reelmill.tokenize.documents.grammar import Ranges
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder

PREFILL = 512
"""Tokens of a prompt that are read at once."""


class Engine:
    """Draws tokens for requests, at most `rows` rows at a time, each of at most `capacity` tokens (prompt and drawn).

    The model is in evaluation mode on its device. `prefill` bounds the tokens of a prompt read at once. `static` steps
    have few fixed shapes (`decode_step.py`) and are replayed as CUDA graphs on a GPU, where they are the default.
    `compile` puts them through `torch.compile`, which takes some time first.
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
    ) -> None:
        self.model, self.vocab, self.prefill = model, vocab, prefill
        self.cache = KVCache(model.config, rows, capacity, model.embed_tokens.weight)
        self._step = Step(model, self.cache, static=static, compile=compile)
        self.free = rows
        self._waiting: deque[Running] = deque()
        # The sequences at work; their rows follow each other from row 0 on.
        self._working: list[Running] = []

    def submit(self, number: int, request: Request) -> None:
        """Queue a request under a number. Raises ConfigError for one that can never run, DocumentError for a prompt
        that its grammar refuses."""
        request.check()
        rows, tokens = len(request.prompts), request.tokens
        if rows > len(self.cache.lengths) or tokens > self.cache.capacity:
            raise ConfigError(
                f"request {number} takes {rows} rows of {tokens:,} tokens; this engine has "
                f"{len(self.cache.lengths)} of {self.cache.capacity:,}. Make it larger."
            )
        self._waiting.append(Running(number, request, self.vocab))

    def cancel(self, number: int) -> None:
        """Forget the requests of that number, waiting or at work; nothing more of them is drawn."""
        self._waiting = deque(sequence for sequence in self._waiting if sequence.number != number)
        with torch.inference_mode():
            self._drop({number})

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting or at work."""
        return not self._waiting and not self._working

    def step(self) -> list[SampledToken]:
        """Draw one token for every sequence at work, after taking in those that there is room for."""
        with torch.inference_mode():
            while self._waiting and self._waiting[0].rows <= self.free:
                self._take_in(self._waiting.popleft())
            if not self._working:
                return []
            tokens = [token for sequence in self._working for token in sequence.pending]
            drawn = self._draw(self._step(tokens))
            self._drop({event.request for event in drawn if event.is_last})
            return drawn

    def _take_in(self, sequence: Running) -> None:
        """Read all of its prompts but the last tokens, which the next step reads with all others."""
        first = len(self.cache.lengths) - self.free
        for row, prompt in enumerate(sequence.prompts, first):
            for start in range(0, len(prompt) - 1, self.prefill):
                part = torch.from_numpy(prompt[start : min(start + self.prefill, len(prompt) - 1)])[None]
                positions = self.cache.open(slice(row, row + 1), part.shape[1])
                self.model(part.to(positions.device), positions, cache=self.cache)
        self.free -= sequence.rows
        self._working.append(sequence)

    def _draw(self, hidden: Tensor) -> list[SampledToken]:
        """A token for each sequence at work, those that may draw the same ids in the same way together."""
        groups: dict[tuple[Ranges, TokenSampling, float], list[tuple[int, Running]]] = {}
        row = 0
        for sequence in self._working:
            ranges, sampling = sequence.allowed(), sequence.request.sampling
            is_vision = ranges[0][0] >= self.vocab.vision_start
            how = sampling.vision if is_vision else sampling.text
            guidance = sampling.guidance if is_vision and sequence.rows > 1 else 1.0
            groups.setdefault((ranges, how, guidance), []).append((row, sequence))
            row += sequence.rows
        drawn = []
        for (ranges, how, guidance), members in groups.items():
            token = only_one(ranges)
            if token is not None:
                tokens = [token] * len(members)
            else:
                first = torch.tensor([row for row, _ in members], device=hidden.device)
                if guidance == 1:
                    logits = self._logits(hidden[first], ranges)
                else:
                    with_prompt, without = self._logits(hidden[torch.cat((first, first + 1))], ranges).chunk(2)
                    logits = without + guidance * (with_prompt - without)
                uniforms = torch.tensor([sequence.uniform() for _, sequence in members])
                places = sample(logits, how, uniforms.to(logits.device)).tolist()
                ids = np.concatenate([np.arange(*bounds) for bounds in ranges])
                tokens = ids[places].tolist()
            drawn += [sequence.take(token) for (_, sequence), token in zip(members, tokens, strict=True)]
        return drawn

    def _logits(self, hidden: Tensor, ranges: Ranges) -> Tensor:
        """Logits float32 [n, ids] of the ids in `ranges` alone."""
        weight = self.model.lm_head.weight
        # Weight times states: with few states twice as fast on a CPU as the other way about.
        parts = [weight[start:stop] @ hidden.t() for start, stop in ranges]
        return torch.cat(parts).t().float()

    def _drop(self, ended: set[int]) -> None:
        """Free the rows of sequences that have ended, and close the gaps."""
        row = target = 0
        stay = []
        for sequence in self._working:
            sources = range(row, row + sequence.rows)
            row += sequence.rows
            if sequence.number in ended:
                self.cache.clear(sources)
                continue
            stay.append(sequence)
            for source in sources:
                if source != target:
                    self.cache.move(source, target)
                target += 1
        self.free += row - target
        self._working = stay


def run(
    model: Decoder,
    vocab: Vocabulary,
    requests: Sequence[Request],
    *,
    rows: int = 16,
    compile: bool = False,
) -> Iterator[SampledToken]:
    """Draw for all requests, numbered as they are given, at most `rows` rows at a time; tokens as they are drawn."""
    if not requests:
        return
    widths = [len(request.prompts) for request in requests]
    rows = max(*widths, min(rows, sum(widths)))
    capacity = max(request.tokens for request in requests)
    engine = Engine(model, vocab, rows=rows, capacity=capacity, compile=compile)
    for number, request in enumerate(requests):
        engine.submit(number, request)
    while not engine.is_idle:
        yield from engine.step()


def continuations(model: Decoder, vocab: Vocabulary, requests: Sequence[Request], *, rows: int = 16) -> list[Ids]:
    """What was drawn for each request, int32 [at most its `most`]."""
    tokens: list[list[int]] = [[] for _ in requests]
    for drawn in run(model, vocab, requests, rows=rows):
        tokens[drawn.request].append(drawn.token)
    return [np.array(ids, dtype=np.int32) for ids in tokens]
