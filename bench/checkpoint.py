"""How long does a checkpoint block training? Written in the background, against waiting for the disk.

    python bench/checkpoint.py [--rounds 3] [--folder /tmp]

A decoder of 60 million parameters with AdamW's state, 0.7 GB on one process. Baseline: torch's distributed checkpoint
of the same tensors by the same writer, synchronously. Prints the median seconds of each, measured alternately, their
ratio, and the CPU-seconds of a whole checkpoint.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from reelmill.train.checkpoint import RunState, optimizer_tensors
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig, make_optimizer
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder
from reelmill.train.saver import CheckpointConfig, Saver

MODEL = ModelConfig(vocab_size=32_768, hidden=512, layers=8, heads=8, kv_heads=4, mlp=1_408)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=arguments.folder))
    held: dict[str, list[float]] = {"waited for": [], "in the background": []}
    cpu: dict[str, list[float]] = {name: [] for name in held}
    with join_ranks("cpu") as ranks:
        layout = Layout.of(ParallelConfig(), MODEL, 64, ranks)
        model = sharded_decoder(MODEL, layout, "float32", 0)
        optimizer = make_optimizer(model, OptimizerConfig())
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        saver = Saver(place / "background", CheckpointConfig(keep=1), ranks)
        for number in range(arguments.rounds):
            began, used = time.monotonic(), time.process_time()
            for name, tensors in (("model", model.state_dict()), ("optimizer", optimizer_tensors(model, optimizer))):
                writer = HuggingFaceStorageWriter(str(place / "waited" / name), save_distributed=True)
                state_dict_saver.save(tensors, storage_writer=writer)
            held["waited for"].append(time.monotonic() - began)
            cpu["waited for"].append(time.process_time() - used)
            shutil.rmtree(place / "waited")

            began, used = time.monotonic(), time.process_time()
            state = RunState(step=number + 1, recipe={}, data="", version="")
            saver.save(state, {"model": model.state_dict(), "optimizer": optimizer_tensors(model, optimizer)})
            held["in the background"].append(time.monotonic() - began)
            saver.wait()
            cpu["in the background"].append(time.process_time() - used)
        size = sum(path.stat().st_size for path in place.rglob("*.safetensors"))
        saver.close()
    shutil.rmtree(place)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters, {size / 1e9:.2f} GB a checkpoint")
    for name, seconds in held.items():
        print(
            f"{name:20} training stands {statistics.median(seconds):6.2f} s   CPU {statistics.median(cpu[name]):6.2f} s"
        )
    waited, background = (statistics.median(seconds) for seconds in held.values())
    print(f"ratio {background / waited:.3f}")


if __name__ == "__main__":
    main()
