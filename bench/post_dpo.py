"""Does DPO teach a verifiable rule on unseen prompts, without changing anything else?

    python bench/post_dpo.py WORK [--prefer blue] [--candidates 8] [--groups 12] [--steps 50]

World and base model are those of `scenes.py` (WORK/world, WORK/base; made where missing). The base model draws groups
of candidates for captions that name a shape and a ground but no color; of each group those that obey their caption in
the preferred color are chosen, each beside one of the others, rejected (`scenes.read` judges the pixels). A third of
the captions is held out: none of their pairs is trained on. Then a run with the objective of `reelmill train dpo`, and
both models draw for all captions. Prints the log's figures on held-out pairs, how often drawn pictures show the
preferred color and obey, the win rate of the new model against the base (a picture that obeys in the preferred color
beats one that does not; equals are half a win each), and the loss by kind of token on held-out documents of the world,
then and now.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import scenes
import torch

from reelmill.eval.generation import SamplingParams, Studio, TokenSampling, image_request
from reelmill.tokenize.documents import parse
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.shards.pairs import pair_row, write_pairs
from reelmill.train.config import TrainConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader
from reelmill.train.init_from import load_init_weights
from reelmill.train.objectives.preference.loss import PreferenceConfig
from reelmill.train.objectives.validation import validate
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

SAMPLING = SamplingParams(vision=TokenSampling(top_k=50))
RECIPE = TrainConfig(
    model=scenes.CONFIG.model,
    data=replace(scenes.CONFIG.data, context=512, batch_rows=4, heldout=0.34, vision_weight=1.0),
    objective="preference",
    settings={"preference": PreferenceConfig(beta=0.1, ntp_weight=1.0)},
    optimizer=OptimizerConfig(lr=3e-4, schedule="linear", warmup_steps=5, weight_decay=0.0),
    steps=50,
    precision="float32",
    device="cpu",
    validate_every=10,
    checkpoint=CheckpointConfig(every=50),
)
CAPTIONS = [f"a {shape} on {ground}" for shape, ground in itertools.product(scenes.SHAPES, scenes.GROUNDS)]


def opened(checkpoint: Path) -> Studio:
    """A studio that draws many small pictures at a time."""
    return Studio.open(checkpoint, rows=144)


def drawn(studio: Studio, captions: list[str], seed: int) -> list[tuple[np.ndarray, int, scenes.Scene]]:
    """Of each caption: the drawn document, its tokens that were given, what its picture shows."""
    sampling = replace(SAMPLING, seed=seed)
    requests = [
        image_request(studio.visual_grammar, caption, scenes.GRID, scenes.GRID, sampling=sampling, stream=number)
        for number, caption in enumerate(captions)
    ]
    found = []
    for start in range(0, len(requests), studio.rows):
        some = requests[start : start + studio.rows]
        for request, tokens in zip(some, studio.generate(some), strict=True):
            (codes,) = parse(studio.vocab, tokens).codes
            found.append((tokens, len(request.prompt), scenes.read(studio.vision.decode_image(codes))))
    return found


def is_good(shown: scenes.Scene, caption: str, colour: str) -> bool:
    """Whether a picture has the preferred color and all that its caption names."""
    return shown.colour == colour and f"a {shown.shape} on {shown.ground}" == caption


def write(folder: Path, studio: Studio, colour: str, groups: int, candidates: int) -> int:
    """Pairs of candidates that the model draws, each group's good with its bad ones as far as they go; how many."""
    asked = [caption for caption in CAPTIONS for _ in range(groups * candidates)]
    found = drawn(studio, asked, seed=0)
    rows = {}
    for start in range(0, len(found), candidates):
        caption, of = asked[start], found[start : start + candidates]
        good = [one for one in of if is_good(one[2], caption, colour)]
        bad = [one for one in of if not is_good(one[2], caption, colour)]
        for (chosen, n_prompt, _), (rejected, _, _) in zip(good, bad, strict=False):
            row = pair_row(caption, n_prompt, chosen, rejected)
            rows[row["pair_id"]] = row
    codes = studio.vision.fingerprint
    write_pairs(folder / "pairs.parquet", list(rows.values()), Footer(codes, studio.vocab, codes))
    return len(rows)


