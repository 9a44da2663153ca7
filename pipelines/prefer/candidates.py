"""`reelmill prefer sample`: prompts in, candidates and their pictures out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.loading import find_model
from reelmill.eval.preference import Candidates, Plan, checkpoint_of, sample
from reelmill.files import ABANDONED_S, sweep, write_atomically
from reelmill.pipelines.generate.prompts import check_text, read_prompts
from reelmill.tokenize.documents import parse
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
    models: Sequence[Path],
    tokenizer: str | None,
    prompts: Sequence[str],
    plan: Plan,
    out: Path,
    decode: str = "plain",
    steps: int | None = None,
    lag: int | None = None,
) -> Iterator[str]:
    """Sample this process's share of the candidates that `out` lacks, then decode their pictures; yields a line per
    part."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    mine = {place: prompts[place] for place in range(rank, len(prompts), ranks)}
    for folder in [find_model(model) for model in models]:
        checkpoint = checkpoint_of(folder)
        studio = Studio.open(folder, tokenizer, decode=decode, steps=steps, lag=lag)
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


def export_codes(candidates: Candidates, out: Path) -> Iterator[str]:
    """Write a line {"text", "codes"} for each candidate; yields what was written and what comes next.

    Raises ConfigError if the candidates have codes of several vision tokenizers.
    """
    if out.suffix != ".jsonl":
        raise ConfigError(f"the file is {out}; name a .jsonl, which `reelmill tokens import` takes")
    if len(spaces := {(footer.tokenizer, footer.vocab) for footer in candidates.footers.values()}) > 1:
        raise ConfigError(f"{candidates.folder} has codes of {len(spaces)} vision tokenizers or vocabularies; take one")
    ((tokenizer, vocab),) = spaces

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as lines:
            for of_prompt in candidates.by_prompt.values():
                for candidate, (tokens, _) in zip(of_prompt, candidates.read(of_prompt), strict=True):
                    codes = parse(vocab, tokens).codes[0].tolist()
                    lines.write(json.dumps({"text": candidate.prompt, "codes": codes}, ensure_ascii=False) + "\n")

    write_atomically(out, write)
    yield f"{out}: {len(candidates):,} pictures"
    yield (
        f"Next: reelmill tokens import {out} --out FOLDER --text {vocab.text} --codes {vocab.codes} "
        f"--fingerprint {tokenizer} --layout {vocab.layout.name}"
    )


def decode_pictures(candidates: Candidates, tokenizer: str | None = None, prompts: Set[str] | None = None) -> None:
    """Decode the pictures that do not exist yet, for all prompts or for some."""
    sweep(candidates.folder, ABANDONED_S)
    missing = [one for one in candidates.undecoded() if prompts is None or one.prompt in prompts]
    for fingerprint in dict.fromkeys(candidates.footers[one.path].tokenizer for one in missing):
        vision = load_by_fingerprint(fingerprint, tokenizer)
        candidates.decode(vision, [one for one in missing if candidates.footers[one.path].tokenizer == fingerprint])
