"""Batched decoding: many sequences at once, of different lengths and sizes, finished ones replaced by waiting ones.

A sequence takes one row of the cache, or two under classifier-free guidance (one with its prompt, one with its
unconditional prompt). Each step reads one token of every row in one forward pass. Where the grammar allows only certain
ids, only their rows of the output head are computed, and none where it allows a single id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.decode_step import DecodeStep
from reelmill.eval.generation.request import ActiveSequence, Ids, Request, SampledToken, single_id
from reelmill.eval.generation.sampling import TokenSampling, sample
from reelmill.tokenize.documents.grammar import Ranges
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder

PREFILL = 512
"""Prompt tokens read in one forward pass."""


class Engine:
    """Generates tokens for requests, in `rows` rows of at most `capacity` tokens each (prompt included).

    The model is in evaluation mode on its device. `prefill` bounds the prompt tokens read in one pass. `static` steps
    have a few fixed shapes (`decode_step.py`) and are replayed as CUDA graphs on a GPU, where they are the default.
    `compile` runs the step through `torch.compile`, which takes a while at first.
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
        self._step = DecodeStep(model, self.cache, static=static, compile=compile)
        self.free = rows
        self._waiting: deque[ActiveSequence] = deque()
        # The rows of active sequences are contiguous, in this order, from row 0.
        self._active: list[ActiveSequence] = []

    def submit(self, number: int, request: Request) -> None:
        """Queue a request under a number. Raises ConfigError for one that can never run, and DocumentError for a
        prompt that its grammar rejects."""
        request.check()
        rows, tokens = len(request.prompts), request.max_length
        if rows > len(self.cache.lengths) or tokens > self.cache.capacity:
            raise ConfigError(
                f"request {number} needs {rows} rows of {tokens:,} tokens; this engine has "
                f"{len(self.cache.lengths)} of {self.cache.capacity:,}. Make it larger."
            )
        self._waiting.append(ActiveSequence(number, request, self.vocab))

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
        """Start the waiting requests that fit, then sample one token for every active sequence."""
        with torch.inference_mode():
            while self._waiting and self._waiting[0].rows <= self.free:
                self._start(self._waiting.popleft())
            if not self._active:
                return []
            tokens = [token for sequence in self._active for token in sequence.pending]
            sampled = self._sample(self._step(tokens))
            self._drop({token.request for token in sampled if token.is_last})
            return sampled

    def _start(self, sequence: ActiveSequence) -> None:
        """Read its prompts up to their last tokens, which the next step reads together with all others."""
        first = len(self.cache.lengths) - self.free
        for row, prompt in enumerate(sequence.prompts, first):
            for start in range(0, len(prompt) - 1, self.prefill):
                part = torch.from_numpy(prompt[start : min(start + self.prefill, len(prompt) - 1)])[None]
                positions = self.cache.reserve(slice(row, row + 1), part.shape[1])
                self.model(part.to(positions.device), positions, cache=self.cache)
        self.free -= sequence.rows
        self._active.append(sequence)

    def _sample(self, hidden: Tensor) -> list[SampledToken]:
        """One token for each active sequence. Sequences that share allowed ids and sampling form one group."""
        groups: dict[tuple[Ranges, TokenSampling, float], list[tuple[int, ActiveSequence]]] = {}
        row = 0
        for sequence in self._active:
            ranges, sampling = sequence.allowed(), sequence.request.sampling
            is_vision = ranges[0][0] >= self.vocab.vision_start
            params = sampling.vision if is_vision else sampling.text
            guidance = sampling.guidance if is_vision and sequence.rows > 1 else 1.0
            groups.setdefault((ranges, params, guidance), []).append((row, sequence))
            row += sequence.rows
        sampled = []
        for (ranges, params, guidance), members in groups.items():
            token = single_id(ranges)
            if token is not None:
                tokens = [token] * len(members)
            else:
                first = torch.tensor([row for row, _ in members], device=hidden.device)
                if guidance == 1:
                    logits = self._logits(hidden[first], ranges)
                else:
                    conditional, unconditional = self._logits(hidden[torch.cat((first, first + 1))], ranges).chunk(2)
                    logits = unconditional + guidance * (conditional - unconditional)
                uniforms = torch.tensor([sequence.uniform() for _, sequence in members])
                places = sample(logits, params, uniforms.to(logits.device)).tolist()
                ids = np.concatenate([np.arange(*bounds) for bounds in ranges])
                tokens = ids[places].tolist()
            sampled += [sequence.append(token) for (_, sequence), token in zip(members, tokens, strict=True)]
        return sampled

    def _logits(self, hidden: Tensor, ranges: Ranges) -> Tensor:
        """Logits float32 [n, ids] of the ids in `ranges` alone."""
        weight = self.model.lm_head.weight
        # With few states, weight times states is twice as fast on a CPU as states times weight.
        parts = [weight[start:stop] @ hidden.t() for start, stop in ranges]
        return torch.cat(parts).t().float()

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
                    self.cache.move(source, target)
                target += 1
        self.free += row - target
        self._active = kept


def run(
    model: Decoder,
    vocab: Vocabulary,
    requests: Sequence[Request],
    *,
    rows: int = 16,
    compile: bool = False,
) -> Iterator[SampledToken]:
    """Run all requests, numbered in the order given, in at most `rows` rows at a time; yields tokens as they come."""
    if not requests:
        return
    widths = [len(request.prompts) for request in requests]
    rows = max(*widths, min(rows, sum(widths)))
    capacity = max(request.max_length for request in requests)
    engine = Engine(model, vocab, rows=rows, capacity=capacity, compile=compile)
    for number, request in enumerate(requests):
        engine.submit(number, request)
    while not engine.is_idle:
        yield from engine.step()


def continuations(model: Decoder, vocab: Vocabulary, requests: Sequence[Request], *, rows: int = 16) -> list[Ids]:
    """The new tokens of each request, int32 [at most its `max_new_tokens`]."""
    tokens: list[list[int]] = [[] for _ in requests]
    for sampled in run(model, vocab, requests, rows=rows):
        tokens[sampled.request].append(sampled.token)
    return [np.array(ids, dtype=np.int32) for ids in tokens]
