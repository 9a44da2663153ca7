"""What does a training step cost here and in transformers? Same model, same weights, same batch, float32.

    python bench/train_step.py [--recipe small] [--tokens 2048] [--set model.layers=4]

Baseline: `Emu3ForCausalLM` of transformers with its own loss (`labels`) and scaled-dot-product attention. A step is
forward, backward, clipping and a fused AdamW of torch, the same for all. Weights are written once in Hugging Face's
layout and read by each, in a process of its own with one thread; a first step warms up and makes the optimizer's state.
The row is one document, so masks give no one an advantage. Prints CPU-seconds of the second step, and its peak resident
set above weights, optimizer and gradients (memory held before the step and the bytes of the gradients are subtracted).

`reelmill` is the decoder with its loss; `reelmill, as trained` the same as the trainer makes it on one rank.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelmill.compat import torchvision
from reelmill.config import override
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import hub, parallel
from reelmill.train.loss import ROWS
from reelmill.train.model import Decoder
from reelmill.train.optimizer import OptimizerConfig, make_optimizer
from reelmill.train.recipes import recipe

Loss = Callable[[Tensor], Tensor]


def theirs(folder: Path, _: ExitStack) -> tuple[nn.Module, Loss]:
    torchvision()
    from transformers import Emu3ForCausalLM

    model = Emu3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
    model.config.use_cache = False
    return model, lambda tokens: model(tokens, labels=tokens).loss


def ours(folder: Path, _: ExitStack) -> tuple[nn.Module, Loss]:
    model = hub.read_model(folder).train()
    return model, lambda tokens: loss_of(model, tokens)


def as_trained(folder: Path, stack: ExitStack) -> tuple[nn.Module, Loss]:
    ranks = stack.enter_context(parallel.join_ranks("cpu"))
    config = hub.read_config(folder)
    layout = parallel.Layout.of(parallel.ParallelConfig(), config, 1, ranks)
    model = parallel.sharded_decoder(config, layout, "float32", seed=0).train()
    hub.fill(model, folder)
    return model, lambda tokens: loss_of(model, tokens)


def loss_of(model: Decoder, tokens: Tensor) -> Tensor:
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    positions = torch.arange(inputs.shape[1]).expand_as(inputs)
    total, *_ = model.lm_head.loss(model(inputs, positions), targets, torch.ones(targets.shape))
    return total / targets.numel()


def megabytes(field: str) -> float:
    """A field of /proc/self/status: VmRSS is what is held, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def measure(kind: str, folder: Path, count: int, stack: ExitStack) -> None:
    torch.set_num_threads(1)
    model, loss_for = {"theirs": theirs, "ours": ours, "as trained": as_trained}[kind](folder, stack)
    optimizer = make_optimizer(model, OptimizerConfig(lr=1e-4))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, hub.read_config(folder).vocab_size, (1, count + 1), generator=generator)

    def step(tokens: Tensor) -> float:
        loss = loss_for(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    step(tokens[:, :65])
    held = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    start = time.process_time()
    loss = step(tokens)
    seconds = time.process_time() - start
    gradients = sum(parameter.numel() * 4 for parameter in model.parameters()) / 1e6
    print(json.dumps({"seconds": seconds, "held": held, "above": megabytes("VmHWM") - held - gradients, "loss": loss}))


def write_model(name: str, changes: list[str], folder: Path) -> None:
    config = override(recipe(name), changes).model
    torch.manual_seed(0)
    model = Decoder(config)
    parallel.initialize(model, seed=0)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tables = 2 * config.vocab_size * config.hidden
    print(f"recipe {name}: {parameters:,} parameters, {tables / parameters:.0%} of them embeddings and head; {config}")
    hub.export_model(model, Vocabulary(), folder, layout="emu3", dtype=torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, such as model.layers=4")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, folder = arguments.child
        with ExitStack() as stack:
            measure(kind, Path(folder), arguments.tokens, stack)
        return
    with tempfile.TemporaryDirectory() as place:
        write_model(arguments.recipe, arguments.set, Path(place))
        print(
            f"{arguments.tokens:,} tokens, chunks of {ROWS['cpu']} in the loss; peak MB above weights, AdamW, gradients"
        )
        print(f"{'':32} {'CPU-s':>7} {'ratio':>6} {'held MB':>8} {'peak MB':>8} {'ratio':>6} {'loss':>9}")
        base = child("theirs", Path(place))
        report("Emu3ForCausalLM (baseline)", base, base)
        report("reelmill", child("ours", Path(place)), base)
        report("reelmill, as trained", child("as trained", Path(place)), base)


def child(kind: str, folder: Path) -> dict[str, Any]:
    """Run this script as a process that measures one of them."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", kind, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    costs: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return costs


def report(name: str, costs: dict[str, Any], base: dict[str, Any]) -> None:
    times, peaks = (costs[field] / base[field] for field in ("seconds", "above"))
    print(
        f"{name:32} {costs['seconds']:7.1f} {times:6.2f} {costs['held']:8,.0f} {costs['above']:8,.0f} {peaks:6.3f} "
        f"{costs['loss']:9.5f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
