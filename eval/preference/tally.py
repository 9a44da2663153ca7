"""What the votes of a folder come to: the latest of each voter, candidate by candidate and pair by pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from reelmill.errors import ConfigError
from reelmill.eval.preference.votes import Vote

Answers = dict[str, float]
"""By question."""
Pair = tuple[str, str]
"""Two candidates in the order of their ids."""


@dataclass
class Tally:
    """Of one prompt: `scores` by voter and candidate (ratings and scorers' scores), `outcomes` by voter and pair (of
    comparisons: 1 where the first of the pair is better, 0 where the second is, 0.5 where they are alike)."""

    scores: dict[str, dict[str, Answers]] = field(default_factory=dict)
    outcomes: dict[str, dict[Pair, Answers]] = field(default_factory=dict)

    def take(self, vote: Vote) -> None:
        """Note a vote; it takes the place of the voter's earlier ones about the same."""
        if vote.kind == "comparison":
            pair = (min(vote.scores), max(vote.scores))
            self.outcomes.setdefault(vote.voter, {})[pair] = dict(vote.scores[pair[0]])
        else:
            self.scores.setdefault(vote.voter, {}).update({name: dict(of) for name, of in vote.scores.items()})

    def between(self, voter: str, one: str, other: str) -> Answers:
        """How `one` did against `other` by question: 1 better, 0 worse, 0.5 alike; empty where the voter said nothing.

        What was compared counts before what was rated one by one.
        """
        pair = (one, other) if one < other else (other, one)
        outcome = self.outcomes.get(voter, {}).get(pair)
        if outcome is not None:
            return outcome if pair[0] == one else {question: 1 - value for question, value in outcome.items()}
        scores = self.scores.get(voter, {})
        first, second = scores.get(one, {}), scores.get(other, {})
        return {q: (1 + (first[q] > second[q]) - (first[q] < second[q])) / 2 for q in first if q in second}


def tallies(votes: Iterable[Vote], voters: Sequence[str] = ()) -> dict[str, Tally]:
    """By prompt_id. `voters`: only theirs. Raises ConfigError for a voter of whom there is no vote."""
    votes = list(votes)
    there = {vote.voter for vote in votes}
    if unknown := sorted(set(voters) - there):
        raise ConfigError(
            f"no votes of {', '.join(unknown)}; there are votes of: {', '.join(sorted(there)) or 'nobody'}"
        )
    found: dict[str, Tally] = {}
    for vote in votes:
        if voters and vote.voter not in voters:
            continue
        found.setdefault(vote.prompt_id, Tally()).take(vote)
    return found


def require_one_scale(votes: Iterable[Vote], voters: Sequence[str] = ()) -> str:
    """The kind of the votes that count. ConfigError where their numbers cannot be averaged: kinds differ, or several
    scorers have scales of their own."""
    who: dict[str, set[str]] = {}
    for vote in votes:
        if not voters or vote.voter in voters:
            who.setdefault(vote.kind, set()).add(vote.voter)
    if not who:
        raise ConfigError("there are no votes yet; `reelmill prefer vote` takes them.")
    if len(who) > 1 or len(who.get("score", ())) > 1:
        found = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in sorted(who.items()))
        raise ConfigError(
            f"the votes have several scales, which have no common mean ({found}). Name whose votes count: --voter NAME."
        )
    return next(iter(who))


def mean(answers: Answers) -> float:
    """The questions weigh the same."""
    return sum(answers.values()) / len(answers)


def strict_agreement(found: Iterable[Tally], question: str) -> tuple[int, int]:
    """Of all pairs of voters and pairs of a prompt's candidates that both voters tell apart: in how many they prefer
    the same candidate, and how many there are."""
    same = both = 0
    for tally in found:
        voters = sorted(tally.scores.keys() | tally.outcomes.keys())
        names = sorted(
            {n for of in tally.scores.values() for n in of}
            | {n for of in tally.outcomes.values() for p in of for n in p}
        )
        for one, other in combinations(names, 2):
            said = [tally.between(voter, one, other).get(question, 0.5) for voter in voters]
            better, worse = said.count(1.0), said.count(0.0)
            same += (better * (better - 1) + worse * (worse - 1)) // 2
            both += (better + worse) * (better + worse - 1) // 2
    return same, both


def units(found: Iterable[Tally], question: str) -> list[dict[str, float]]:
    """What each voter said of each thing that was judged: a candidate's score, or a pair's outcome."""
    judged: list[dict[str, float]] = []
    for tally in found:
        for by_voter in (tally.scores, tally.outcomes):
            things: dict[object, dict[str, float]] = {}
            for voter, answers in by_voter.items():
                for name, of in answers.items():
                    if question in of:
                        things.setdefault(name, {})[voter] = of[question]
            judged += things.values()
    return judged
