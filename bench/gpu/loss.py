"""The loss on a GPU: in chunks and by Triton, beside the plain one and, where it is installed, Liger's fused kernel.

    python bench/gpu/loss.py [--width 4096] [--tokens 5120 16384 32768] [--rows 1024 2048 4096]

bfloat16, V = 184,622, forward and backward, the median of 5 after a warm-up. Prints milliseconds, TFLOP/s of the three
products (6 V D a token), and the peak above inputs and gradients. An implementation that runs out of memory is reported
as such. Ours and the plain one have weights per token; `LigerFusedLinearCrossEntropyLoss` has none. `--tiles` are
other divisions of Triton's backward, tokens x ids x width. `--device cpu` with a small `--vocabulary` only tries the
script out, Triton's kernels in its interpreter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reelmill.train.fused_loss import GRADIENTS, Tiles, fused_cross_entropy
from reelmill.train.loss import ROWS, chunked_cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return functional.cross_entropy((hidden @ weight.t()).float(), targets, reduction="none") @ weights


def ours(rows: int) -> Loss:
    return lambda *inputs: chunked_cross_entropy(*inputs, rows=rows)[0]


def by_triton(tiles: Tiles) -> Loss:
    return lambda *inputs: fused_cross_entropy(*inputs, backward=tiles)[0]


def liger() -> Loss | None:
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    except ImportError:
        return None
    fused = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return lambda hidden, weight, targets, _: fused(weight, hidden, targets)


def milliseconds(work: Callable[[], None], device: str, times: int = 5) -> float:
    work()
    if device == "cpu":
        began = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - began)
    taken = []
    for _ in range(times):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize()
        taken.append(start.elapsed_time(stop))
    return statistics.median(taken)


def measure(name: str, loss: Loss, tokens: int, width: int, vocabulary: int, device: str) -> None:
    generator = torch.Generator(device).manual_seed(0)
    make = {"device": device, "dtype": torch.bfloat16}
    hidden = torch.randn(tokens, width, generator=generator, **make).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator, **make).mul_(0.02).requires_grad_()
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator, device=device)
    weights = torch.ones(tokens, device=device)

    def work() -> None:
        hidden.grad = weight.grad = None
        loss(hidden, weight, targets, weights).backward()

    on_cuda = device == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if on_cuda else 0
    try:
        taken = milliseconds(work, device)
    except torch.cuda.OutOfMemoryError:
        print(f"{name:32} {tokens:8,} does not fit")
        return
    gradients = 2 * (hidden.numel() + weight.numel())
    above = (torch.cuda.max_memory_allocated() - held - gradients) / 1e6 if on_cuda else float("nan")
    rate = 6 * vocabulary * width * tokens / taken / 1e9
    print(f"{name:32} {tokens:8,} {taken:9.1f} {rate:9.0f} {above:12,.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--tokens", type=int, nargs="*", default=[5120, 16_384, 32_768])
    parser.add_argument("--rows", type=int, nargs="*", default=[ROWS["cuda"] // 2, ROWS["cuda"], 2 * ROWS["cuda"]])
    parser.add_argument("--tiles", nargs="*", default=[], help="such as 128x256x32")
    parser.add_argument("--vocabulary", type=int, default=184_622)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    ways: dict[str, Loss] = {"F.cross_entropy (baseline)": plain}
    ways |= {f"reelmill, {rows} tokens a chunk": ours(rows) for rows in arguments.rows}
    tiles = [GRADIENTS, *(Tiles(*map(int, text.split("x"))) for text in arguments.tiles)]
    ways |= {f"reelmill, Triton {one.rows}x{one.columns}x{one.depth}": by_triton(one) for one in tiles}
    fused = liger() if arguments.device == "cuda" else None
    if fused is None:
        print("liger-kernel is not installed, or not on a GPU: not measured")
    else:
        ways["Liger"] = fused
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"{where}, V {arguments.vocabulary:,}, D {arguments.width:,}, bfloat16")
    print(f"{'':32} {'tokens':>8} {'ms':>9} {'TFLOP/s':>9} {'MB above':>12}")
    for tokens in arguments.tokens:
        for name, loss in ways.items():
            measure(name, loss, tokens, arguments.width, arguments.vocabulary, arguments.device)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
