"""What `prefer build` and `prefer compare` do: pairs and win rates out of votes."""

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
    choose,
    krippendorff_alpha,
    require_one_scale,
    strict_agreement,
    tallies,
    units,
    win_rates,
    write_choices,
)
from reelmill.files import write_text
from reelmill.pipelines.prefer.candidates import open_candidates
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

RULE = (
    "score: mean over voters of the mean over questions, of voters who judged all candidates; chosen: the best, "
    "rejected: the worst; equal scores: the candidate that was drawn first; no pair where best and worst are equal"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def build_pairs(
    folder: Path, name: str, voters: Sequence[str], least_voters: int, margin: float, console: Console
) -> None:
    """Write `folder/pairs/NAME`, and `NAME.json` with how far voters agree; print both."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: letters, digits, dots, dashes and underscores")
    candidates = open_candidates(folder)
    votes = VoteFile(folder).read(candidates)
    kind = require_one_scale(votes, voters)
    found = tallies(votes, voters)
    chosen = choose(candidates, found, least_voters=least_voters, margin=margin)
    path = folder / "pairs" / name / "pairs.parquet"
    written = write_choices(candidates, chosen.choices, path, root=folder)
    voted = sorted({voter for tally in found.values() for voter in (*tally.scores, *tally.outcomes)})
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
        "agreement": agreement(found.values()),
    }
    write_text(
        path.parent.with_name(f"{name}.json"), json.dumps(result, indent=2, ensure_ascii=False) + "\n", root=folder
    )
    counts = ("pairs", "tied", "too_few_voters", "same_tokens")
    print_table(console, [{key: result[key] for key in counts} | {"voters": len(voted)}], "Pairs")
    print_table(console, agreement(found.values()), "Agreement")
    say(console, f"{path}\nNext: reelmill train dpo --data {folder} --set init=CHECKPOINT")


def agreement(found: Iterable[Tally]) -> list[dict[str, Any]]:
    """By question: Krippendorff's ordinal alpha, and how often two voters who both tell two candidates apart prefer the
    same one; no number where no two voters judged the same."""
    found = list(found)
    rows = []
    for question in QUESTIONS:
        judged = units(found, question)
        if not judged:
            continue
        same, both = strict_agreement(found, question)
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
    """Print how the checkpoints of a folder did against each other: by people together, and by each scorer."""
    candidates = open_candidates(folder)
    if len(candidates.checkpoints) < 2:
        raise ConfigError(
            f"the candidates in {folder} are of one checkpoint; `reelmill prefer sample OTHER --out {folder}` draws "
            "those of another"
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
        print_table(console, rows, f"Win rates by {title}; 95 % Wilson interval, prompts as trials")


def _groups(votes: Sequence[Vote], voters: Sequence[str]) -> dict[str, list[str]]:
    """Voters whose votes are counted together, by what they are called. Raises ConfigError where nobody voted."""
    tallies(votes, voters)  # says which voters there are not
    by_scorers = {vote.voter: vote.kind == "score" for vote in votes if not voters or vote.voter in voters}
    people = sorted(voter for voter, is_scorer in by_scorers.items() if not is_scorer)
    scorers = sorted(voter for voter, is_scorer in by_scorers.items() if is_scorer)
    if not by_scorers:
        raise ConfigError("there are no votes yet; `reelmill prefer vote` takes them.")
    groups = {f"{len(people)} voter(s)": people} if people else {}
    return groups | {scorer: [scorer] for scorer in scorers}
