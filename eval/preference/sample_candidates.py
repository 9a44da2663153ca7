"""Drawing candidates: several pictures a prompt, stored part by part."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.errors import ConfigError
from reelmill.eval.generation import Request, SamplingParams, Studio, image_request
from reelmill.eval.generation.prompts import DEFAULT
from reelmill.eval.preference.candidates import Candidates, Checkpoint, digest, write_candidates
from reelmill.tokenize.shards import Footer

PART_TOKENS = 131_072
"""About so many tokens are drawn before they are stored: what a kill may cost. A prompt's candidates stay together."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How every candidate of a folder is drawn: `count` pictures of `h` x `w` codes a prompt.

    Emu3 (arXiv 2409.18869, section 2.5) draws 8 to 10 a prompt; its settings for that are not disclosed.
    """

    h: int
    w: int
    count: int = 8
    sampling: SamplingParams = DEFAULT
    negative: str = ""

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        self.sampling.check()
        if not 1 <= self.count <= 100:
            raise ConfigError(f"--count is {self.count}; 1 to 100 pictures a prompt can be voted on (Emu3: 8 to 10).")

    def settings(self) -> dict[str, Any]:
        """The columns that say how it is drawn."""
        vision = self.sampling.vision
        return {
            "grid_h": self.h,
            "grid_w": self.w,
            "temperature": float(vision.temperature),
            "top_k": vision.top_k,
            "top_p": float(vision.top_p),
            "guidance": float(self.sampling.guidance),
            "negative": self.negative,
            "seed": self.sampling.seed,
        }


def checkpoint_of(place: Path, step: int) -> Checkpoint:
    """A checkpoint folder's name, step and the SHA-256 over its weight files (names and bytes)."""
    whole = hashlib.sha256()
    for path in sorted((place / "model").iterdir()):
        with path.open("rb") as stream:
            whole.update(path.name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return Checkpoint(str(place.resolve()), step, whole.hexdigest())


def sample(
    studio: Studio, checkpoint: Checkpoint, prompts: Mapping[int, str], plan: Plan, folder: Path
) -> Iterator[int]:
    """Draw and store the candidates that `folder` lacks, of prompts by their places; how many after each part.

    Raises ConfigError where the folder's candidates were drawn otherwise.
    """
    plan.check()
    stored = Candidates(folder)
    settings = plan.settings()
    changed = [
        f"{key}: {stored.settings[key]} -> {settings[key]}"
        for key in stored.settings
        if stored.settings[key] != settings[key]
    ]
    if changed:
        raise ConfigError(
            f"the candidates in {folder} were drawn with other settings ({'; '.join(changed)}); candidates of one "
            "folder are voted on side by side. Use the same settings, or another --out."
        )
    footer = Footer(studio.vision.fingerprint, studio.vocab, studio.vision.fingerprint)
    for part in _parts(_missing(studio, checkpoint, prompts, plan, set(stored.by_id))):
        drawn = studio.generate([request for _, request in part])
        now = datetime.datetime.now(datetime.UTC)
        rows = [
            {**row, "tokens": tokens, "n_tokens": len(tokens), "created": now}
            for (row, _), tokens in zip(part, drawn, strict=True)
        ]
        write_candidates(folder, rows, footer)
        yield len(rows)


Wanted = tuple[dict[str, Any], Request]


def _missing(
    studio: Studio, checkpoint: Checkpoint, prompts: Mapping[int, str], plan: Plan, stored: set[str]
) -> Iterator[list[Wanted]]:
    """What is left to draw, prompt by prompt: the columns known beforehand, and the request."""
    settings = plan.settings()
    how = [f"{name}={value!r}" for name, value in settings.items()]
    for place, prompt in prompts.items():
        prompt_id = digest(prompt)
        wanted = []
        for number in range(plan.count):
            candidate_id = digest(prompt, checkpoint.weights, *how, str(number))
            if candidate_id in stored:
                continue
            # By prompt and number alone: two checkpoints draw with the same chances, whatever else is drawn.
            stream = int(digest(prompt_id, str(number))[:12], 16)
            request = image_request(
                studio.one_block,
                prompt,
                plan.h,
                plan.w,
                sampling=plan.sampling,
                negative=plan.negative,
                stream=stream,
            )
            row = {
                "candidate_id": candidate_id,
                "prompt_id": prompt_id,
                "prompt": prompt,
                "place": place,
                "number": number,
                "n_prompt": len(request.prompt),  # type: ignore[arg-type]  # an array
                "checkpoint": checkpoint.place,
                "step": checkpoint.step,
                "weights": checkpoint.weights,
                "stream": stream,
                **settings,
            }
            wanted.append((row, request))
        if wanted:
            yield wanted


def _parts(prompts: Iterator[list[Wanted]]) -> Iterator[Sequence[Wanted]]:
    part: list[Wanted] = []
    tokens = 0
    for wanted in prompts:
        part += wanted
        tokens += sum(request.most for _, request in wanted)
        if tokens >= PART_TOKENS:
            yield part
            part, tokens = [], 0
    if part:
        yield part
