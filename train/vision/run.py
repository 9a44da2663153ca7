"""`reelmill tokenizer train`: from a recipe and media to a tokenizer, alone or under torchrun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from reelmill.config import at_least, to_toml
from reelmill.draws import uniform
from reelmill.files import write_text
from reelmill.tokenize.vision.evaluate import fit
from reelmill.tokenize.vision.tokenizer import Frames
from reelmill.train.parallel import join_ranks
from reelmill.train.resume import sole_run
from reelmill.train.vision.config import TokenizerRecipe
from reelmill.train.vision.media import MediaFile, frames_at, read_picture
from reelmill.train.vision.trainer import Trainer

AREA = 256**2
"""Pixels at which held-out media are judged."""
FPS = 12.0
SECONDS = 2.0


def train(
    recipe: TokenizerRecipe,
    sources: Sequence[MediaFile],
    held_out: Sequence[MediaFile],
    out: Path,
    *,
    until: int | None = None,
    log_fn: Callable[[str], None] = print,
) -> Path:
    """Train `recipe` on `sources`, judge it on `held_out`, and return the tokenizer's file in `out`.

    A run that was interrupted goes on from its last checkpoint; `until` stops it before that step. Under torchrun every
    rank calls this. Raises ConfigError for a recipe that cannot run or that differs from the one that `out` was begun
    with, DataError for media that cannot be used, Preempted or Interrupted when a signal stopped it, saved.
    """
    at_least("recipe", recipe, steps=1)
    at_least("data", recipe.data, pictures=0, clips=0, short_side=16)
    at_least("optimizer", recipe.optimizer, lr=0, final_lr=0, warmup_steps=0, discriminator_lr=0)
    with join_ranks(recipe.device) as ranks, sole_run(out, ranks):
        with ranks.together():
            judged = judged_media(held_out) if ranks.is_first else {}
        trainer = Trainer(recipe, sources, judged, out, ranks, log_fn if ranks.is_first else lambda _: None)
        trainer.resume()
        with ranks.together():
            if ranks.is_first:  # only now: a run that `resume` refuses leaves the folder as it was
                write_text(out / "recipe.toml", to_toml(recipe))
                write_text(out / "media.txt", "".join(f"{s.path} {s.name}\n" for s in sources))
        trainer.run(until)
    return out / f"{recipe.name}.safetensors"


def split(sources: Sequence[MediaFile], share: float) -> tuple[list[MediaFile], list[MediaFile]]:
    """(training sources, held-out ones): about `share` of them, chosen by a hash of their names."""

    def is_held_out(source: MediaFile) -> bool:
        return uniform(source.name or source.path.name) < share

    return [s for s in sources if not is_held_out(s)], [s for s in sources if is_held_out(s)]


def judged_media(sources: Sequence[MediaFile]) -> dict[str, Frames]:
    """Pictures, and the first 2 s of videos at 12 frames/s, at an area of 256² by name."""
    media: dict[str, Frames] = {}
    for source in sources:
        frames = np.stack(list(frames_at(source, FPS, 720, SECONDS))) if source.is_video else read_picture(source, 720)
        media[Path(source.name or source.path.name).name] = fit(frames, AREA, 8)
    return media
