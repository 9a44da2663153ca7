"""The votes of a folder, summed up: the latest vote of each voter on each candidate and each pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from reelmill.errors import ConfigError
from reelmill.eval.preference.votes import Vote

Answers = dict[str, float]
"""By question."""
Pair = tuple[str, str]
"""Two candidates, in the order of their ids."""


@dataclass
class Tally:
    """The votes on one prompt.

    `scores`: ratings of people and scores of scorers, by voter and candidate. `outcomes`: comparisons, by voter and
    pair: 1 if the first of the pair is better, 0 if the second is, 0.5 for a tie.
    """

    scores: dict[str, dict[str, Answers]] = field(default_factory=dict)
    outcomes: dict[str, dict[Pair, Answers]] = field(default_factory=dict)

    def add(self, vote: Vote) -> None:
        """Add a vote. It replaces earlier ones of the voter on the same candidates."""
        if vote.kind == "comparison":
            pair = (min(vote.scores), max(vote.scores))
            self.outcomes.setdefault(vote.voter, {})[pair] = dict(vote.scores[pair[0]])
        else:
            self.scores.setdefault(vote.voter, {}).update(
                {name: dict(answers) for name, answers in vote.scores.items()}
            )

    def between(self, voter: str, one: str, other: str) -> Answers:
        """How `one` did against `other` on each question: 1 won, 0 lost, 0.5 tied; empty if the voter judged neither.

        A comparison of the two takes precedence over ratings.
        """
        pair = (one, other) if one < other else (other, one)
        outcome = self.outcomes.get(voter, {}).get(pair)
        if outcome is not None:
            return outcome if pair[0] == one else {question: 1 - value for question, value in outcome.items()}
        scores = self.scores.get(voter, {})
        first, second = scores.get(one, {}), scores.get(other, {})
        return {q: (1 + (first[q] > second[q]) - (first[q] < second[q])) / 2 for q in first if q in second}


def tallies(votes: Iterable[Vote], voters: Sequence[str] = ()) -> dict[str, Tally]:
    """Tallies by prompt_id, of all voters or only of `voters`. Raises ConfigError for a voter without votes."""
    votes = list(votes)
    known = {vote.voter for vote in votes}
    if unknown := sorted(set(voters) - known):
        raise ConfigError(
            f"there are no votes of {', '.join(unknown)}; voters: {', '.join(sorted(known)) or 'nobody yet'}"
        )
    by_prompt: dict[str, Tally] = {}
    for vote in votes:
        if voters and vote.voter not in voters:
            continue
        by_prompt.setdefault(vote.prompt_id, Tally()).add(vote)
    return by_prompt


def require_one_scale(votes: Iterable[Vote], voters: Sequence[str] = ()) -> str:
    """The kind of the votes that count. Raises ConfigError if their numbers have no common mean: they are of different
    kinds, or of several scorers with their own scales."""
    voters_of_kind: dict[str, set[str]] = {}
    for vote in votes:
        if not voters or vote.voter in voters:
            voters_of_kind.setdefault(vote.kind, set()).add(vote.voter)
    if not voters_of_kind:
        raise ConfigError("there are no votes yet; `reelmill prefer vote` collects them.")
    if len(voters_of_kind) > 1 or len(voters_of_kind.get("score", ())) > 1:
        found = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in sorted(voters_of_kind.items()))
        raise ConfigError(
            f"the votes have different scales and no common mean ({found}). Choose whose votes count: --voter NAME."
        )
    return next(iter(voters_of_kind))


def mean(answers: Answers) -> float:
    """The mean over questions."""
    return sum(answers.values()) / len(answers)


def strict_agreement(tallies: Iterable[Tally], question: str) -> tuple[int, int]:
    """In how many cases two voters prefer the same one of two candidates, and how many cases there are: every pair of
    voters with every pair of candidates of a prompt between which both voters have a preference."""
    same = both = 0
    for tally in tallies:
        voters = sorted(tally.scores.keys() | tally.outcomes.keys())
        names = sorted(
            {name for scores in tally.scores.values() for name in scores}
            | {name for outcomes in tally.outcomes.values() for pair in outcomes for name in pair}
        )
        for one, other in combinations(names, 2):
            outcomes = [tally.between(voter, one, other).get(question, 0.5) for voter in voters]
            better, worse = outcomes.count(1.0), outcomes.count(0.0)
            same += (better * (better - 1) + worse * (worse - 1)) // 2
            both += (better + worse) * (better + worse - 1) // 2
    return same, both


def units(tallies: Iterable[Tally], question: str) -> list[dict[str, float]]:
    """The value that each voter gave to each unit: the score of a candidate, or the outcome of a pair."""
    judged: list[dict[str, float]] = []
    for tally in tallies:
        for by_voter in (tally.scores, tally.outcomes):
            values: dict[object, dict[str, float]] = {}
            for voter, by_unit in by_voter.items():
                for unit, answers in by_unit.items():
                    if question in answers:
                        values.setdefault(unit, {})[voter] = answers[question]
            judged += values.values()
    return judged
