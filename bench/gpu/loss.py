"""The loss on a GPU: ours beside the plain one and, where it is installed, Liger's fused kernel.

    python bench/gpu/loss.py [--width 4096] [--tokens 5120 16384 32768] [--rows 1024 2048 4096]

bfloat16, V = 184,622, forward and backward, the median of 5 after a warm-up. Prints milliseconds, TFLOP/s of the three
products (6 V D a token), and the peak above inputs and gradients. An implementation that runs out of memory is reported
as such. Ours and the plain one have weights per token; `LigerFusedLinearCrossEntropyLoss` has none.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reelmill.train.loss import ROWS, chunked_cross_entropy

VOCABULARY = 184_622
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return functional.cross_entropy((hidden @ weight.t()).float(), targets, reduction="none") @ weights


def ours(rows: int) -> Loss:
    return lambda *inputs: chunked_cross_entropy(*inputs, rows=rows)[0]


def liger() -> Loss | None:
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    except ImportError:
        return None
    fused = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return lambda hidden, weight, targets, _: fused(weight, hidden, targets)


def milliseconds(work: Callable[[], None], times: int = 5) -> float:
    work()
    taken = []
    for _ in range(times):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize()
        taken.append(start.elapsed_time(stop))
    return statistics.median(taken)


def measure(name: str, loss: Loss, tokens: int, width: int) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    make = {"device": "cuda", "dtype": torch.bfloat16}
    hidden = torch.randn(tokens, width, generator=generator, **make).requires_grad_()
    weight = torch.randn(VOCABULARY, width, generator=generator, **make).mul_(0.02).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (tokens,), generator=generator, device="cuda")
    weights = torch.ones(tokens, device="cuda")

    def work() -> None:
        hidden.grad = weight.grad = None
        loss(hidden, weight, targets, weights).backward()

    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    try:
        taken = milliseconds(work)
    except torch.cuda.OutOfMemoryError:
        print(f"{name:32} {tokens:8,} does not fit")
        return
    gradients = 2 * (hidden.numel() + weight.numel())
    above = (torch.cuda.max_memory_allocated() - held - gradients) / 1e6
    rate = 6 * VOCABULARY * width * tokens / taken / 1e9
    print(f"{name:32} {tokens:8,} {taken:9.1f} {rate:9.0f} {above:12,.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--tokens", type=int, nargs="*", default=[5120, 16_384, 32_768])
    parser.add_argument("--rows", type=int, nargs="*", default=[ROWS["cuda"] // 2, ROWS["cuda"], 2 * ROWS["cuda"]])
    arguments = parser.parse_args()
    ways: dict[str, Loss] = {"F.cross_entropy (baseline)": plain}
    ways |= {f"reelmill, {rows} tokens a chunk": ours(rows) for rows in arguments.rows}
    fused = liger()
    if fused is None:
        print("liger-kernel is not installed: not measured")
    else:
        ways["Liger"] = fused
    print(f"{torch.cuda.get_device_name()}, V {VOCABULARY:,}, D {arguments.width:,}, bfloat16")
    print(f"{'':32} {'tokens':>8} {'ms':>9} {'TFLOP/s':>9} {'MB above':>12}")
    for tokens in arguments.tokens:
        for name, loss in ways.items():
            measure(name, loss, tokens, arguments.width)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
