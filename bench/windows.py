"""How many passes does exact parallel decoding take on larger pictures, by window and number of pictures at a time?

    python bench/windows.py WORK [--side 16] [--windows 1 4 8 16 32] [--rows 1 4 16] [--pictures 24] [--guidance 1]

A world of `side` x `side` codes whose law is known: a disc or a box of one color on a ground of another, in any place
and size, each code one of eight shades of its color, of which one is by far the most frequent. A decoder of 150,000
parameters is trained on it in WORK where it is not there yet (about 4 CPU-minutes); nats a code of the world and of the
model say how near it is. Then passes and CPU-seconds a picture for each window, both also as ratios to window 1.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from parallel import timed

from reelmill.eval.generation import SamplingParams, TokenSampling, image_request
from reelmill.tokenize import documents
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

COLOURS, SHADES = 8, 8
PLAIN = 0.86
"""Share of the codes that have the frequent shade; the others are as likely as each other."""
VOCAB = Vocabulary("bytes", COLOURS * SHADES)
FINGERPRINT = "ab" * 32
PICTURES = 3_000

Codes = npt.NDArray[np.int64]


def picture(rng: np.random.Generator, side: int) -> Codes:
    """A picture of the world, int64 [side, side]."""
    ground, colour = rng.choice(COLOURS, 2, replace=False)
    y, x = rng.uniform(0.2 * side, 0.8 * side, 2)
    height, width = rng.uniform(0.15 * side, 0.4 * side, 2)
    rows, columns = np.mgrid[:side, :side]
    down, along = np.abs(rows - y) / height, np.abs(columns - x) / width
    inside = down**2 + along**2 < 1 if rng.random() < 0.5 else np.maximum(down, along) < 1
    shades = np.where(rng.random((side, side)) < PLAIN, 0, rng.integers(1, SHADES, (side, side)))
    return np.where(inside, colour, ground) * SHADES + shades


def base_model(work: Path, side: int) -> Path:
    """The last checkpoint of a decoder trained on the world."""
    run = work / f"run-{side}"
    if (run / "checkpoints").is_dir() and (last := checkpoint.latest(run / "checkpoints")):
        return last
    rows = [
        document_row(
            VOCAB,
            documents.image_document(VOCAB, picture(np.random.default_rng([side, number]), side), ""),
            sample_id=f"s{number}",
            item_id=f"i{number}",
            fingerprint=FINGERPRINT,
        )
        for number in range(PICTURES)
    ]
    folder = work / f"world-{side}" / "tokens" / FINGERPRINT[:12]
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / "unit-000000.parquet", rows, VOCAB, FINGERPRINT)
    config = TrainConfig(
        model=ModelConfig(
            hidden=64, layers=3, heads=2, kv_heads=1, head_dim=32, mlp=192, qk_norm=True, rope_theta=10_000.0,
            dropout=0.0, attention_dropout=0.0, init_std=0.06,
        ),
        data=DataConfig(context=1024, batch_rows=2, heldout=0.02),
        optimizer=OptimizerConfig(lr=4e-3, warmup_steps=50),
        steps=1_000,
        precision="float32",
        validate_every=250,
        checkpoint=CheckpointConfig(every=1_000),
    )  # fmt: skip
    return train(config, [work / f"world-{side}"], run, log_fn=lambda line: print(line, flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--guidance", type=float, default=1.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    place = base_model(args.work, args.side)
    model, vocab, _ = checkpoint.load_decoder(place)
    last = json.loads((place.parents[1] / "metrics.jsonl").read_text().splitlines()[-1])
    shade = -PLAIN * np.log(PLAIN) - (1 - PLAIN) * np.log((1 - PLAIN) / (SHADES - 1))
    print(f"nats a code: {shade:.3f} of the world's shades alone, {last['validation']['vision']:.3f} of the model")
    sampling = SamplingParams(vision=TokenSampling(), seed=1, guidance=args.guidance)
    request = image_request(Grammar(vocab, one_block=True), "", args.side, args.side, sampling=sampling)
    for rows in args.rows:
        first = None
        for window in args.windows:
            requests = [replace(request, stream=number) for number in range(max(rows, args.pictures))]
            _, took = timed(model, vocab, requests, rows, window)
            first = first or took
            print(
                f"{rows:3} at a time, window {window:2}: {took['passes']:6.1f} passes "
                f"({first['passes'] / took['passes']:.2f}x fewer), {took['cpu_s']:.3f} CPU-s a picture "
                f"({first['cpu_s'] / took['cpu_s']:.2f}x less)",
                flush=True,
            )


if __name__ == "__main__":
    main()
