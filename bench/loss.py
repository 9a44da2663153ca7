"""What does the loss cost compared with the plain one? Weighted cross-entropy from hidden states, forward and backward.

    python bench/loss.py [--vocabulary 184622] [--width 1024] [--tokens 4096] [--rows 128 256 512 1024] [--library 64]

Baseline: `F.linear` and `F.cross_entropy(reduction="none")` times the tokens' weights. `--library N` adds torch's
`F.linear_cross_entropy` on N tokens, chunked by its own choice, without weights a token; it is slow on a CPU, so few.
Each runs in a process of its own, float32, one thread, after a small warm-up. Prints CPU-seconds, and the peak resident
set above inputs and gradients: what was held before, and the two gradients, are taken off. `--rows` are tokens a chunk
of ours; the gradients of the first are compared with the baseline's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions, functional

from reelmill.train.loss import ROWS, chunked_cross_entropy

SAMPLE = 4096
"""Rows of the weight's gradient that are compared."""


def problem(tokens: int, arguments: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    size, width = arguments.vocabulary, arguments.width
    hidden = torch.randn(tokens, width, generator=generator).requires_grad_()
    weight = torch.empty(size, width).normal_(0, 0.02, generator=generator).requires_grad_()
    targets = torch.randint(0, size, (tokens,), generator=generator)
    return hidden, weight, targets, torch.where(torch.rand(tokens, generator=generator) < 0.8, 0.5, 1.0)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, _: int) -> Tensor:
    return functional.cross_entropy(functional.linear(hidden, weight), targets, reduction="none") @ weights


def library(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, _: int) -> Tensor:
    return functional.linear_cross_entropy(
        hidden, weight, targets, reduction="sum", options=LinearCrossEntropyOptions()
    )


def ours(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, rows: int) -> Tensor:
    return chunked_cross_entropy(hidden, weight, targets, weights, rows=rows)[0]


def megabytes(field: str) -> float:
    """A field of /proc/self/status: VmRSS is what is held, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def measure(kind: str, tokens: int, rows: int, results: Path, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    loss = {"plain": plain, "ours": ours, "library": library}[kind]
    hidden, weight, targets, weights = problem(tokens, arguments)
    loss(hidden[:2], weight[:1000], targets[:2] % 1000, weights[:2], rows).backward()
    hidden.grad = weight.grad = None
    held = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    start = time.process_time()
    total = loss(hidden, weight, targets, weights, rows)
    (total / weights.sum()).backward()
    seconds = time.process_time() - start
    assert hidden.grad is not None and weight.grad is not None
    gradients = 4 * (hidden.numel() + weight.numel()) / 1e6
    costs = {"seconds": seconds, "above": megabytes("VmHWM") - held - gradients, "loss": total.item()}
    torch.save({"weight": weight.grad[:SAMPLE].clone(), "hidden": hidden.grad}, results)
    print(json.dumps(costs))


def child(kind: str, tokens: int, rows: int, results: Path) -> dict[str, Any]:
    """Run this script as a process that measures one of them."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", kind, str(tokens), str(rows), str(results)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    costs: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=184_622)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rows", type=int, nargs="*", default=[ROWS["cpu"]])
    parser.add_argument("--library", type=int, default=0, metavar="N")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, tokens, rows, results = arguments.child
        measure(kind, int(tokens), int(rows), Path(results), arguments)
        return
    print(f"V {arguments.vocabulary:,}, D {arguments.width:,}, T {arguments.tokens:,}, float32, one thread")
    print(f"{'':40} {'CPU-s':>8} {'ratio':>6} {'MB above inputs and gradients':>30} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = child("plain", arguments.tokens, 0, folder / "plain.pt")
        report("F.linear, F.cross_entropy (baseline)", base, base)
        for rows in arguments.rows:
            own = child("ours", arguments.tokens, rows, folder / f"{rows}.pt")
            report(f"reelmill, {rows} tokens a chunk", own, base)
        compare(folder / "plain.pt", folder / f"{arguments.rows[0]}.pt")
        if arguments.library:
            base = child("plain", arguments.library, 0, folder / "few.pt")
            report(f"F.linear, F.cross_entropy, T {arguments.library}", base, base)
            theirs = child("library", arguments.library, 0, folder / "library.pt")
            report(f"F.linear_cross_entropy, T {arguments.library}", theirs, base)


def report(name: str, costs: dict[str, Any], base: dict[str, Any]) -> None:
    seconds, above = costs["seconds"], costs["above"]
    shares = seconds / base["seconds"], above / base["above"]
    print(f"{name:40} {seconds:8.1f} {shares[0]:6.2f} {above:30,.0f} {shares[1]:6.3f}", flush=True)


def compare(baseline: Path, own: Path) -> None:
    expected, found = torch.load(baseline, weights_only=True), torch.load(own, weights_only=True)
    for name, gradient in expected.items():
        worst = (found[name] - gradient).abs().max() / gradient.abs().max()
        print(f"gradient of {name}: largest difference {worst:.1e} of the largest entry")


if __name__ == "__main__":
    main()
