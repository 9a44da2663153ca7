"""What is generated: a prompt and how to continue it, and the state of a sequence that is being generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.eval.generation.sampling import SamplingParams
from reelmill.tokenize.documents import Grammar, Phase, State, grammar_of
from reelmill.tokenize.documents.grammar import Ranges
from reelmill.tokenize.vocabulary import Vocabulary

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt, int [n], to be continued by at most `max_new_tokens` tokens; `stop_id` ends the sequence early.

    With a `grammar`, only tokens that it allows are sampled, and of those only ids in the ranges `allowed_ids`. The
    prompt is the beginning of any document.
    `unconditional` is the other prompt of classifier-free guidance, which applies to visual codes alone: it keeps the
    pictures of a prompt and leaves out its words. `without_pictures` leaves out both, for guidance by the pictures as
    well (Brooks et al. 2023, arXiv 2211.09800, equation 3): codes are sampled from the logits

        without_pictures + image_guidance (unconditional - without_pictures) + guidance (conditional - unconditional)

    `stream` numbers the random stream under the sampling seed: requests of equal seed and stream sample equal tokens.
    `generated` resumes a sequence: these tokens count as the first of `max_new_tokens`, and the sequence continues as
    if it had never stopped.
    `ending` are the codes that the video in whose middle the prompt ends is to end with, int [latent frames, h, w].
    What is drawn before them sees them, so only a way that draws all codes at once can have them (`denoising.py`).
    """

    prompt: npt.ArrayLike
    max_new_tokens: int
    stop_id: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stream: int = 0
    grammar: Grammar | None = None
    unconditional: npt.ArrayLike | None = None
    without_pictures: npt.ArrayLike | None = None
    allowed_ids: Ranges | None = None
    generated: npt.ArrayLike = ()
    ending: npt.ArrayLike | None = None

    @property
    def prompts(self) -> list[npt.NDArray[np.int64]]:
        """The prompt and, under guidance, the others of guidance. Each takes one row of the cache."""
        found = (self.prompt, self.unconditional, self.without_pictures)
        return [np.asarray(ids, dtype=np.int64) for ids in found[: 1 + len(self.scales)] if ids is not None]

    @property
    def scales(self) -> tuple[float, ...]:
        """The scale of guidance between each prompt and the next of `prompts`."""
        sampling = self.sampling
        if self.unconditional is None:
            return ()
        if self.without_pictures is not None and sampling.image_guidance != 1:
            return (sampling.guidance, sampling.image_guidance)
        return () if sampling.guidance == 1 else (sampling.guidance,)

    @property
    def max_length(self) -> int:
        """The most tokens that a row can hold, prompt included."""
        return max(map(len, self.prompts)) + self.max_new_tokens

    def check(self) -> None:
        """Raise ConfigError for a request that cannot be run."""
        self.sampling.check()
        if not all(map(len, self.prompts)):
            raise ConfigError("a prompt is empty; it needs at least one token, BOS.")
        generated = len(np.asarray(self.generated))
        if not generated < self.max_new_tokens:
            raise ConfigError(
                f"max_new_tokens is {self.max_new_tokens} and {generated} tokens are given; ask for more tokens."
            )


@dataclass
class Cost:
    """What a sequence took: its new tokens, the forward passes that read its tokens, and its share of the process's CPU
    time in them, which the sequences of a pass share equally."""

    tokens: int = 0
    passes: int = 0
    cpu_s: float = 0.0

    def add(self, cpu_s: float) -> None:
        """Count a pass."""
        self.passes += 1
        self.cpu_s += cpu_s


@dataclass(frozen=True)
class SampledToken:
    """A token that was sampled for request number `request`; `is_last` says that the sequence ends with it, and then
    `cost` what it took."""

    request: int
    token: int
    is_last: bool
    cost: Cost | None = None


@dataclass(frozen=True)
class PictureDraft:
    """A picture or video that request number `request` draws in another order than that of its tokens, after a pass.

    `ids` int64 [n]: IMG and what follows up to the last code, -1 where a code is not drawn yet. `done`: the share of
    its passes that are made.
    """

    request: int
    ids: npt.NDArray[np.int64]
    done: float


OnDraft = Callable[[PictureDraft], None]
"""Called after each pass over a picture but its last."""


class Draft(NamedTuple):
    """A token that is proposed for a position, and the distribution [ids] over the allowed ids that it is a sample of;
    None where the grammar allows this token alone."""

    token: int
    distribution: Tensor | None


@dataclass
class Picture:
    """A picture or video that is not drawn in the order of its tokens: `ids` int64 [n], IMG and what follows up to the
    last code.

    The first `known` of them are given; the codes at the places `free` int64 [m] are drawn, in passes of which `step`
    are done.
    """

    ids: Tensor
    free: Tensor
    known: int
    step: int = 0


