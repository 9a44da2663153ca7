"""What does encoding cost with the shipped tokenizers on a CPU, in float32 and in whole numbers, and what is lost?

    python bench/encode.py [--names reelmill-tok-s reelmill-tok16-s] [--sides 256 512] [--frames 16] [--rounds 5]
        [--base CHECKOUT] [--json]

The first frames of bigbuckbunny.mp4 (`reelmill models list`), resized to a square. Each way is a process of its own
with one thread, and they take turns; the least CPU time of the rounds counts, loading left out. `--base` measures
another checkout's float32 among them. Codes are compared with float32's, and PSNR is that of what the decoder makes of
them: two videos and two photographs that no tokenizer was trained on, at an area of 256 x 256 pixels.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from beside import print_figures

from reelmill import weights
from reelmill.tokenize.vision import Codes, Frames, VisionTokenizer, evaluate, load
from reelmill.train.vision.media import MediaFile, read_picture, read_video

MEDIA = ("bigbuckbunny", "carphone", "flower", "rocket")


def media(name: str, area: int, limit: int) -> Frames:
    """Frames [T, H, W, 3] of a file, sides multiples of 16."""
    path = weights.path(f"media-{name}")
    side = round(area**0.5)
    file = MediaFile(path)
    frames = read_video(file, side, limit=limit) if path.suffix == ".mp4" else read_picture(file, side)
    return evaluate.fit(frames, area, 16)


def measure(name: str, side: int, count: int) -> float:
    """CPU-seconds of a frame, after a first call."""
    import cv2

    torch.set_num_threads(1)
    frames = np.stack([cv2.resize(frame, (side, side)) for frame in media("bigbuckbunny", 256**2, count)])
    tokenizer = load(name)
    tokenizer.encode(frames[:4])
    start = time.process_time()
    tokenizer.encode(frames)
    return (time.process_time() - start) / len(frames)


def child(name: str, side: int, count: int, checkout: str) -> float:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--child", name, str(side), str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": checkout}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def speeds(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """CPU-milliseconds of a frame by tokenizer and side; and how many times as fast as the first of each is."""
    here = str(Path(__file__).resolve().parent.parent)
    found: dict[str, dict[str, float]] = {}
    for name in arguments.names:
        for side in arguments.sides:
            ways = {f"{name}": (name, here), f"{name}-int8": (f"{name}-int8", here)}
            if arguments.base:
                ways = {f"{name}, base": (name, arguments.base), **ways}
            turns = [
                {way: child(which, side, arguments.frames, checkout) for way, (which, checkout) in ways.items()}
                for _ in range(arguments.rounds)
            ]
            least = {way: min(turn[way] for turn in turns) for way in ways}
            first = next(iter(least.values()))
            for way, seconds in least.items():
                found[f"{way}, {side}x{side}"] = {"ms a frame": 1000 * seconds, "times as fast": first / seconds}
    return found


def encode(tokenizer: VisionTokenizer, frames: Frames) -> Codes:
    return tokenizer.encode(frames) if len(frames) > 1 else tokenizer.encode_image(frames[0])[None]


def losses(names: list[str]) -> dict[str, dict[str, float]]:
    """By tokenizer and file: the share of equal codes, PSNR of float32 and what is lost to whole numbers, in dB."""
    found = {}
    for name in names:
        plain, whole = load(name), load(f"{name}-int8")
        for file in MEDIA:
            frames = media(file, 256**2, 12)
            codes = [encode(tokenizer, frames) for tokenizer in (plain, whole)]
            psnr, other = (evaluate.psnr(frames, plain.decode(some, frames.shape[:3])) for some in codes)
            equal = 100 * float(np.mean(codes[0] == codes[1]))
            found[f"{name}, {file}"] = {"% equal": equal, "dB": psnr, "dB lost": psnr - other}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=["reelmill-tok-s", "reelmill-tok16-s"])
    parser.add_argument("--sides", nargs="+", type=int, default=[256, 512])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--base", metavar="CHECKOUT", help="a checkout to compare with")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, side, count = arguments.child
        print(measure(name, int(side), int(count)))
        return
    torch.set_num_threads(1)
    print_figures(speeds(arguments) | losses(arguments.names), arguments.json, decimals=3)


if __name__ == "__main__":
    main()
