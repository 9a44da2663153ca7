"""How many passes and how much CPU time does exact parallel decoding take, beside plain decoding?

    python bench/parallel.py WORK [--windows 1 4 8 16] [--rows 1 4 16] [--pictures 16] [--json]

The model is that of `bench/scenes.py` (made in WORK where it is not there): pictures of 6 x 6 codes with structure, so
that the next codes can be guessed. For each window and number of pictures at a time: forward passes a picture, CPU
seconds a picture, both also as ratios to plain decoding (window 1) in the same run, and the share of pictures that
obey their captions. The law of the pictures is the same in every row (`tests/eval/test_exact_parallel.py`).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from scenes import GRID, base_model, every, read, write_world

from reelmill.eval.generation import SamplingParams, Studio, TokenSampling, image_request
from reelmill.eval.generation.engine import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--pictures", type=int, default=27)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    studio = Studio.open(base_model(arguments.work / "base", write_world(arguments.work / "world")))
    table = []
    for rows in arguments.rows:
        plain = None
        for window in arguments.windows:
            measured = measure(studio, window, rows, arguments.pictures, arguments.temperature)
            plain = plain or measured
            row = {
                "at_a_time": rows,
                "window": window,
                **measured,
                "passes_ratio": plain["passes"] / measured["passes"],
                "cpu_ratio": plain["cpu_s"] / measured["cpu_s"],
            }
            table.append(row)
            if not arguments.json:
                print(
                    f"{rows:3} at a time, window {window:3}: {row['passes']:7.1f} passes "
                    f"({row['passes_ratio']:.2f}x fewer), {row['cpu_s']:.4f} CPU-s a picture "
                    f"({row['cpu_ratio']:.2f}x less), captions obeyed {row['obeyed']:.0%}",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps(table, indent=2))


def measure(studio: Studio, window: int, rows: int, pictures: int, temperature: float) -> dict[str, float]:
    """Passes (of a batch, shared by its pictures) and CPU seconds a picture, and the share that obeys its caption."""
    scenes = [every()[number % len(every())] for number in range(pictures)]
    sampling = SamplingParams(vision=TokenSampling(temperature=temperature), seed=1)
    requests = [
        image_request(studio.visual_grammar, scene.caption, GRID, GRID, sampling=sampling, stream=stream)
        for stream, scene in enumerate(scenes)
    ]
    longest = max(request.max_length for request in requests)
    engine = Engine(studio.model, studio.vocab, rows=rows, capacity=longest, window=window)
    for number, request in enumerate(requests):
        engine.submit(number, request)
    tokens: list[list[int]] = [[] for _ in requests]
    began = time.process_time()
    while not engine.is_idle:
        for event in engine.step():
            tokens[event.request].append(event.token)
    cpu_s = time.process_time() - began
    obeyed = 0
    for scene, ids in zip(scenes, tokens, strict=True):
        codes = [token - studio.vocab.vision_start for token in ids if token >= studio.vocab.vision_start]
        picture = studio.vision.decode_image(torch.tensor(codes).reshape(GRID, GRID).int().numpy())
        obeyed += read(picture).names == scene.names
    return {"passes": engine.passes / pictures, "cpu_s": cpu_s / pictures, "obeyed": obeyed / pictures}


if __name__ == "__main__":
    main()