class ActiveSequence:
    """A request that is being generated.

    Its rows read the tokens `pending` in the next step, and after them those of `drafts`, which stand for the positions
    that follow; or, while a `picture` is drawn in another order, parts of that. `laws` are the distributions that its
    newest tokens are samples of, where these are known: those of a `row`, for drafts of the next one.
    """

    def __init__(self, number: int, request: Request, vocab: Vocabulary) -> None:
        self.number, self.request, self.vocab = number, request, vocab
        self.pending = [int(prompt[-1]) for prompt in request.prompts]
        self.rows = len(self.pending)
        self.drafts: list[Draft] = []
        self.laws: list[Tensor | None] = []
        self.picture: Picture | None = None
        self.on_draft: OnDraft | None = None
        self.cost = Cost()
        self._state: State | None = None
        if request.grammar:
            # What is given may be any document; the request's own grammar is about what is generated.
            grammar = grammar_of(request.grammar.vocab)
            self._state = grammar.advance_all(grammar.start(), request.prompts[0].tolist())
        self._random = np.random.default_rng([request.sampling.seed, request.stream])
        self._new_tokens = 0
        generated = np.asarray(request.generated, dtype=np.int64)
        for token in generated.tolist():
            if single_id(self.allowed()) is None:
                self.uniform()
            self.append(token)
        # What each row has to read before its first sample.
        self.prompts = [np.concatenate((prompt, generated)) for prompt in request.prompts]

    def uniform(self) -> float:
        """The next number of its random stream, in [0, 1): one for each token that has an alternative."""
        return float(self._random.random(dtype=np.float32))

    def uniforms(self, count: int) -> list[float]:
        """The next `count` numbers of its random stream."""
        numbers: list[float] = self._random.random(count, dtype=np.float32).tolist()
        return numbers

    @property
    def row(self) -> int:
        """Tokens from a code to the one below it, in the picture or video that it is in the middle of; else 0."""
        return self._state.w + 1 if self._state is not None and self._state.phase == Phase.BODY else 0

    def allowed(self) -> Ranges:
        """The ids that may come next, as (start, stop) ranges."""
        return self._allowed(self._state)

    def ahead(self, most: int) -> list[Ranges]:
        """What is allowed at each of the next positions, at least one and at most `most` of them.

        They go on for as long as they do not depend on what is sampled: through the rows of a picture or video and the
        tokens that the grammar forces, up to the first position with another choice.
        """
        grammar, state = self.request.grammar, self._state
        most = min(most, self.request.max_new_tokens - self._new_tokens)
        found: list[Ranges] = []
        while True:
            ranges = self._allowed(state)
            found.append(ranges)
            token = single_id(ranges)
            is_open = token is None and not self.is_vision(ranges)
            if len(found) == most or state is None or grammar is None or is_open or token == self.request.stop_id:
                return found
            state = grammar.advance(state, ranges[0][0])

    def begin_picture(self, device: torch.device) -> Picture | None:
        """Start, as `picture`, the picture or video that the sequence is in the middle of; known codes stay.

        None outside of one, and where `max_new_tokens` cuts it.
        """
        found = self._body()
        if found is None:
            return None
        before, ahead = found
        free = [len(before) + place for place, ranges in enumerate(ahead) if single_id(ranges) is None]
        ids = torch.tensor([*before, *(ranges[0][0] for ranges in ahead)], device=device)
        if self.request.ending is not None:
            ending = torch.from_numpy(np.array(self.request.ending, dtype=np.int64).reshape(-1)).to(device)
            free, given = free[: -len(ending)], free[-len(ending) :]
            ids[given] = self.vocab.vision_start + ending
        self.pending = [before[0]] * self.rows
        self.picture = Picture(ids, torch.tensor(free, device=device), len(before))
        return self.picture

    def is_vision(self, ranges: Ranges) -> bool:
        """Whether only visual codes are allowed."""
        return ranges[0][0] >= self.vocab.vision_start

    def _body(self) -> tuple[list[int], list[Ranges]] | None:
        """Of that picture or video: its tokens so far, from IMG on, and what is allowed at each of those to come, up to
        the last code.
        """
        state, grammar = self._state, self.request.grammar
        if state is None or grammar is None or state.phase != Phase.BODY:
            return None
        size = state.t * self.vocab.layout.frame_tokens(state.h, state.w)
        ahead = self.ahead(size - state.offset) if state.offset < size else []
        if len(ahead) < size - state.offset:
            return None
        while ahead and single_id(ahead[-1]) is not None:
            ahead.pop()
        before = self.prompts[0][-state.offset :].tolist() if state.offset else []
        return ([self.vocab.img, *before], ahead) if ahead else None

    def _allowed(self, state: State | None) -> Ranges:
        allowed_ids = self.request.allowed_ids or ((0, self.vocab.size),)
        if state is None or self.request.grammar is None:
            return allowed_ids
        return _intersection(self.request.grammar.allowed(state), allowed_ids)

    def unread(self) -> list[list[int]]:
        """What each of its rows reads next: the pending token and the drafts."""
        return [[token, *(draft.token for draft in self.drafts)] for token in self.pending]

    def append(self, token: int) -> SampledToken:
        """Append the token that was sampled."""
        self._new_tokens += 1
        self.cost.tokens += 1
        self.pending = [token] * self.rows
        if self._state is not None and self.request.grammar is not None:
            self._state = self.request.grammar.advance(self._state, token)
        is_last = token == self.request.stop_id or self._new_tokens == self.request.max_new_tokens
        return SampledToken(self.number, token, is_last, self.cost if is_last else None)


def single_id(ranges: Ranges) -> int | None:
    """The id in `ranges` if there is exactly one, else None."""
    return ranges[0][0] if len(ranges) == 1 and ranges[0][1] == ranges[0][0] + 1 else None


def _intersection(some: Ranges, others: Ranges) -> Ranges:
    both = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return tuple((start, stop) for start, stop in both if start < stop)