def world_losses(checkpoint: Path, world: Path) -> dict[str, float]:
    """NLL by kind of the world's held-out documents, nats a token."""
    config = scenes.CONFIG
    corpus = Corpus([world], None, config.data)
    model_config = replace(config.model, vocab_size=corpus.vocab.size)
    with join_ranks("cpu") as ranks:
        layout = Layout.of(ParallelConfig(), model_config, config.data.context, ranks)
        model = sharded_decoder(model_config, layout, "float32", 0)
        load_init_weights(checkpoint, model, corpus.vocab, corpus.tokenizer)
        loader = Loader(corpus, np.flatnonzero(corpus.heldout), config.data.for_validation(), 0)
        return validate(model, loader, layout, 1_000)


def score(found: list[tuple[np.ndarray, int, scenes.Scene]], captions: list[str], colour: str) -> dict[str, float]:
    """Shares of pictures: in the preferred color, and with the shape and ground of the caption."""
    in_colour = [shown.colour == colour for _, _, shown in found]
    obeys = [
        f"a {shown.shape} on {shown.ground}" == caption for (_, _, shown), caption in zip(found, captions, strict=True)
    ]
    return {"in colour": float(np.mean(in_colour)), "obeys": float(np.mean(obeys))}


def win_rate(new: list[bool], base: list[bool]) -> tuple[float, float]:
    """(rate, half the width of its 95 % interval) over pairs of pictures, ties half a win."""
    wins = np.array([0.5 + 0.5 * (a - b) for a, b in zip(map(int, new), map(int, base), strict=True)])
    return float(wins.mean()), float(1.96 * wins.std(ddof=1) / np.sqrt(len(wins)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--prefer", default="blue", choices=list(scenes.COLOURS))
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--groups", type=int, default=12, help="of each caption")
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--pictures", type=int, default=24, help="of each caption, when the models are compared")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    world = scenes.write_world(args.work / "world")
    base = scenes.base_model(args.work / "base", world)
    print(f"world and base model: {time.process_time() - began:.0f} CPU-seconds", flush=True)
    colour = args.prefer
    began = time.process_time()
    pairs = args.work / "pairs-dpo"
    studio = opened(base)
    count = write(pairs, studio, colour, args.groups, args.candidates)
    print(
        f"{count} pairs of {args.groups} x {len(CAPTIONS)} groups: {time.process_time() - began:.0f} CPU-seconds",
        flush=True,
    )
    began = time.process_time()
    out = args.work / "dpo"
    shutil.rmtree(out, ignore_errors=True)
    trained = train(replace(RECIPE, init=str(base), steps=args.steps), [pairs], out, log_fn=lambda _: None)
    print(f"{args.steps} steps: {time.process_time() - began:.0f} CPU-seconds", flush=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if "validation" in line:
            numbers = "  ".join(f"{name} {value:.4f}" for name, value in line["validation"].items())
            print(f"held-out pairs after step {line['step']}: {numbers}", flush=True)
    report(args, world, base, trained, pairs, colour)


def report(args: argparse.Namespace, world: Path, base: Path, trained: Path, pairs: Path, colour: str) -> None:
    from reelmill.train.objectives.preference.data import PairCorpus

    corpus = PairCorpus([pairs], "", RECIPE.data)
    prompts = np.array(corpus.index.columns["prompt"].to_pylist())
    heldout = sorted(set(prompts[corpus.heldout]))
    seen = sorted(set(prompts[~corpus.heldout]))
    studios = {"base": opened(base), "DPO": opened(trained)}
    other = [what.caption for what in scenes.every() if what.colour != colour]
    results = {}
    for name, captions in {"held-out captions": heldout, "captions trained on": seen}.items():
        asked = [caption for caption in captions for _ in range(args.pictures)]
        for who, studio in studios.items():
            found = drawn(studio, asked, seed=10_000)
            results[who] = [
                is_good(shown, caption, colour) for (_, _, shown), caption in zip(found, asked, strict=True)
            ]
            shares = "  ".join(f"{key} {value:.1%}" for key, value in score(found, asked, colour).items())
            print(f"{name} ({', '.join(captions)}), {len(asked)} pictures, {who}: {shares}", flush=True)
        rate, width = win_rate(results["DPO"], results["base"])
        print(f"{name}: win rate of DPO against base {rate:.3f} +- {width:.3f}")
    for who, studio in studios.items():
        right = scenes.drawn_right(studio, other * 3, SAMPLING)
        print(f"captions that name another colour, {len(right)} pictures, {who}: obey {np.mean(right):.1%}", flush=True)
    losses = {who: world_losses(place, world) for who, place in (("base", base), ("DPO", trained))}
    for kind, before in losses["base"].items():
        after = losses["DPO"][kind]
        print(
            f"{kind} of the world's held-out documents: {before:.4f} before, {after:.4f} after ({after - before:+.4f})"
        )


if __name__ == "__main__":
    main()
