"""Does the predicted step hold? The roofline of `train --dry-run` with this CPU's rates, beside measured steps.

    python bench/roofline.py [--cases small tiny layers loss]

A probe measures three rates of one thread in float32: FLOP/s of a large product, those of causal attention forward and
backward, and bytes a second of adding two arrays that no cache holds. From them `reelmill.train.roofline` predicts a
step by part. The step is the trainer's on one rank: forward, loss, backward, clipping, AdamW; one document a row. CPU-
seconds, the lowest of `--steps` after one that warms up. The loss forms its gradients in forward, so its time and the
optimizer's are measured on their own, and what is left are the layers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch.nn import functional

from reelmill.config import override
from reelmill.train.config import TrainConfig
from reelmill.train.optimizer import make_optimizer
from reelmill.train.parallel import Layout, clip_gradients, join_ranks, sharded_decoder
from reelmill.train.recipes import recipe
from reelmill.train.roofline import Rates, step_parts

CASES = {
    "small": ("recipe small", "small", 2048, []),
    "tiny": ("recipe tiny", "tiny", 512, ["model.vocab_size=4563"]),
    "layers": ("two layers of 1b, a small vocabulary", "1b", 1024, ["model.layers=2", "model.vocab_size=8192"]),
    "loss": ("one layer of 1,024 under Emu3's vocabulary", "small", 1024,
             ["model.layers=1", "model.hidden=1024", "model.heads=8"]),
}  # fmt: skip
"""What is measured: its name, the recipe, tokens of a row, changes."""
DOCUMENTED = {
    "a step of `bench/train_step.py`, as trained": (*CASES["small"][1:], "all", 16.9),
    "a step of `tiny`'s training, with all that it logs and saves": (*CASES["tiny"][1:], "all", 293 / 2600),
    "`bench/loss.py`, 4,096 tokens": ("small", 4096, CASES["loss"][3], "loss", 44.6),
}
"""CPU-seconds that docs/benchmarks.md has, measured on other days: recipe, tokens, changes, the part that it is."""
PARTS = {"loss": ["loss"], "optimizer": ["optimizer"]}
"""What is measured on its own; all else of the prediction are the layers."""


def lowest(work: Callable[[], object], times: int) -> float:
    """CPU-seconds, after one run that warms up."""
    work()
    spent = []
    for _ in range(times):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


def probe() -> Rates:
    """The rates of one thread of this CPU."""
    left, right = torch.randn(1024, 2048), torch.randn(2048, 4096)
    flops = 2 * 1024 * 2048 * 4096 / lowest(lambda: left @ right, 5)
    arrays = [torch.ones(1 << 26) for _ in range(3)]
    memory = 3 * arrays[0].nbytes / lowest(lambda: torch.add(arrays[0], arrays[1], out=arrays[2]), 5)
    heads, length, size = 6, 2048, 64
    q, k, v = (torch.randn(1, heads, length, size, requires_grad=True) for _ in range(3))

    def attend() -> None:
        functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()

    attention = 6 * heads * size * length**2 / lowest(attend, 3)
    shares = {"products": 1.0, "attention": attention / flops, "memory": 1.0, "links": 1.0}
    return Rates(flops=flops, memory=memory, shares=shares, device="cpu")


def one_row(name: str, tokens: int, changes: list[str]) -> TrainConfig:
    """A recipe whose step is one row, in float32."""
    sizes = [f"data.context={tokens}", "data.batch_rows=1", "data.micro_rows=1", 'precision="float32"']
    return override(recipe(name), [*changes, *sizes])


def measured(config: TrainConfig, steps: int, stack: ExitStack) -> dict[str, float]:
    """CPU-seconds of a step of one row of one document: in all, of the loss and of the optimizer."""
    ranks = stack.enter_context(join_ranks("cpu"))
    layout = Layout.of(config.parallel, config.model, config.data.context, ranks)
    model = sharded_decoder(config.model, layout, "float32", seed=0).train()
    optimizer = make_optimizer(model, config.optimizer)
    length = config.data.context
    tokens = torch.randint(0, config.model.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    positions, weights = torch.arange(length)[None], torch.ones(1, length)
    spent: dict[str, list[float]] = {"all": [], "loss": [], "optimizer": []}

    def step() -> None:
        began = time.process_time()
        hidden = model(tokens, positions)
        before = time.process_time()
        total, *_ = model.lm_head.loss(hidden, tokens.roll(-1, 1), weights)
        spent["loss"].append(time.process_time() - before)
        (total / length).backward()
        before = time.process_time()
        clip_gradients(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        spent["optimizer"].append(time.process_time() - before)
        spent["all"].append(time.process_time() - began)

    for _ in range(1 + steps):
        step()
    best = min(range(1, 1 + steps), key=lambda number: spent["all"][number])
    return {name: times[best] for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rates = probe()
    print(
        f"one thread, float32: products {rates.flops / 1e9:.1f} GFLOP/s, attention "
        f"{rates.flops * rates.shares['attention'] / 1e9:.1f} GFLOP/s, memory {rates.memory / 1e9:.1f} GB/s"
    )
    print("| step | part | predicted, CPU-s | measured | predicted / measured |\n|---|---|---|---|---|")
    for case in arguments.cases:
        name, base, tokens, changes = CASES[case]
        config = one_row(base, tokens, changes)
        parts = step_parts(config, 1, tokens, rates)
        with ExitStack() as stack:
            found = measured(config, arguments.steps, stack)
        predicted = {part: sum(parts[each] for each in names) for part, names in PARTS.items()}
        predicted = {"layers": sum(parts.values()) - sum(predicted.values())} | predicted | {"all": sum(parts.values())}
        found = {"layers": found["all"] - found["loss"] - found["optimizer"]} | found
        for part, seconds in predicted.items():
            label = f"{name}, {tokens:,} tokens" if part == "layers" else ""
            ratio = seconds / found[part]
            print(f"| {label} | {part} | {seconds:.3f} | {found[part]:.3f} | {ratio:.2f} |", flush=True)
    for name, (base, tokens, changes, part, seconds) in DOCUMENTED.items():
        parts = step_parts(one_row(base, tokens, changes), 1, tokens, rates)
        predicted = parts.get(part, sum(parts.values()))
        print(f"| {name} | {part} | {predicted:.3f} | {seconds:.3f} | {predicted / seconds:.2f} |")


if __name__ == "__main__":
    main()
