"""Sampling candidates: several pictures for each prompt, stored part by part."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.errors import ConfigError
from reelmill.eval.generation import Request, SamplingParams, Studio, image_request
from reelmill.eval.generation.loading import is_hf_folder
from reelmill.eval.generation.prompts import DEFAULT
from reelmill.eval.preference.candidates import Candidates, Checkpoint, digest, write_candidates
from reelmill.files import sha256
from reelmill.tokenize.shards import Footer
from reelmill.train.checkpoint import read_state

PART_TOKENS = 131_072
"""About how many tokens are sampled before they are stored, which is what a kill can cost."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How all candidates of a folder are sampled: `count` pictures of `h` x `w` codes for each prompt.

    Emu3 (arXiv 2409.18869, section 2.5) samples 8 to 10 for each prompt; it does not disclose its settings for that.
    """

    h: int
    w: int
    count: int = 8
    sampling: SamplingParams = DEFAULT

    def check(self) -> None:
        """Raise ConfigError for numbers that make no sense."""
        self.sampling.check()
        if not 1 <= self.count <= 100:
            raise ConfigError(
                f"--count is {self.count}; people can vote on 1 to 100 pictures for each prompt (Emu3: 8 to 10)."
            )

    def settings(self, decode: str) -> dict[str, Any]:
        """The columns that say how candidates were sampled. `decode`: see `Decoding.label`."""
        vision = self.sampling.vision
        return {
            "grid_h": self.h,
            "grid_w": self.w,
            "temperature": float(vision.temperature),
            "top_k": vision.top_k,
            "top_p": float(vision.top_p),
            "guidance": float(self.sampling.guidance),
            "negative": self.sampling.negative,
            "seed": self.sampling.seed,
            "decode": decode,
        }


def checkpoint_of(place: Path) -> Checkpoint:
    """What identifies a checkpoint or a Hugging Face folder: its path, its step (0 for the latter) and the SHA-256 over
    its weight files, names and contents."""
    is_exported = is_hf_folder(place)
    files = sorted(place.glob("*.safetensors") if is_exported else (place / "model").iterdir())
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + bytes.fromhex(sha256(path)))
    return Checkpoint(str(place.resolve()), 0 if is_exported else read_state(place).step, total.hexdigest())


def sample(
    studio: Studio, checkpoint: Checkpoint, prompts: Mapping[int, str], plan: Plan, folder: Path
) -> Iterator[int]:
    """Sample and store the candidates that `folder` lacks, for prompts by their places; yields the size of each part.

    Raises ConfigError if the candidates in the folder were sampled with other settings.
    """
    plan.check()
    stored = Candidates(folder)
    settings = plan.settings(studio.decoding.label)
    changed = [
        f"{key}: {stored.settings[key]} -> {settings[key]}"
        for key in stored.settings
        if stored.settings[key] != settings[key]
    ]
    if changed:
        raise ConfigError(
            f"the candidates in {folder} were sampled with other settings ({'; '.join(changed)}); candidates of one "
            "folder are compared side by side. Use the same settings, or another --out."
        )
    footer = Footer(studio.vision.fingerprint, studio.vocab, studio.vision.fingerprint)
    for part in _parts(_missing(studio, checkpoint, prompts, plan, set(stored.by_id))):
        sequences = studio.generate([request for _, request in part])
        now = datetime.datetime.now(datetime.UTC)
        rows = [
            {**row, "tokens": tokens, "n_tokens": len(tokens), "created": now}
            for (row, _), tokens in zip(part, sequences, strict=True)
        ]
        write_candidates(folder, rows, footer)
        yield len(rows)


RowAndRequest = tuple[dict[str, Any], Request]


def _missing(
    studio: Studio, checkpoint: Checkpoint, prompts: Mapping[int, str], plan: Plan, stored: set[str]
) -> Iterator[list[RowAndRequest]]:
    """What is still to be sampled, prompt by prompt: the columns that are known already, and the request."""
    settings = plan.settings(studio.decoding.label)
    # Candidates of earlier versions, which knew one way to decode, keep their ids.
    identity = [f"{name}={value!r}" for name, value in settings.items() if (name, value) != ("decode", "plain")]
    for place, prompt in prompts.items():
        prompt_id = digest(prompt)
        missing = []
        for number in range(plan.count):
            candidate_id = digest(prompt, checkpoint.weights, *identity, str(number))
            if candidate_id in stored:
                continue
            # A function of prompt and number alone: all checkpoints sample with the same random numbers.
            stream = int(digest(prompt_id, str(number))[:12], 16)
            request = image_request(
                studio.visual_grammar, prompt, plan.h, plan.w, sampling=plan.sampling, stream=stream
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
            missing.append((row, request))
        if missing:
            yield missing


def _parts(prompts: Iterator[list[RowAndRequest]]) -> Iterator[Sequence[RowAndRequest]]:
    part: list[RowAndRequest] = []
    tokens = 0
    for rows in prompts:
        part += rows
        tokens += sum(request.max_new_tokens for _, request in rows)
        if tokens >= PART_TOKENS:
            yield part
            part, tokens = [], 0
    if part:
        yield part
