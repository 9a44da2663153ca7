"""Decoding of many sequences at once: prompts of several lengths and sizes, ended ones replaced by waiting ones.

A sequence is one row of the cache, or two under guidance (with its prompt, and with its unconditional prompt). Each
step reads one token of every row in one forward pass. Where the grammar allows certain ids only, only their rows of the
head are computed, and none where it allows one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.sampling import Draw, Sampling, draw
from reelmill.tokenize.documents import Grammar, State
from reelmill.tokenize.documents.grammar import Ranges
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder

Ids = npt.NDArray[np.int32]
PREFILL = 512
"""Tokens of a prompt that are read at once."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt (int [n]) and how to go on from it: at most `most` tokens, closed by `end` where it is drawn.

    With a `grammar` only what it allows is drawn, and of that only the ids of `only`. `unconditional` is the other
    prompt of guidance. `stream` numbers the random stream under the sampling's seed: requests of equal seed and stream
    draw equal tokens.
    """

    prompt: npt.ArrayLike
    most: int
    end: int
    sampling: Sampling = field(default_factory=Sampling)
    stream: int = 0
    grammar: Grammar | None = None
    unconditional: npt.ArrayLike | None = None
    only: Ranges | None = None


@dataclass(frozen=True)
class Drawn:
    """A token that was drawn for request number `request`; `is_last` says that the sequence ends with it."""

    request: int
    token: int
    is_last: bool


class _Sequence:
    """A request at work. `pending` are the tokens that its rows read next."""

    def __init__(self, number: int, request: Request) -> None:
        self.number, self.request = number, request
        self.prompts = [np.asarray(request.prompt, dtype=np.int64)]
        if request.unconditional is not None and request.sampling.guidance != 1:
            self.prompts.append(np.asarray(request.unconditional, dtype=np.int64))
        self.pending = [int(prompt[-1]) for prompt in self.prompts]
        self.state: State | None = None
        if request.grammar:
            self.state = request.grammar.advance_all(request.grammar.start(), self.prompts[0].tolist())
        self.random = np.random.default_rng([request.sampling.seed, request.stream])
        self.drawn = 0

    @property
    def rows(self) -> int:
        return len(self.prompts)

    def allowed(self, vocab: Vocabulary) -> Ranges:
        """The ids that may come next."""
        only = self.request.only or ((0, vocab.size),)
        if self.state is None or self.request.grammar is None:
            return only
        return _common(self.request.grammar.allowed(self.state), only)

    def take(self, token: int) -> Drawn:
        """Note the token that was drawn."""
        self.drawn += 1
        self.pending = [token] * self.rows
        if self.state is not None and self.request.grammar is not None:
            self.state = self.request.grammar.advance(self.state, token)
        return Drawn(self.number, token, token == self.request.end or self.drawn == self.request.most)


class Engine:
    """Draws tokens for requests, at most `rows` rows at a time, each of at most `capacity` tokens (prompt and drawn).

    The model is in evaluation mode on its device. `prefill` bounds the tokens of a prompt read at once.
    """

    def __init__(self, model: Decoder, vocab: Vocabulary, *, rows: int, capacity: int, prefill: int = PREFILL) -> None:
        self.model, self.vocab, self.prefill = model, vocab, prefill
        self.cache = KVCache(model.config, rows, capacity, model.embed_tokens.weight)
        self.free = rows
        self._waiting: deque[_Sequence] = deque()
        # The sequences at work; their rows follow each other from row 0 on.
        self._working: list[_Sequence] = []

    def submit(self, number: int, request: Request) -> None:
        """Queue a request under a number. Raises ConfigError for one that can never run, DocumentError for a prompt
        that its grammar refuses."""
        request.sampling.check()
        sequence = _Sequence(number, request)
        longest = max(map(len, sequence.prompts)) + request.most
        if sequence.rows > len(self.cache.lengths) or longest > self.cache.capacity:
            raise ConfigError(
                f"request {number} takes {sequence.rows} rows of {longest:,} tokens; this engine has "
                f"{len(self.cache.lengths)} of {self.cache.capacity:,}. Make it larger."
            )
        self._waiting.append(sequence)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting or at work."""
        return not self._waiting and not self._working

    @torch.inference_mode()
    def step(self) -> list[Drawn]:
        """Draw one token for every sequence at work, after taking in those that there is room for."""
        while self._waiting and self._waiting[0].rows <= self.free:
            self._take_in(self._waiting.popleft())
        if not self._working:
            return []
        tokens = [token for sequence in self._working for token in sequence.pending]
        hidden = self._read(slice(0, len(tokens)), torch.tensor(tokens)[:, None])[:, 0]
        drawn = self._draw(hidden)
        self._drop({event.request for event in drawn if event.is_last})
        return drawn

    def _take_in(self, sequence: _Sequence) -> None:
        """Read all of its prompts but the last tokens, which the next step reads with all others."""
        first = len(self.cache.lengths) - self.free
        for row, prompt in enumerate(sequence.prompts, first):
            for start in range(0, len(prompt) - 1, self.prefill):
                part = torch.from_numpy(prompt[start : min(start + self.prefill, len(prompt) - 1)])
                self._read(slice(row, row + 1), part[None])
        self.free -= sequence.rows
        self._working.append(sequence)

    def _read(self, rows: slice, tokens: Tensor) -> Tensor:
        """Hidden states [rows, n, hidden] of the next tokens [rows, n]."""
        positions = self.cache.open(rows, tokens.shape[1])
        hidden: Tensor = self.model(tokens.to(positions.device), positions, cache=self.cache)
        return hidden

    def _draw(self, hidden: Tensor) -> list[Drawn]:
        """A token for each sequence at work, those that may draw the same ids in the same way together."""
        groups: dict[tuple[Ranges, Draw, float], list[tuple[int, _Sequence]]] = {}
        row = 0
        for sequence in self._working:
            ranges, sampling = sequence.allowed(self.vocab), sequence.request.sampling
            is_vision = ranges[0][0] >= self.vocab.vision_start
            how = sampling.vision if is_vision else sampling.text
            guidance = sampling.guidance if sequence.rows > 1 else 1.0
            groups.setdefault((ranges, how, guidance), []).append((row, sequence))
            row += sequence.rows
        drawn = []
        for (ranges, how, guidance), members in groups.items():
            if len(ranges) == 1 and ranges[0][1] == ranges[0][0] + 1:
                tokens = [ranges[0][0]] * len(members)
            else:
                first = torch.tensor([row for row, _ in members], device=hidden.device)
                if guidance == 1:
                    logits = self._logits(hidden[first], ranges)
                else:
                    with_prompt, without = self._logits(hidden[torch.cat((first, first + 1))], ranges).chunk(2)
                    logits = without + guidance * (with_prompt - without)
                chances = torch.tensor([sequence.random.random(dtype=np.float32) for _, sequence in members])
                places = draw(logits, how, chances.to(logits.device)).tolist()
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
) -> Iterator[Drawn]:
    """Draw for all requests, numbered as they are given, at most `rows` rows at a time; tokens as they are drawn."""
    if not requests:
        return
    needed = [max(len(np.asarray(p)) for p in (r.prompt, r.unconditional) if p is not None) + r.most for r in requests]
    widths = [2 if r.unconditional is not None and r.sampling.guidance != 1 else 1 for r in requests]
    rows = max(*widths, min(rows, sum(widths)))
    engine = Engine(model, vocab, rows=rows, capacity=max(needed))
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


def _common(some: Ranges, others: Ranges) -> Ranges:
    """The ids that are in both."""
    both = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return tuple((start, stop) for start, stop in both if start < stop)
