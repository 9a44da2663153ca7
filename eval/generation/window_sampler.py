"""Tokens sampled from what one forward pass says of a window of positions: exact parallel decoding.

Plain decoding is a window of one position. In a longer one the later positions hold drafts, which the pass reads as if
they were settled. The pass then gives the distribution p of every position after the tokens before it, drafts among
them, and each draft is replaced by a sample of its p that is the draft itself as often as can be (`coupling.py`). The
tokens up to the first that is not its draft are settled: all before them were right when p was worked out. Those after
it stay as drafts, now samples of the p of this pass. So each settled token is a sample of the model's distribution
after the settled tokens before it, guidance, temperature, top-k and top-p included: the sequences follow the law of
plain decoding, though not its random numbers.

This is speculative Jacobi decoding (Teng et al. 2024, arXiv 2410.01699) with maximal coupling (So et al. 2025, arXiv
2510.24211). Drafts that are carried on count as samples of the newest p, not of the distribution that they were first
drawn from, which would bias the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reelmill.eval.generation.coupling import probabilities, transition
from reelmill.eval.generation.logits import guided_logits
from reelmill.eval.generation.request import ActiveSequence, Draft, SampledToken, single_id
from reelmill.eval.generation.sampling import TokenSampling, sample
from reelmill.tokenize.documents.grammar import Ranges
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.categorical import choose
from reelmill.train.model import Decoder


class _Place(NamedTuple):
    """Position `offset` of the window of an active sequence, whose rows begin at `row`. `uniform` is its own number."""

    sequence: ActiveSequence
    offset: int
    row: int
    uniform: float


class _Kind(NamedTuple):
    """What positions have in common that are sampled together. A draft stands at all of them, or at none."""

    ranges: Ranges
    params: TokenSampling
    scales: tuple[float, ...]
    has_draft: bool


class WindowSampler:
    """Proposes drafts for sequences, and samples their tokens from hidden states."""

    def __init__(self, model: Decoder, vocab: Vocabulary) -> None:
        self.model, self.vocab = model, vocab
        weight = model.lm_head.weight
        # Probabilities need float32 at least.
        self._dtype, self._device = torch.promote_types(weight.dtype, torch.float32), weight.device

    def propose(self, sequence: ActiveSequence, window: Sequence[Ranges]) -> None:
        """Give the sequence a draft for every position of its window but the last.

        Forced tokens are certain. A new draft of a code is a sample of what the code above it was a sample of, be that
        settled or a draft itself: neighbors look alike, and it stays the more often the nearer the two distributions
        are, however spread out they are. Codes without one above are drafted from the newest distribution that there
        is, and as equally likely without any.
        """
        drafts = sequence.drafts[: len(window) - 1]
        row = sequence.row
        known = [*sequence.laws, *(draft.distribution for draft in drafts)]
        newest = next((law for law in reversed(known) if law is not None), None)
        for ranges in window[len(drafts) : -1]:
            token, law = single_id(ranges), None
            if token is None:
                start, stop = ranges[0]
                law = known[-row] if 0 < row <= len(known) else None
                law = law if law is not None else newest
                if law is None:
                    law = torch.full((stop - start,), 1 / (stop - start), dtype=self._dtype, device=self._device)
                token = start + int(choose(law[None], torch.tensor(sequence.uniforms(1), device=law.device)))
            drafts.append(Draft(token, law))
            known.append(law)
        sequence.drafts = drafts

    def sample(
        self, active: Sequence[ActiveSequence], windows: Sequence[Sequence[Ranges]], hidden: Tensor
    ) -> list[list[SampledToken]]:
        """The tokens of each sequence that are settled now, at least one, from hidden states [rows, tokens, hidden].

        The drafts of the positions behind them are renewed. Nothing happens to a sequence whose window is empty.
        """
        renewed = {
            sequence.number: [Draft(single_id(ranges) or 0, None) for ranges in window]
            for sequence, window in zip(active, windows, strict=True)
        }
        for kind, places in self._kinds(active, windows).items():
            tokens, distributions = self._renew(kind, places, self._logits(hidden, places, kind))
            for place, token, distribution in zip(places, tokens, distributions, strict=True):
                renewed[place.sequence.number][place.offset] = Draft(token, distribution)
        return [_settle(sequence, renewed[sequence.number]) for sequence in active]

    def _kinds(
        self, active: Sequence[ActiveSequence], windows: Sequence[Sequence[Ranges]]
    ) -> dict[_Kind, list[_Place]]:
        """The positions with a choice, by what is allowed there and how it is sampled."""
        kinds: dict[_Kind, list[_Place]] = {}
        row = 0
        for sequence, window in zip(active, windows, strict=True):
            sampling = sequence.request.sampling
            open_places = [offset for offset, ranges in enumerate(window) if single_id(ranges) is None]
            # All at once and in order, so that they do not depend on the other sequences.
            for offset, uniform in zip(open_places, sequence.uniforms(len(open_places)), strict=True):
                is_vision = sequence.is_vision(window[offset])
                params = sampling.vision if is_vision else sampling.text
                scales = sequence.request.scales if is_vision else ()
                kind = _Kind(window[offset], params, scales, offset < len(window) - 1)
                kinds.setdefault(kind, []).append(_Place(sequence, offset, row, uniform))
            row += sequence.rows
        return kinds

    def _renew(
        self, kind: _Kind, places: Sequence[_Place], logits: Tensor
    ) -> tuple[list[int], Sequence[Tensor | None]]:
        """A token for each place and, where it can be carried on as a draft, its distribution."""
        uniforms = torch.tensor([place.uniform for place in places], device=logits.device)
        ids = np.concatenate([np.arange(*bounds) for bounds in kind.ranges])
        if not kind.has_draft:
            chosen = sample(logits, kind.params, uniforms)
            can_be_drafts = any(place.offset for place in places) and places[0].sequence.is_vision(kind.ranges)
            p = probabilities(logits, kind.params) if can_be_drafts else None
        else:
            drafts = [place.sequence.drafts[place.offset] for place in places]
            q = torch.stack([draft.distribution for draft in drafts if draft.distribution is not None])
            before = torch.tensor([draft.token - kind.ranges[0][0] for draft in drafts], device=logits.device)
            p = probabilities(logits, kind.params)
            chosen = choose(transition(p, q.to(p), before), uniforms)
        return ids[chosen.cpu().numpy()].tolist(), [None] * len(places) if p is None else list(p)

    def _logits(self, hidden: Tensor, places: Sequence[_Place], kind: _Kind) -> Tensor:
        """Logits [places, ids], at least float32, of the allowed ids alone, after guidance."""
        rows = torch.tensor([place.row for place in places], device=hidden.device)
        columns = torch.tensor([place.offset for place in places], device=hidden.device)
        branches = 1 + len(kind.scales)
        states = hidden[torch.cat([rows + branch for branch in range(branches)]), columns.repeat(branches)]
        return guided_logits(self.model.lm_head, states, kind.ranges, kind.scales)


def _settle(sequence: ActiveSequence, renewed: Sequence[Draft]) -> list[SampledToken]:
    """Append the tokens up to the first that is not its draft; what follows stays as drafts."""
    settled: list[SampledToken] = []
    drafts = [draft.token for draft in sequence.drafts]
    for offset, new in enumerate(renewed):
        settled.append(sequence.append(new.token))
        if settled[-1].is_last or (offset < len(drafts) and new.token != drafts[offset]):
            break
    sequence.drafts = list(renewed[len(settled) :])
    laws = [*sequence.laws, *(draft.distribution for draft in renewed[: len(settled)])]
    sequence.laws = laws[len(laws) - min(len(laws), sequence.row) :]
    return settled
