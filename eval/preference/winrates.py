"""Which of two checkpoints people prefer: win rates with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from statistics import NormalDist

from reelmill.eval.preference.candidates import Candidate, Candidates, Checkpoint
from reelmill.eval.preference.tally import Tally, mean
from reelmill.eval.preference.votes import QUESTIONS

BOTH = "both"


@dataclass(frozen=True)
class WinRate:
    """How `one` did against `other` on a question (`both`: on the mean of the questions).

    `wins`, `ties` and `losses` count votes. `rate` is the mean over prompts of the mean over votes, where a tie counts
    half. (`low`, `high`) is its 95% Wilson score interval with prompts as trials.
    """

    one: Checkpoint
    other: Checkpoint
    question: str
    wins: int
    ties: int
    losses: int
    prompts: int
    rate: float
    low: float
    high: float


def wilson_interval(rate: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """E. B. Wilson's score interval (1927) for a share that was measured in independent trials.

    Votes on one prompt are not independent trials, but prompts are. The mean of a prompt lies in [0, 1], so its
    variance is at most that of a win-or-loss trial with the same mean: if anything, the interval is too wide.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z * z / trials
    middle = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def matches(candidates: Candidates, prompt_id: str) -> list[tuple[Candidate, Candidate]]:
    """The comparisons of a prompt: for every two checkpoints, their candidates of the same number."""
    by_weights: dict[str, dict[int, Candidate]] = {checkpoint.weights: {} for checkpoint in candidates.checkpoints}
    for candidate in candidates.by_prompt[prompt_id]:
        by_weights[candidate.weights][candidate.number] = candidate
    return [
        (one[number], other[number])
        for one, other in combinations(by_weights.values(), 2)
        for number in sorted(one.keys() & other.keys())
    ]


def win_rates(candidates: Candidates, tallies: Mapping[str, Tally]) -> Iterator[WinRate]:
    """Win rates for every two checkpoints and every question that was answered, and for both questions together."""
    outcomes: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for prompt_id, tally in tallies.items():
        voters = tally.scores.keys() | tally.outcomes.keys()
        for (one, other), voter in product(matches(candidates, prompt_id), sorted(voters)):
            answers = tally.between(voter, one.id, other.id)
            both = {BOTH: mean(answers)} if len(answers) == len(QUESTIONS) else {}
            for question, outcome in {**answers, **both}.items():
                key = (one.weights, other.weights, question)
                outcomes.setdefault(key, {}).setdefault(prompt_id, []).append(outcome)
    by_weights = {checkpoint.weights: checkpoint for checkpoint in candidates.checkpoints}
    for one_weights, other_weights in combinations(by_weights, 2):
        for question in (*QUESTIONS, BOTH):
            prompts = outcomes.get((one_weights, other_weights, question))
            if prompts:
                yield _rate(by_weights[one_weights], by_weights[other_weights], question, prompts)


def _rate(one: Checkpoint, other: Checkpoint, question: str, prompts: Mapping[str, list[float]]) -> WinRate:
    votes = [outcome for outcomes in prompts.values() for outcome in outcomes]
    rate = sum(sum(outcomes) / len(outcomes) for outcomes in prompts.values()) / len(prompts)
    wins, losses = sum(vote > 0.5 for vote in votes), sum(vote < 0.5 for vote in votes)
    interval = wilson_interval(rate, len(prompts))
    return WinRate(one, other, question, wins, len(votes) - wins - losses, losses, len(prompts), rate, *interval)
