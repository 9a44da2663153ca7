"""A training step on GPUs: tokens a second, MFU and memory of a recipe, beside transformers' Emu3ForCausalLM.

    python bench/gpu/train_step.py [--recipe 1b] [--set parallel.compile=true] [--steps 10] [--document 1500]
    torchrun --nproc-per-node 8 bench/gpu/train_step.py --skip-baseline

bfloat16 with float32 weights and AdamW on both sides (the baseline under autocast, fused AdamW). Rows of random tokens
of the recipe's context; `--document` cuts them into documents of so many tokens (0: a row is one), and `--lengths
varied` into documents of 300 to 4,500 that differ in each step, as packed ones do. The baseline attends over whole
rows, causally. MFU: the FLOPs of `reelmill.train.estimate.CONVENTION` over the device's dense bfloat16 peak
(`reelmill.train.meter.PEAK_FLOPS`). The median of the steps after three that warm up. `--device cpu` only tries the
script out, without the baseline.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from reelmill.compat import torchvision
from reelmill.config import override
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import hub
from reelmill.train.config import TrainConfig
from reelmill.train.dryrun import memory_by_part
from reelmill.train.estimate import CONVENTION, flops_per_token
from reelmill.train.meter import peak_flops
from reelmill.train.optimizer import make_optimizer
from reelmill.train.parallel import Layout, Ranks, clip_gradients, join_ranks, sharded_decoder
from reelmill.train.recipes import recipe

WARM_UP = 3


def lengths_of(config: TrainConfig, document: int) -> list[int]:
    """Of the documents of one micro-batch's rows."""
    row = config.data.context
    size = document or row
    one = [size] * (row // size) + ([row % size] if row % size else [])
    return one * config.data.micro_rows


def varied_lengths(config: TrainConfig, seed: int) -> list[int]:
    """The same, drawn from 300 to 4,500 tokens."""
    rng, lengths = random.Random(seed), []
    for _ in range(config.data.micro_rows):
        left = config.data.context
        while left:
            lengths.append(min(left, rng.randint(300, 4500)))
            left -= lengths[-1]
    return lengths


def ours(config: TrainConfig, ranks: Ranks, packed: Sequence[Sequence[int]]) -> Callable[[], None]:
    """A step; each takes the next of the lengths."""
    layout = Layout.of(config.parallel, config.model, config.data.context, ranks)
    model = sharded_decoder(config.model, layout, config.precision, config.seed).train()
    optimizer = make_optimizer(model, config.optimizer)
    turns = itertools.cycle(packed)

    def step() -> None:
        lengths = next(turns)
        tokens, positions = batch(config, lengths, ranks.device)
        weights = torch.ones(tokens.shape, device=ranks.device)
        if layout.part is not None:
            held = torch.from_numpy(layout.part.columns(config.data.context)).to(ranks.device)
            tokens, positions, weights = (x[:, held].contiguous() for x in (tokens, positions, weights))
        total, *_ = model.lm_head.loss(model(tokens, positions, lengths), tokens.roll(-1, 1), weights)
        (total / weights.numel()).backward()
        clip_gradients(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def theirs(config: TrainConfig) -> Callable[[], None]:
    torchvision()
    from transformers import Emu3ForCausalLM, Emu3TextConfig

    described = hub.describe(config.model, Vocabulary(), "emu3", torch.float32, config.data.context)
    with torch.device("cuda"):
        model = Emu3ForCausalLM(Emu3TextConfig(**described)).float().train()
    model.config.use_cache = False
    optimizer = make_optimizer(model, config.optimizer)
    tokens, _ = batch(config, [config.data.context] * config.data.micro_rows, torch.device("cuda"))

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def batch(config: TrainConfig, lengths: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens and the positions of their documents, int64 [micro_rows, context]."""
    shape = (config.data.micro_rows, config.data.context)
    positions = torch.cat([torch.arange(length) for length in lengths]).view(shape).to(device)
    return torch.randint(0, config.model.vocab_size, shape, device=device), positions


def measure(name: str, step: Callable[[], None], steps: int, tokens: int, flops: float, gpus: int) -> None:
    on_cuda = torch.cuda.is_available()
    wait: Callable[[], None] = torch.cuda.synchronize if on_cuda else lambda: None
    for _ in range(WARM_UP):
        step()
    wait()
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    taken = []
    for _ in range(steps):
        start = time.monotonic()
        step()
        wait()
        taken.append(time.monotonic() - start)
    rate = tokens / statistics.median(taken) / gpus
    peak = peak_flops(torch.device("cuda", torch.cuda.current_device())) if on_cuda else None
    used = torch.cuda.max_memory_allocated() / 2**30 if on_cuda else float("nan")
    mfu = f"{rate * flops / peak:8.1%}" if peak else "peak unknown"
    print(f"{name:28} {rate:12,.0f} {mfu} {used:12.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="1b")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, such as parallel.compile=true")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--document", type=int, default=0, help="tokens of a document; 0: of a row")
    parser.add_argument("--lengths", choices=["equal", "varied"], default="equal")
    parser.add_argument("--skip-baseline", action="store_true")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments = parser.parse_args()
    config = override(recipe(arguments.recipe), arguments.set)
    with join_ranks(arguments.device) as ranks:
        packed = [lengths_of(config, arguments.document)]
        if arguments.lengths == "varied":
            packed = [varied_lengths(config, seed) for seed in range(64)]
        parallel, data = config.parallel, config.data
        data_ranks = ranks.size // (parallel.tensor * parallel.context)
        tokens = data.micro_rows * data.context * data_ranks
        every = [length for lengths in packed for length in lengths]
        squares = sum(length * length for length in every) / sum(every)
        flops = flops_per_token(config.model, squares)
        expected = memory_by_part(config, parallel.shard or data_ranks)
        if ranks.is_first:
            where = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
            print(f"{where} x {ranks.size}, recipe {arguments.recipe}; MFU: {CONVENTION}")
            print(f"the dry run expects {sum(expected.values()) / 2**30:.1f} GiB beside CUDA's own")
            print(f"{'':28} {'tokens/s/GPU':>12} {'MFU':>8} {'peak GiB':>12}")
        step = ours(config, ranks, packed)
        measure(
            "reelmill" if ranks.is_first else f"rank {ranks.rank}", step, arguments.steps, tokens, flops, ranks.size
        )
        del step
        torch.cuda.empty_cache()
        if arguments.device == "cuda" and ranks.size == 1 and not arguments.skip_baseline:
            whole = flops_per_token(config.model, data.context)
            measure("Emu3ForCausalLM (baseline)", theirs(config), arguments.steps, tokens, whole, 1)


if __name__ == "__main__":
    main()
