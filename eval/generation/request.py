"""What is drawn: a prompt and how to go on from it, and where a sequence stands that is at work."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reelmill.errors import ConfigError
from reelmill.eval.generation.sampling import SamplingParams
from reelmill.tokenize.documents import Grammar, State
from reelmill.tokenize.documents.grammar import Ranges
from reelmill.tokenize.vocabulary import Vocabulary

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt (int [n]) and how to go on from it: at most `most` tokens, closed by `end` where it is drawn.

    With a `grammar` only what it allows is drawn, and of that only the ids of `only`. `unconditional` is the other
    prompt of guidance, which is that of codes alone. `stream` numbers the random stream under the sampling's seed:
    requests of equal seed and stream draw equal tokens. `drawn` are the first of the `most` tokens, where these were
    drawn before: the sequence goes on as if it had never stopped.
    """

    prompt: npt.ArrayLike
    most: int
    end: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stream: int = 0
    grammar: Grammar | None = None
    unconditional: npt.ArrayLike | None = None
    only: Ranges | None = None
    drawn: npt.ArrayLike = ()

    @property
    def prompts(self) -> list[npt.NDArray[np.int64]]:
        """The prompt, and under guidance the unconditional one: each takes a row of the cache."""
        unguided = self.unconditional is None or self.sampling.guidance == 1
        return [
            np.asarray(ids, dtype=np.int64)
            for ids in ([self.prompt] if unguided else [self.prompt, self.unconditional])
        ]

    @property
    def tokens(self) -> int:
        """Tokens that a row has at most."""
        return max(map(len, self.prompts)) + self.most

    def check(self) -> None:
        """Raise ConfigError for what cannot be drawn."""
        self.sampling.check()
        if not all(map(len, self.prompts)):
            raise ConfigError("a prompt is empty; it has at least one token, BOS.")
        drawn = len(np.asarray(self.drawn))
        if not drawn < self.most:
            raise ConfigError(f"at most {self.most} tokens are wanted and {drawn} are there already; ask for more.")


@dataclass(frozen=True)
class SampledToken:
    """A token that was drawn for request number `request`; `is_last` says that the sequence ends with it."""

    request: int
    token: int
    is_last: bool


class Running:
    """A request at work. `pending` are the tokens that its rows read next."""

    def __init__(self, number: int, request: Request, vocab: Vocabulary) -> None:
        self.number, self.request, self.vocab = number, request, vocab
        self.pending = [int(prompt[-1]) for prompt in request.prompts]
        self.rows = len(self.pending)
        self.state: State | None = None
        if request.grammar:
            self.state = request.grammar.advance_all(request.grammar.start(), request.prompts[0].tolist())
        self.random = np.random.default_rng([request.sampling.seed, request.stream])
        self.drawn = 0
        before = np.asarray(request.drawn, dtype=np.int64)
        for token in before.tolist():
            if only_one(self.allowed()) is None:
                self.uniform()
            self.take(token)
        # What each row reads before it draws.
        self.prompts = [np.concatenate((prompt, before)) for prompt in request.prompts]

    def uniform(self) -> float:
        """The next number of its random stream: one for each token that could be another."""
        return float(self.random.random(dtype=np.float32))

    def allowed(self) -> Ranges:
        """The ids that may come next."""
        only = self.request.only or ((0, self.vocab.size),)
        if self.state is None or self.request.grammar is None:
            return only
        return _common(self.request.grammar.allowed(self.state), only)

    def take(self, token: int) -> SampledToken:
        """Note the token that was drawn."""
        self.drawn += 1
        self.pending = [token] * self.rows
        if self.state is not None and self.request.grammar is not None:
            self.state = self.request.grammar.advance(self.state, token)
        return SampledToken(self.number, token, token == self.request.end or self.drawn == self.request.most)


def only_one(ranges: Ranges) -> int | None:
    """The one id in them, or None where there are several."""
    return ranges[0][0] if len(ranges) == 1 and ranges[0][1] == ranges[0][0] + 1 else None


def _common(some: Ranges, others: Ranges) -> Ranges:
    """The ids that are in both."""
    both = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return tuple((start, stop) for start, stop in both if start < stop)
