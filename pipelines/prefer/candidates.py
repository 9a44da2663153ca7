"""What `prefer sample` does: prompts in, candidates and their pictures out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.loading import found_checkpoint
from reelmill.eval.preference import Candidates, Plan, checkpoint_of, sample
from reelmill.tokenize.vision import load_by_fingerprint
from reelmill.train.checkpoint import read_state

LONGEST_PROMPT = 10_000


def read_prompts(file: Path | None, given: Sequence[str]) -> list[str]:
    """The prompts of a file (a line each, or of a `.jsonl` each line's `prompt`) and those given, each once.

    Empty lines are left out. Raises ConfigError where there are none, DataError naming a line that has no prompt.
    """
    prompts = [*_lines(file)] if file else []
    for number, prompt in enumerate(given, 1):
        prompts.append(_checked(prompt, f"--prompt number {number}"))
    if not prompts:
        raise ConfigError("there are no prompts; give --prompts FILE or --prompt TEXT")
    return list(dict.fromkeys(prompts))


def _lines(file: Path) -> Iterator[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the prompts in {file} cannot be read: {error}. It is a text file in UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{file}, line {number}"
            yield _checked(_prompt_of(line, where) if file.suffix == ".jsonl" else line, where)


def _prompt_of(line: str, where: str) -> Any:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from None
    if not isinstance(row, dict) or "prompt" not in row:
        raise DataError(f'{where} has no prompt; write {{"prompt": "what to draw"}}')
    return row["prompt"]


def _checked(prompt: Any, where: str) -> str:
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > LONGEST_PROMPT:
        raise DataError(f"{where}: a prompt is a text of 1 to {LONGEST_PROMPT:,} characters")
    return prompt.strip()


def sample_candidates(
    checkpoints: Sequence[Path], tokenizer: str | None, prompts: Sequence[str], plan: Plan, out: Path
) -> Iterator[str]:
    """Draw this process's share of the candidates that `out` lacks, then their pictures; a line for each part."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    mine = {place: prompts[place] for place in range(rank, len(prompts), ranks)}
    places = [found_checkpoint(checkpoint) for checkpoint in checkpoints]
    for place in places:
        origin = checkpoint_of(place, read_state(place).step)
        studio = Studio.open(place, tokenizer)
        drawn = 0
        for count in sample(studio, origin, mine, plan, out):
            drawn += count
            yield f"{place}: {drawn:,} candidates drawn"
        if not drawn:
            yield f"{place}: nothing left to draw"
    stored = Candidates(out)
    decode_pictures(stored, tokenizer, set(mine.values()))
    prompts_there = len(stored.by_prompt)
    yield f"{out}: {len(stored):,} candidates of {prompts_there:,} prompts by {len(stored.checkpoints)} checkpoint(s)"


def open_candidates(folder: Path) -> Candidates:
    """The candidates of a folder; DataError where there are none."""
    candidates = Candidates(folder)
    if not len(candidates):
        raise DataError(
            f"there are no candidates in {folder}; `reelmill prefer sample CHECKPOINT --out {folder}` draws them"
        )
    return candidates


def decode_pictures(candidates: Candidates, tokenizer: str | None = None, prompts: Set[str] | None = None) -> None:
    """Decode the pictures that are not there yet, of all prompts or of some."""
    missing = [one for one in candidates.undecoded() if prompts is None or one.prompt in prompts]
    for fingerprint in dict.fromkeys(candidates.footers[one.path].tokenizer for one in missing):
        vision = load_by_fingerprint(fingerprint, tokenizer)
        candidates.decode(vision, [one for one in missing if candidates.footers[one.path].tokenizer == fingerprint])
