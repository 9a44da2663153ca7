"""Attention to a long KV cache on one GPU: one token of each row, under a mask and by pages.

    python bench/gpu/cache.py [--repeat 50] [--rate 4.8e12]

bfloat16, Emu3's heads (32 query, 8 key heads of 128). Of each way the microseconds of a layer, replayed as a CUDA
graph, and beside them what reading the keys and values that the rows hold takes at the memory's rate (bytes a second;
an H200's by default). The largest difference between the two results is printed too. `--device cpu` only tries the
script out, by the mask alone.
"""

from __future__ import annotations

import argparse
import time

import torch

from reelmill.eval.generation import kv_cache
from reelmill.eval.generation.sharing import Opening
from reelmill.train.model import ModelConfig

HEADS, KV_HEADS, SIZE = 32, 8, 128
CHUNK = 1024


def microseconds(step, repeat: int, device: str) -> float:
    if device == "cpu":
        began = time.perf_counter()
        step()
        return 1e6 * (time.perf_counter() - began)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeat):
            step()
    graph.replay()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeat * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--rate", type=float, default=4.8e12)
    parser.add_argument("--lengths", type=int, nargs="*", default=[1_023, 8_191, 32_767])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args()
    device, on_cuda = options.device, options.device == "cuda"
    config = ModelConfig(vocab_size=8, hidden=HEADS * SIZE, layers=1, heads=HEADS, kv_heads=KV_HEADS, mlp=8)
    like = torch.empty(0, dtype=torch.bfloat16, device=device)
    print(f"{torch.cuda.get_device_name() if on_cuda else 'CPU'}, torch {torch.__version__}")
    for rows in (2, 16):
        for length in options.lengths:
            q, k, v = (
                torch.randn(rows, 1, n, SIZE, dtype=like.dtype, device=device) for n in (HEADS, KV_HEADS, KV_HEADS)
            )
            positions = torch.full((rows, 1), length, device=device)
            found, spent = [], []
            for backend in ("documents", "varlen") if on_cuda else ("documents",):
                cache = kv_cache(config, rows, length + 1, like, backend=backend)
                generator = torch.Generator(device).manual_seed(0)
                for row in range(rows):
                    cache.open(row, Opening(length + 1))
                for begin in range(0, length, CHUNK):
                    told = torch.randn(
                        rows, CHUNK, KV_HEADS, SIZE, dtype=like.dtype, device=device, generator=generator
                    )
                    places = torch.arange(begin, begin + CHUNK, device=device).expand(rows, -1)
                    cache.prepare(slice(0, rows), places, begin + CHUNK)
                    cache.attend(0, told.repeat_interleave(HEADS // KV_HEADS, 2), told, told)
                cache.prepare(slice(0, rows), positions, length + 1)
                found.append(cache.attend(0, q, k, v))
                spent.append(
                    microseconds(lambda cache=cache, q=q, k=k, v=v: cache.attend(0, q, k, v), options.repeat, device)
                )
            floor = 2 * rows * (length + 1) * KV_HEADS * SIZE * 2 / options.rate * 1e6
            apart = (found[0] - found[-1]).abs().max().item()
            print(
                f"{rows:2d} rows of {length + 1:6,} tokens: mask {spent[0]:7.1f} us, pages {spent[-1]:7.1f} us, "
                f"reading {floor:6.1f} us; at most {apart:.1e} apart"
            )


if __name__ == "__main__":
    main()
