"""Pairs of preferences from votes: of a prompt's candidates the best is chosen, the worst rejected.

Emu3 (arXiv 2409.18869, section 2.5) does so; how it settles ties is not disclosed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.errors import ConfigError, DataError
from reelmill.eval.preference.candidates import Candidate, Candidates
from reelmill.eval.preference.tally import Pair, Tally, mean
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.shards.pairs import pair_row, write_pairs

DIGITS = 9
"""Means that are the same to so many digits are equal: the order of sums must not tell candidates apart."""


@dataclass(frozen=True)
class Choice:
    """A prompt's pair. `margin` is the difference of the two scores, `voters` how many judged the whole prompt."""

    chosen: Candidate
    rejected: Candidate
    chosen_score: float
    rejected_score: float
    voters: int

    @property
    def margin(self) -> float:
        """How much better the chosen one is."""
        return self.chosen_score - self.rejected_score


@dataclass
class Chosen:
    """The pairs, and how many groups of candidates gave none: too few voters judged them, or their best is no better
    than their worst."""

    choices: list[Choice] = field(default_factory=list)
    too_few_voters: int = 0
    tied: int = 0


def choose(candidates: Candidates, found: Mapping[str, Tally], *, least_voters: int = 1, margin: float = 0.0) -> Chosen:
    """The pairs that the votes give, at most one of a group: a prompt's candidates, or two that were compared.

    A candidate's score is the mean over voters of the mean over questions; only voters who judged all of a group count
    for it. A group gives a pair where its best score exceeds its worst, by at least `margin`. Of equal scores the
    candidate that was drawn first is taken: their order is chance.
    """
    result = Chosen()
    for prompt_id, of in candidates.by_prompt.items():
        tally = found.get(prompt_id, Tally())
        pairs = [[candidates.by_id[name] for name in pair] for pair in sorted(_compared(tally))]
        for group in pairs or [of]:
            voters, scores = _compared_scores(tally, group) if pairs else _scores(tally, group)
            if voters < max(1, least_voters):
                result.too_few_voters += 1
                continue
            # `max` and `min` take the first of equal ones, and candidates stand in the order of their numbers.
            best = max(group, key=lambda one: round(scores[one.id], DIGITS))
            worst = min(group, key=lambda one: round(scores[one.id], DIGITS))
            choice = Choice(best, worst, round(scores[best.id], DIGITS), round(scores[worst.id], DIGITS), voters)
            if choice.margin <= 0 or round(choice.margin, DIGITS) < margin:
                result.tied += 1
            else:
                result.choices.append(choice)
    return result


def write_choices(candidates: Candidates, choices: Sequence[Choice], path: Path, *, root: Path) -> int:
    """Write pairs with the tokens that were drawn, to a file inside the folder `root`. Returns how many.

    Left out are pairs whose two documents are the same. Raises DataError where the candidates are of several
    vocabularies or vision tokenizers.
    """
    both = [candidate for choice in choices for candidate in (choice.chosen, choice.rejected)]
    footers = {candidates.footers[candidate.path] for candidate in both}
    if len(footers) > 1:
        raise DataError(f"the candidates of {candidates.folder} are of several vision tokenizers or vocabularies.")
    if not footers:
        raise ConfigError("no prompt gives a pair yet; take more votes, or lower --least-voters or --margin.")
    rows = []
    documents = candidates.read(both)
    for choice, (chosen, n_prompt), (rejected, _) in zip(choices, documents[::2], documents[1::2], strict=True):
        if np.array_equal(chosen, rejected):
            continue
        rows.append(pair_row(choice.chosen.prompt, n_prompt, chosen, rejected, **_facts(choice)))
    (footer,) = footers
    write_pairs(path, rows, Footer(footer.fingerprint, footer.vocab, footer.tokenizer), root=root)
    return len(rows)


def _facts(choice: Choice) -> dict[str, Any]:
    """The columns beside the tokens."""
    return {
        "prompt_id": choice.chosen.prompt_id,
        "chosen_id": choice.chosen.id,
        "rejected_id": choice.rejected.id,
        "chosen_score": choice.chosen_score,
        "rejected_score": choice.rejected_score,
        "margin": choice.margin,
        "voters": choice.voters,
    }


def _compared(tally: Tally) -> set[Pair]:
    return {pair for outcomes in tally.outcomes.values() for pair in outcomes}


def _compared_scores(tally: Tally, group: Sequence[Candidate]) -> tuple[int, dict[str, float]]:
    """How many voters compared two candidates, and the share of wins of each, a tie half a win."""
    one, other = (candidate.id for candidate in group)
    outcomes = [mean(of[one, other]) for of in tally.outcomes.values() if (one, other) in of]
    share = sum(outcomes) / len(outcomes)
    return len(outcomes), {one: share, other: 1 - share}


def _scores(tally: Tally, group: Sequence[Candidate]) -> tuple[int, dict[str, float]]:
    """How many voters scored all of a group by the same questions, and each candidate's score."""
    names = [candidate.id for candidate in group]
    scored = [[of[name] for name in names] for of in tally.scores.values() if all(name in of for name in names)]
    whole = [answers for answers in scored if len({frozenset(one) for one in answers}) == 1]
    if not whole:
        return 0, {}
    return len(whole), {name: sum(mean(of[n]) for of in whole) / len(whole) for n, name in enumerate(names)}
