"""What do pictures and clips cost with Emu3's tokenizer, here and in transformers? Same configuration, same weights.

    python bench/tokenizer.py [--side 128] [--channels 256] [--encode] [--rounds 1]

Baseline: transformers' `Emu3VQVAE` as it is fastest on a CPU (evaluation and inference mode, float32, frames as one
batch). Random weights of Emu3's configuration (270,740,287 parameters at --channels 256) are written once as a folder,
which both load, each in a process of its own with one thread. Prints, after a small warm-up, frames a CPU-second of
encoding a picture, encoding a clip of 4 frames and decoding one; what the process holds once the model is loaded, and
its peak in each task; and whether codes and pixels are the same. `--encode` leaves decoding out. With several rounds
the two take turns, and the least CPU time and the highest peak of each count.
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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelmill.compat import torchvision
from reelmill.tokenize.vision import evaluate, load

TASKS = {"encode a picture": 1, "encode a clip": 4, "decode a clip": 4}
"""The number of frames of each."""


def write_model(folder: Path, channels: int) -> None:
    torchvision()  # transformers imports it
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    torch.manual_seed(0)
    model = Emu3VQVAE(Emu3VQVAEConfig(base_channels=channels, hidden_size=4 * channels))
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)
    model.save_pretrained(folder)


def moving_noise(side: int) -> np.ndarray:
    """[4, side, side, 3] uint8."""
    noise = torch.rand(1, 3, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(1))
    clip = torch.nn.functional.interpolate(noise, size=(4, side, side), mode="trilinear")[0]
    return (clip * 255).round().byte().permute(1, 2, 3, 0).contiguous().numpy()


def ours(folder: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    tokenizer = load(folder)
    return {
        "encode a picture": lambda clip: tokenizer.encode_image(clip[0]),
        "encode a clip": tokenizer.encode,
        "decode a clip": tokenizer.decode,
    }


def theirs(folder: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    torchvision()
    from transformers import Emu3VQVAE

    model = Emu3VQVAE.from_pretrained(folder, dtype=torch.float32).eval()
    for tensor in model.state_dict().values():
        tensor.sum()  # the file is memory-mapped: read all of it now, as this package does

    def encode(pixels: torch.Tensor) -> np.ndarray:
        # `image_sizes` would cut clips in time and height; this size cuts nothing.
        return model.encode(pixel_values=pixels, image_sizes=torch.tensor([[4096, 4096]])).image_tokens[0].numpy()

    def normal(clip: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1

    def decode(codes: np.ndarray) -> np.ndarray:
        frames = model.decode(torch.from_numpy(codes).long()[None])[0].clamp(-1, 1)
        return ((frames + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()

    return {
        "encode a picture": lambda clip: encode(normal(clip[:1])),
        "encode a clip": lambda clip: encode(normal(clip)[None]),
        "decode a clip": decode,
    }


def megabytes(field: str) -> int:
    """A field of /proc/self/status: VmRSS is what is held, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1000 for line in lines if line.startswith(field))


def measure(side: int, names: list[str], make: Callable[[Path], dict[str, Any]], folder: Path, results: Path) -> None:
    """Each task of `names` once, after all of them on a small clip."""
    torch.set_num_threads(1)
    costs, made = {}, {}
    with torch.inference_mode():
        tasks = make(folder)
        costs["loaded MB"] = megabytes("VmRSS")
        for size in (32, side):
            codes = np.random.default_rng(0).integers(0, 32768, (1, size // 8, size // 8), dtype=np.int32)
            for name in names:
                given = codes if name == "decode a clip" else moving_noise(size)
                Path("/proc/self/clear_refs").write_text("5")  # reset the peak
                start = time.process_time()
                made[name] = tasks[name](given)
                costs[name] = time.process_time() - start
                costs[f"{name}, peak MB"] = megabytes("VmHWM")
    np.savez(results, **made)
    print(json.dumps(costs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128, help="of the frames, in pixels; a multiple of 8")
    parser.add_argument("--channels", type=int, default=256, help="width of the finest level; a multiple of 32")
    parser.add_argument("--encode", action="store_true", help="do not decode")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = list(TASKS)[:2] if arguments.encode else list(TASKS)
    if arguments.child:
        kind, folder, results = arguments.child
        measure(arguments.side, names, {"ours": ours, "theirs": theirs}[kind], Path(folder), Path(results))
        return
    with tempfile.TemporaryDirectory() as place:
        write_model(Path(place), arguments.channels)
        kinds = ("theirs", "ours")
        turns = [[child(kind, Path(place), sys.argv[1:]) for kind in kinds] for _ in range(arguments.rounds)]
    (_, theirs_made), (_, ours_made) = turns[0]
    report(*(best([turn[i][0] for turn in turns]) for i in range(2)))
    for name in ("encode a picture", "encode a clip"):
        equal = np.mean(ours_made[name].squeeze() == theirs_made[name].squeeze())
        print(f"{name}: {equal:.2%} of {ours_made[name].size} codes equal")
    if arguments.encode:
        return
    print(
        f"decode a clip: PSNR between the two {evaluate.psnr(*(m['decode a clip'] for m in (ours_made, theirs_made)))}"
    )


def child(kind: str, folder: Path, options: list[str]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Run this script as a process that measures one of the two; returns the cost and the output."""
    results = folder / f"{kind}.npz"
    command = [sys.executable, __file__, *options, "--child", kind, str(folder), str(results)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    with np.load(results) as made:
        return json.loads(done.stdout.splitlines()[-1]), dict(made)


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The minimum of each figure over the rounds; the maximum for memory."""
    return {name: (max if "MB" in name else min)(costs[name] for costs in rounds) for name in rounds[0]}


def report(baseline: dict[str, float], own: dict[str, float]) -> None:
    print(f"{'':18} {'Emu3VQVAE, frames/CPU-s':>24} {'reelmill':>9} {'ratio':>6} {'peak MB':>8} {'reelmill':>9}")
    for name in [name for name in TASKS if name in own]:
        frames = TASKS[name]
        speeds = f"{frames / baseline[name]:24.3f} {frames / own[name]:9.3f} {baseline[name] / own[name]:6.2f}"
        print(f"{name:18} {speeds} {baseline[name + ', peak MB']:8} {own[name + ', peak MB']:9}")
    print(f"held once the model is loaded: {baseline['loaded MB']} MB, reelmill {own['loaded MB']} MB")


if __name__ == "__main__":
    main()
