"""Preference pairs from votes: the best of a prompt's candidates is chosen, the worst is rejected.

This is Emu3's rule (arXiv 2409.18869, section 2.5), which does not disclose how ties are settled.
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
"""Means that agree to this many digits count as equal: the order of a sum must not decide between candidates."""


@dataclass(frozen=True)
class Choice:
    """The pair of a prompt, and how many voters judged all of its candidates."""

    chosen: Candidate
    rejected: Candidate
    chosen_score: float
    rejected_score: float
    voters: int

    @property
    def margin(self) -> float:
        """The difference of the two scores."""
        return self.chosen_score - self.rejected_score


@dataclass
class ChosenPairs:
    """The pairs, and how many groups of candidates have none: too few voters judged them, or the best is no better than
    the worst."""

    choices: list[Choice] = field(default_factory=list)
    too_few_voters: int = 0
    tied: int = 0


def choose_pairs(
    candidates: Candidates, tallies: Mapping[str, Tally], *, least_voters: int = 1, margin: float = 0.0
) -> ChosenPairs:
    """At most one pair for each group: the candidates of a prompt, or two that were compared.

    The score of a candidate is the mean over voters of the mean over questions. Only voters who judged a whole group
    count for it. A group has a pair if its best score exceeds its worst one, by at least `margin`. Between equal scores
    the candidate that was sampled first is taken: their order is random.
    """
    result = ChosenPairs()
    for prompt_id, prompt_candidates in candidates.by_prompt.items():
        tally = tallies.get(prompt_id, Tally())
        pairs = [[candidates.by_id[name] for name in pair] for pair in sorted(_compared(tally))]
        for group in pairs or [prompt_candidates]:
            voters, scores = _compared_scores(tally, group) if pairs else _scores(tally, group)
            if voters < max(1, least_voters):
                result.too_few_voters += 1
                continue
            # `max` and `min` take the first of equal ones, and candidates are in the order of their numbers.
            best = max(group, key=lambda one: round(scores[one.id], DIGITS))
            worst = min(group, key=lambda one: round(scores[one.id], DIGITS))
            choice = Choice(best, worst, round(scores[best.id], DIGITS), round(scores[worst.id], DIGITS), voters)
            if choice.margin <= 0 or round(choice.margin, DIGITS) < margin:
                result.tied += 1
            else:
                result.choices.append(choice)
    return result


def write_choices(candidates: Candidates, choices: Sequence[Choice], path: Path, *, root: Path) -> int:
    """Write pairs, with the tokens that were sampled, to a file inside the folder `root`; returns how many.

    Pairs of two equal documents are left out. Raises DataError if the candidates have different vocabularies or vision
    tokenizers.
    """
    both = [candidate for choice in choices for candidate in (choice.chosen, choice.rejected)]
    footers = {candidates.footers[candidate.path] for candidate in both}
    if len(footers) > 1:
        raise DataError(f"the candidates in {candidates.folder} have different vision tokenizers or vocabularies.")
    if not footers:
        raise ConfigError("no prompt has a pair yet; collect more votes, or lower --least-voters or --margin.")
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
    """The columns other than the tokens."""
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
    """How many voters compared two candidates, and the share of wins of each; a tie counts half."""
    one, other = (candidate.id for candidate in group)
    outcomes = [mean(answers[one, other]) for answers in tally.outcomes.values() if (one, other) in answers]
    share = sum(outcomes) / len(outcomes)
    return len(outcomes), {one: share, other: 1 - share}


def _scores(tally: Tally, group: Sequence[Candidate]) -> tuple[int, dict[str, float]]:
    """How many voters scored a whole group on the same questions, and the score of each candidate."""
    names = [candidate.id for candidate in group]
    complete = [scores for scores in tally.scores.values() if all(name in scores for name in names)]
    comparable = [scores for scores in complete if len({frozenset(scores[name]) for name in names}) == 1]
    if not comparable:
        return 0, {}
    return len(comparable), {name: sum(mean(scores[name]) for scores in comparable) / len(comparable) for name in names}
