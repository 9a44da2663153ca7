"""Train a vision tokenizer: `python -m reelmill.tokenize.vision.train --out DIR --minutes M [--data DIR ...]`.

Batches mix pictures and clips. The loss is L1 + L2 + the L1 of spatial differences, and for clips the L1 of the change
from frame to frame, also across chunks, which is what flicker is. An exponential moving average of the weights is what
gets evaluated and saved. A killed run goes on from its last checkpoint when started again with the same --out.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.files import write_atomically, write_text
from reelmill.tokenize.vision import data, sources
from reelmill.tokenize.vision.evaluate import evaluate
from reelmill.tokenize.vision.movq import MoVQ
from reelmill.tokenize.vision.presets import PRESETS
from reelmill.tokenize.vision.tokenizer import VisionTokenizer, save

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. `minutes` is the whole budget over all restarts; the learning rate follows a cosine over it.

    A step takes `pictures` crops and `clips` clips of `chunks` x 4 frames, at a size drawn from `sizes` (pixels).
    Weights of the loss terms are `l1`, `l2`, `edges` (spatial differences), `flicker` (temporal ones),
    `colour` (differences of channels) and `quantizer` (the quantizer's own loss).
    """

    minutes: float = 40.0
    pictures: int = 6
    clips: int = 1
    chunks: int = 2
    sizes: tuple[int, ...] = (64, 64, 96)
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.998
    l1: float = 1.0
    l2: float = 6.0
    edges: float = 0.25
    flicker: float = 0.25
    colour: float = 0.5
    quantizer: float = 0.2
    seed: int = 0
    log_every: int = 100
    evaluate_every_minutes: float = 4.0


class Trainer:
    """Model, moving average, optimizer and what a checkpoint keeps."""

    def __init__(self, preset: str, config: TrainConfig, out: Path) -> None:
        if preset not in PRESETS:
            raise ConfigError(f"no tokenizer configuration {preset!r}; {nearest(preset, PRESETS)}")
        torch.manual_seed(config.seed)
        self.preset = preset
        self.config = config
        self.out = out
        self.model = MoVQ(PRESETS[preset])
        self.average = MoVQ(PRESETS[preset])
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.step = 0
        self.seconds = 0.0

    @property
    def progress(self) -> float:
        """Share of the time budget that is spent."""
        return min(1.0, self.seconds / (self.config.minutes * 60))

    def run(self, media: data.Media, held_out: list[Path]) -> None:
        """Train until the budget is spent; checkpoint and evaluate on the way and at the end."""
        last_evaluation = self.seconds
        sums: dict[str, float] = {}
        while self.progress < 1:
            started = time.monotonic()
            terms = self.train_step(media)
            self.seconds += time.monotonic() - started
            for key, value in terms.items():
                sums[key] = sums.get(key, 0.0) + value / self.config.log_every
            if self.step % self.config.log_every == 0:
                self._log({"step": self.step, "minutes": round(self.seconds / 60, 2), "lr": self.rate(), **sums})
                sums = {}
            if self.seconds - last_evaluation > self.config.evaluate_every_minutes * 60:
                last_evaluation = self.seconds
                self.checkpoint(held_out)
        self.checkpoint(held_out)

    def train_step(self, media: data.Media) -> dict[str, float]:
        """One step on the batch of this step number; returns each loss term."""
        config = self.config
        # The batch is a function of (seed, step), so a resumed run sees what an undisturbed one would.
        rng = np.random.default_rng([config.seed, self.step])
        size = int(rng.choice(config.sizes))
        pictures = _to_float(np.stack([media.picture(rng, size) for _ in range(config.pictures)]))
        length = config.chunks * self.model.config.temporal_factor
        clips = _to_float(np.stack([media.clip(rng, size, length) for _ in range(config.clips)]))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._losses(pictures, clips)
        total = sum(getattr(config, key) * value for key, value in terms.items())
        assert isinstance(total, Tensor)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {**{key: value.item() for key, value in terms.items()}, "norm": norm.item(), "total": total.item()}

    def rate(self) -> float:
        """Learning rate now: linear warm-up in steps, then a cosine over the time budget, to 1 % of the peak."""
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return self.config.learning_rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * self.progress)) / 2)

    def checkpoint(self, held_out: list[Path]) -> None:
        """Write the tokenizer, its evaluation with pictures, and the state to resume from, each atomically."""
        path = self.out / f"{self.preset}.safetensors"
        save(self.average, self.preset, path)
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        write_atomically(self.out / "state.pt", lambda temporary: torch.save(state, temporary))
        model = MoVQ(self.average.config)
        model.load_state_dict(self.average.state_dict())
        scores = evaluate(
            VisionTokenizer(model, self.preset), held_out, self.out / "pictures" / f"step-{self.step:06d}"
        )
        self._log({"step": self.step, "minutes": round(self.seconds / 60, 2), **scores})

    def resume(self) -> None:
        """Go on from `state.pt` in the output folder, if there is one."""
        path = self.out / "state.pt"
        if not path.is_file():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        log.info("resumed at step %d, %.1f minutes", self.step, self.seconds / 60)

    def _losses(self, pictures: Tensor, clips: Tensor) -> dict[str, Tensor]:
        chunks = clips.reshape(-1, self.model.config.temporal_factor, *clips.shape[2:])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = torch.cat([self.model.image_latents(pictures), self.model.latents(chunks)])
            quantized, _, own = self.model.quantize(vectors)
            drawn = self.model.reconstruct(quantized[: len(pictures)], frames=1).squeeze(1)
            played = self.model.reconstruct(quantized[len(pictures) :])
        played = played.float().reshape(clips.shape)
        outputs = torch.cat([drawn.float(), played.flatten(0, 1)])
        targets = torch.cat([pictures, clips.flatten(0, 1)])
        return {
            "l1": F.l1_loss(outputs, targets),
            "l2": F.mse_loss(outputs, targets),
            "edges": F.l1_loss(outputs.diff(dim=-1), targets.diff(dim=-1))
            + F.l1_loss(outputs.diff(dim=-2), targets.diff(dim=-2)),
            # Colour varies far less than brightness: without a term of its own it is learned last.
            "colour": F.l1_loss(_opponent(outputs), _opponent(targets)),
            "flicker": F.l1_loss(played.diff(dim=1), clips.diff(dim=1)),
            "quantizer": own,
        }

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for kept, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)

    def _log(self, row: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        log.info("%s", "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


def _opponent(frames: Tensor) -> Tensor:
    """[N, 3, H, W] to [N, 2, H, W]: red minus green, and blue minus the mean of both."""
    red, green, blue = frames.unbind(1)
    return torch.stack([red - green, blue - (red + green) / 2], dim=1)


def _to_float(frames: data.Frames) -> Tensor:
    """[..., H, W, 3] uint8 to [..., 3, H, W] in [-1, 1]."""
    return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reelmill.tokenize.vision.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log and pictures")
    parser.add_argument("--minutes", type=float, default=TrainConfig.minutes, help="time budget over all restarts")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of more pictures and videos")
    parser.add_argument("--preset", default="reelmill-tok-xs", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Fetch the listed media, train, and leave `<preset>.safetensors` in --out."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(minutes=arguments.minutes, seed=arguments.seed)
    listed, held_out = sources.fetch(arguments.out / "media")
    paths = listed + data.find_media(arguments.data)
    write_text(arguments.out / "files.txt", "".join(f"{path}\n" for path in paths))
    trainer = Trainer(arguments.preset, config, arguments.out)
    trainer.resume()
    trainer.run(data.Media(paths), held_out)


if __name__ == "__main__":
    main()
