"""Document-masked attention against one dense causal attention over the row: pairs computed, CPU-seconds measured.

    OMP_NUM_THREADS=1 .venv/bin/python bench/attention.py [--tokens 16384] [--heads 1] [--size 64] [--repeat 2]

Both run forward and backward on the same queries, keys and values, alternating in one process; the figure is the ratio
of the shortest times. `short` are documents of about 4,500 tokens (an image of 512 x 512 with its caption);
`mix` adds texts of 500 and videos that fill a third of the row. Then Emu3's 8B at 131,072 tokens by arithmetic.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from reelmill.train.attention import Documents, attend
from reelmill.train.estimate import flops_per_token
from reelmill.train.model import ModelConfig


def short(tokens: int, rng: np.random.Generator) -> list[int]:
    return fill(tokens, lambda: int(rng.normal(4_500, 300)))


def mix(tokens: int, rng: np.random.Generator) -> list[int]:
    return [tokens // 3, *fill(tokens - tokens // 3, lambda: int(rng.choice([500, 4_500])))]


def fill(tokens: int, draw) -> list[int]:
    lengths: list[int] = []
    while (left := tokens - sum(lengths)) > 0:
        lengths.append(min(left, max(1, draw())))
    return lengths


def cpu_seconds(tensors: list[torch.Tensor], documents: Documents) -> float:
    began = time.process_time()
    attend(*tensors, documents).sum().backward()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    cpu, model = torch.device("cpu"), ModelConfig(vocab_size=184_622)
    tensors = [torch.randn(1, options.tokens, n, options.size, requires_grad=True) for n in (options.heads, 1, 1)]
    for name, draw in (("short", short), ("mix", mix)):
        lengths = draw(options.tokens, np.random.default_rng(0))
        ours, dense = Documents.packed(lengths, cpu), Documents.packed([options.tokens], cpu)
        runs = [(cpu_seconds(tensors, ours), cpu_seconds(tensors, dense)) for _ in range(options.repeat)]
        spent, baseline = (min(column) for column in zip(*runs, strict=True))
        print(
            f"{name}: {len(lengths)} documents in {options.tokens:,} tokens, pairs 1/{dense.pairs / ours.pairs:.2f}; "
            f"by document {spent:.2f} CPU-s, dense causal {baseline:.2f} CPU-s, ratio {baseline / spent:.2f}",
            flush=True,
        )
        row = 131_072
        lengths = draw(row, np.random.default_rng(0))
        mean = sum(n * n for n in lengths) / row
        whole, masked = flops_per_token(model, row), flops_per_token(model, mean)
        print(
            f"  Emu3 8B, {row:,} tokens, {len(lengths)} documents: {whole / 1e9:.1f} GFLOP a token dense causal, "
            f"{masked / 1e9:.1f} by document, step ratio {whole / masked:.2f}"
        )


if __name__ == "__main__":
    main()
