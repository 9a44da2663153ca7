"""Which quantizer measures best on one small encoder, trained as long and on the same pictures?

    python bench/quantizers.py WORK --train FILE_OR_FOLDER... --judge FILE_OR_FOLDER... [--steps 400] [--seeds 2]

An encoder and decoder of `reelmill-tok16-s`'s kind (16 x 16 pixels a code, 16,384 codes) at half the width learn on
crops of 96 x 96 pixels by the recipe's loss and schedule: the nearest of a learned codebook (dead codes revived), the
same beside a linear codec of patches that both begin with principal components and k-means, as `reelmill-tok16-s`
does, index backpropagation, and finite scalars of 8, 8, 16 and 16 levels. The sigmoid that iFSQ puts in the place of
FSQ's tanh is no fourth: 2 sigmoid(a x) - 1 is tanh(a x / 2), and here x comes from a linear map whose scale is learned
and whose spread has a loss of its own. Printed are PSNR over what is judged at 256 x 256 pixels, the share of the
codes that it uses, and CPU-seconds of training.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.tokenize.vision.ibq import IBQConfig
from reelmill.train.saver import CheckpointConfig
from reelmill.train.vision.config import TokenizerRecipe
from reelmill.train.vision.data import DataConfig
from reelmill.train.vision.media import MediaFile, find, media_file
from reelmill.train.vision.recipes import recipe
from reelmill.train.vision.run import train

WAYS: dict[str, dict[str, Any]] = {
    "nearest": {"quantizer": "nearest"},
    "nearest, begun with k-means": {"quantizer": "nearest", "shortcut": True},
    "index backpropagation": {"quantizer": "ibq"},
    "finite scalars": {"quantizer": "fsq", "fsq_levels": (8, 8, 16, 16)},
}


def recipe_of(way: str, steps: int, seed: int) -> TokenizerRecipe:
    """The recipe of `reelmill-tok16-s` with another quantizer, smaller."""
    shipped = recipe("reelmill-tok16-s")
    assert isinstance(shipped.model, IBQConfig)
    model = replace(shipped.model, **{"channels": 48, "shortcut": False, "decoder_blocks": 1, **WAYS[way]})
    return replace(
        shipped,
        name="small",
        model=model,
        data=DataConfig(pictures=8, clips=0, sizes=(96,), cache_gb=0.5),
        optimizer=replace(shipped.optimizer, warmup_steps=steps // 10),
        steps=steps,
        ema=0.99,
        revive_every=25 if model.quantizer == "nearest" else 0,
        fit=40_000 if model.shortcut else 0,
        seed=seed,
        checkpoint=CheckpointConfig(every=steps, keep=1),
    )


def scores(out: Path) -> tuple[float, float]:
    """Mean PSNR over the files that were judged last, and the share of the codes that they use."""
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    last = [line["validation"] for line in lines if "validation" in line][-1]
    return float(np.mean([value for name, value in last.items() if name.startswith("psnr/")])), last["codes_used"]


def media(places: list[Path]) -> list[MediaFile]:
    """The files, and those in the folders."""
    return [found for place in places for found in (find([place]) if place.is_dir() else [media_file(place)])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--judge", type=Path, nargs="+", required=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    print("| quantizer | PSNR, dB | codes used | CPU-seconds |\n|---|---|---|---|", flush=True)
    for way in args.ways:
        found, took = [], []
        for seed in range(args.seeds):
            out, began = args.work / f"{way}-{args.steps}-{seed}", time.process_time()
            train(recipe_of(way, args.steps, seed), media(args.train), media(args.judge), out, log_fn=lambda _: None)
            took.append(time.process_time() - began)
            found.append(scores(out))
        psnr = ", ".join(f"{one[0]:.2f}" for one in found)
        used = ", ".join(f"{one[1]:.1%}" for one in found)
        print(f"| {way} | {psnr} | {used} | {np.mean(took):.0f} |", flush=True)


if __name__ == "__main__":
    main()
