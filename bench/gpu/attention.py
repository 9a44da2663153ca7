"""Attention backends on one GPU: milliseconds of forward and backward, and TFLOP/s over the allowed pairs.

    python bench/gpu/attention.py [--repeat 10] [--rows 5120 32768 131072]

bfloat16, Emu3's heads (32 query, 8 key heads of 128), rows of 5,120, 32,768 and 131,072 tokens: one document, and
documents of 4,500. The baseline is one dense causal scaled_dot_product_attention over the row. `--device cpu` with
small `--rows` only tries the script out, `documents` alone.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.nn import functional

from reelmill.train.attention import Documents, attend


def milliseconds(step, repeat: int, device: torch.device) -> float:
    if device.type == "cpu":
        began = time.perf_counter()
        step()
        return 1000 * (time.perf_counter() - began)
    for _ in range(3):
        step()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeat):
        step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--rows", type=int, nargs="*", default=[5_120, 32_768, 131_072])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args()
    device, heads, kv_heads, size = torch.device(options.device), 32, 8, 128
    on_cuda = device.type == "cuda"
    print(f"{torch.cuda.get_device_name() if on_cuda else 'CPU'}, torch {torch.__version__}")
    for row in options.rows:
        shapes = [(1, row, n, size) for n in (heads, kv_heads, kv_heads)]
        q, k, v = (torch.randn(s, device=device, dtype=torch.bfloat16, requires_grad=True) for s in shapes)

        def dense(q=q, k=k, v=v) -> None:
            heads_first = (x.transpose(1, 2) for x in (q, k, v))
            functional.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True).sum().backward()

        baseline = milliseconds(dense, options.repeat, device)
        print(f"{row:,} tokens: dense causal {baseline:.2f} ms")
        for lengths in ([row], [4_500] * (row // 4_500) + [row % 4_500]):
            for backend in ("documents", "varlen", "flex") if on_cuda else ("documents",):
                documents = Documents.packed([length for length in lengths if length], device, backend)

                def step(q=q, k=k, v=v, documents=documents) -> None:
                    attend(q, k, v, documents).sum().backward()

                spent = milliseconds(step, options.repeat, device)
                rate = 12 * documents.pairs * heads * size / spent / 1e9
                print(
                    f"  {len(lengths):3d} documents, {backend:9s} {spent:8.2f} ms, {rate:5.0f} TFLOP/s, dense / it ",
                    f"{baseline / spent:.2f}",
                )


if __name__ == "__main__":
    main()
