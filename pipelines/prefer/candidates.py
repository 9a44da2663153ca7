"""`reelmill prefer sample`: prompts in, candidates and their pictures out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.loading import find_model
from reelmill.eval.preference import Candidates, Plan, checkpoint_of, sample
from reelmill.files import ABANDONED_S, sweep
from reelmill.pipelines.generate.prompts import check_text, read_prompts
from reelmill.tokenize.vision import load_by_fingerprint


def all_prompts(file: Path | None, given: Sequence[str]) -> list[str]:
    """The prompts of a file (see `read_prompts`) and the given ones, each once, in order.

    Raises ConfigError if there are none, DataError for one that is blank.
    """
    prompts = read_prompts(file) if file else []
    for number, prompt in enumerate(given, 1):
        where = f"--prompt number {number}"
        if not check_text(prompt, where).strip():
            raise DataError(f"{where} is blank; say what to generate")
        prompts.append(prompt.strip())
    if not prompts:
        raise ConfigError("there are no prompts; give --prompts FILE or --prompt TEXT")
    return list(dict.fromkeys(prompts))


def sample_candidates(
    models: Sequence[Path], tokenizer: str | None, prompts: Sequence[str], plan: Plan, out: Path
) -> Iterator[str]:
    """Sample this process's share of the candidates that `out` lacks, then decode their pictures; yields a line per
    part."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    mine = {place: prompts[place] for place in range(rank, len(prompts), ranks)}
    for folder in [find_model(model) for model in models]:
        checkpoint = checkpoint_of(folder)
        studio = Studio.open(folder, tokenizer)
        count = 0
        for part in sample(studio, checkpoint, mine, plan, out):
            count += part
            yield f"{folder}: {count:,} candidates sampled"
        if not count:
            yield f"{folder}: all candidates are there already"
    stored = Candidates(out)
    decode_pictures(stored, tokenizer, set(mine.values()))
    yield (
        f"{out}: {len(stored):,} candidates for {len(stored.by_prompt):,} prompts from {len(stored.checkpoints)} "
        "checkpoint(s)"
    )


def open_candidates(folder: Path) -> Candidates:
    """The candidates of a folder. Raises DataError if there are none."""
    candidates = Candidates(folder)
    if not len(candidates):
        raise DataError(
            f"there are no candidates in {folder}; make some: `reelmill prefer sample MODEL --out {folder}`"
        )
    return candidates


def decode_pictures(candidates: Candidates, tokenizer: str | None = None, prompts: Set[str] | None = None) -> None:
    """Decode the pictures that do not exist yet, for all prompts or for some."""
    sweep(candidates.folder, ABANDONED_S)
    missing = [one for one in candidates.undecoded() if prompts is None or one.prompt in prompts]
    for fingerprint in dict.fromkeys(candidates.footers[one.path].tokenizer for one in missing):
        vision = load_by_fingerprint(fingerprint, tokenizer)
        candidates.decode(vision, [one for one in missing if candidates.footers[one.path].tokenizer == fingerprint])
