"""`reelmill prefer build` and `prefer compare`: pairs and win rates from votes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from reelmill.errors import ConfigError
from reelmill.eval.preference import (
    QUESTIONS,
    Tally,
    Vote,
    VoteFile,
    choose_pairs,
    krippendorff_alpha,
    require_one_scale,
    strict_agreement,
    tallies,
    units,
    win_rates,
    write_choices,
)
from reelmill.files import ABANDONED_S, sweep, write_text
from reelmill.pipelines.prefer.candidates import open_candidates
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

RULE = (
    "score: mean over voters of the mean over questions, for voters who judged all candidates; chosen: the best, "
    "rejected: the worst; between equal scores the candidate sampled first; no pair if best and worst are equal"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def build_pairs(
    folder: Path, name: str, voters: Sequence[str], least_voters: int, margin: float, console: Console
) -> None:
    """Write `folder/pairs/NAME`, and `NAME.json` with the agreement of voters; print both."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name is {name!r}; it may have letters, digits, dots, dashes and underscores")
    candidates = open_candidates(folder)
    sweep(folder, ABANDONED_S)
    votes = VoteFile(folder).read(candidates)
    kind = require_one_scale(votes, voters)
    by_prompt = tallies(votes, voters)
    chosen = choose_pairs(candidates, by_prompt, least_voters=least_voters, margin=margin)
    path = folder / "pairs" / name / "pairs.parquet"
    written = write_choices(candidates, chosen.choices, path, root=folder)
    voted = sorted({voter for tally in by_prompt.values() for voter in (*tally.scores, *tally.outcomes)})
    result = {
        "rule": RULE,
        "pairs": written,
        "tied": chosen.tied,
        "too_few_voters": chosen.too_few_voters,
        "same_tokens": len(chosen.choices) - written,
        "kind": kind,
        "least_voters": least_voters,
        "margin": margin,
        "voters": voted,
        "agreement": agreement(by_prompt.values()),
    }
    write_text(
        path.parent.with_name(f"{name}.json"), json.dumps(result, indent=2, ensure_ascii=False) + "\n", root=folder
    )
    counts = ("pairs", "tied", "too_few_voters", "same_tokens")
    print_table(console, [{key: result[key] for key in counts} | {"voters": len(voted)}], "Pairs")
    print_table(console, agreement(by_prompt.values()), "Agreement")
    say(console, f"{path}\nNext: reelmill train dpo --data {folder} --set init=CHECKPOINT")


def agreement(by_prompt: Iterable[Tally]) -> list[dict[str, Any]]:
    """For each question: Krippendorff's ordinal alpha, and how often two voters who both have a preference between two
    candidates prefer the same one. No number if no two voters judged the same."""
    by_prompt = list(by_prompt)
    rows = []
    for question in QUESTIONS:
        judged = units(by_prompt, question)
        if not judged:
            continue
        same, both = strict_agreement(by_prompt, question)
        alpha = krippendorff_alpha(judged)
        rows.append(
            {
                "question": question,
                "judged": len(judged),
                "by_several": sum(len(by_voter) > 1 for by_voter in judged),
                "alpha": None if alpha is None else round(alpha, 3),
                "same_preference": round(same / both, 3) if both else None,
                "preferences": both,
            }
        )
    return rows


def compare_checkpoints(folder: Path, voters: Sequence[str], console: Console) -> None:
    """Print how the checkpoints of a folder did against each other: for all people together, and for each scorer."""
    candidates = open_candidates(folder)
    if len(candidates.checkpoints) < 2:
        raise ConfigError(
            f"the candidates in {folder} are of one checkpoint; add those of another: "
            f"`reelmill prefer sample OTHER --out {folder}`"
        )
    names = {checkpoint.weights: chr(ord("A") + n) for n, checkpoint in enumerate(candidates.checkpoints)}
    for checkpoint in candidates.checkpoints:
        say(console, f"{names[checkpoint.weights]}: {checkpoint.place}, step {checkpoint.step}")
    votes = VoteFile(folder).read(candidates)
    for title, group in _groups(votes, voters).items():
        rows = [
            {
                "pair": f"{names[rate.one.weights]} over {names[rate.other.weights]}",
                "question": rate.question,
                "prompts": rate.prompts,
                "wins": rate.wins,
                "ties": rate.ties,
                "losses": rate.losses,
                "win_rate": round(rate.rate, 3),
                "low": round(rate.low, 3),
                "high": round(rate.high, 3),
            }
            for rate in win_rates(candidates, tallies(votes, group))
        ]
        print_table(console, rows, f"Win rates by {title}; 95% Wilson interval, prompts as trials")


def _groups(votes: Sequence[Vote], voters: Sequence[str]) -> dict[str, list[str]]:
    """Voters whose votes are counted together, by a title. Raises ConfigError if nobody voted."""
    tallies(votes, voters)  # raises ConfigError for unknown voters
    is_scorer_by_voter = {vote.voter: vote.kind == "score" for vote in votes if not voters or vote.voter in voters}
    people = sorted(voter for voter, is_scorer in is_scorer_by_voter.items() if not is_scorer)
    scorers = sorted(voter for voter, is_scorer in is_scorer_by_voter.items() if is_scorer)
    if not is_scorer_by_voter:
        raise ConfigError("there are no votes yet; `reelmill prefer vote` collects them.")
    groups = {f"{len(people)} voter(s)": people} if people else {}
    return groups | {scorer: [scorer] for scorer in scorers}
