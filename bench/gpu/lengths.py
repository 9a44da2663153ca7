"""Documents of lengths that never repeat: what a way of attention costs at the first sight of a length, and after.

    python bench/gpu/lengths.py [--batches 40] [--row 5120]

bfloat16, Emu3's heads, forward and backward of one attention. Every batch is cut into documents of other lengths, drawn
from a seed. Each way sees all batches twice: a plan or a graph that is made for each new length shows as a first pass
that is slower than the second. `documents` runs with cuDNN's kernel and without. Then one layer of recipe `1b`,
compiled, over the same batches: milliseconds, the graphs that Dynamo made and its graph breaks, and what makes the host
wait for the GPU (`torch.cuda.set_sync_debug_mode`). `--device cpu` only tries the script out.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from torch._dynamo.utils import counters

from reelmill.train.attention import Backend, Documents, attend
from reelmill.train.model import Layer, rotary
from reelmill.train.recipes import recipe

HEADS, KV_HEADS, SIZE = 32, 8, 128


def batches(count: int, row: int) -> list[list[int]]:
    """The lengths of the documents of each batch; they sum to the row."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        cuts = np.sort(rng.choice(np.arange(1, row), int(rng.integers(2, 9)), replace=False))
        made.append(np.diff([0, *cuts, row]).tolist())
    return made


def milliseconds(step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began)


def attention_passes(packed: list[list[int]], backend: Backend, device: torch.device, dropout: float) -> list[float]:
    """Milliseconds of a first and a second pass over all batches."""
    row = sum(packed[0])
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shapes = [(1, row, heads, SIZE) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    q, k, v = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for shape in shapes)

    def all_batches() -> None:
        for lengths in packed:
            documents = Documents.packed(lengths, device, backend).prepare()
            attend(q, k, v, documents, dropout).sum().backward()

    return [milliseconds(all_batches, device) for _ in range(2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--row", type=int, default=5120)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_cuda = device.type == "cuda"
    packed = batches(options.batches, options.row)
    print(f"{options.batches} batches of {options.row:,} tokens in 3 to 9 documents; ms a batch, first and second pass")
    ways: list[tuple[Backend, float, bool]] = [("documents", 0.1, True), ("documents", 0.1, False)]
    ways += [("varlen", 0.0, False), ("varlen", 0.1, False), ("flex", 0.0, False)] if on_cuda else []
    for backend, dropout, cudnn in ways:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        first, second = (spent / len(packed) for spent in attention_passes(packed, backend, device, dropout))
        said = " with cuDNN's" if cudnn else ""
        print(f"  {backend}{said}, dropout {dropout:g}: {first:8.2f} {second:8.2f}", flush=True)

    config = recipe("1b").model
    dtype = torch.bfloat16 if on_cuda else torch.float32
    layer = Layer(config, 0).to(device, dtype)
    layer.compile(backend="inductor" if on_cuda else "aot_eager")
    x = torch.randn(1, options.row, config.hidden, device=device, dtype=dtype, requires_grad=True)
    backend: Backend = "varlen" if on_cuda else "documents"

    def over_batches() -> None:
        for lengths in packed:
            positions = torch.cat([torch.arange(length) for length in lengths])[None].to(device)
            angles = rotary(positions, config.head_size, config.rope_theta)
            documents = Documents.packed(lengths, device, backend).prepare()
            layer(x, angles, documents, None).sum().backward()

    counters.clear()
    first, second = (milliseconds(over_batches, device) / len(packed) for _ in range(2))
    stats, breaks = dict(counters["stats"]), dict(counters["graph_break"])
    print(
        f"a layer of 1b, compiled: {first:.2f} {second:.2f} ms; {stats.get('unique_graphs', 0)} graphs, breaks {breaks}"
    )
    if on_cuda:
        documents = Documents.packed(packed[0], device, backend).prepare()
        angles = rotary(torch.arange(options.row, device=device)[None], config.head_size, config.rope_theta)
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            layer(x, angles, documents, None).sum().backward()
        torch.cuda.set_sync_debug_mode("default")
        print(f"a layer makes the host wait {len(waits)} times")


if __name__ == "__main__":
    main()
