"""Drawing on one GPU: tokens a second of recipe `small` beside transformers; the seconds of Emu3's 720 x 720 picture.

    python bench/gpu/generate.py [--images 4] [--height 24] [--width 29] [--side 90] [--skip-peer] [--skip-large]
        [--rate 4.8e12] [--weights int8]

Random weights, bfloat16, guidance 3 (two rows a picture), top-k 2,048, Emu3's constraint. Steps are plain, replayed as
CUDA graphs, and compiled and replayed; of each the first time, with capturing and compiling, and the second. The peer
is that of bench/generate.py, plain and compiled (its own `torch.compile` of a static cache's step). The large part
draws SIDE x SIDE codes with the 8.5 billion parameters of recipe `emu3_stage1` (published for Emu3: 260 s, and 68 s in
FlagScale); `--weights` keeps its projections in one byte. Beside each measurement stands the floor: the bytes that its
passes read, weights and cache, over the memory's RATE in bytes a second (by default an H200's). The vision tokenizer's
decoding is not in the times. `--device cpu` only tries the script out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from reelmill.eval.generation import Engine, Request, SamplingParams, TokenSampling, image_request
from reelmill.eval.generation.floor import cache_bytes, weight_bytes
from reelmill.eval.generation.weight_types import QUANTIZED, quantize
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.hub import export_model
from reelmill.train.model import Decoder
from reelmill.train.recipes import recipe

CAPTIONS = ("a windmill turning on a hill", "two boats", "a red fox in the snow, at dusk", "a harbour")
MODES = {
    "plain steps": {"static": False},
    "CUDA graphs": {"static": True},
    "compiled, CUDA graphs": {"compile": True},
}


def random_decoder(name: str, vocab: Vocabulary, device: str) -> Decoder:
    config = recipe(name).model
    config.vocab_size = vocab.size
    with torch.device("meta"):
        model = Decoder(config)
    model = model.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02) if parameter.ndim > 1 else torch.nn.init.ones_(parameter)
    return model


def seconds_of(job, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    job()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(
    name: str, model: Decoder, vocab: Vocabulary, requests: list[Request], device: str, modes: list[str], rate: float
) -> None:
    tokens = sum(request.max_new_tokens for request in requests)
    rows = sum(len(request.prompts) for request in requests)
    for mode in modes:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        capacity = max(request.max_length for request in requests)
        engine = Engine(model, vocab, rows=rows, capacity=capacity, **MODES[mode])

        def draw(engine: Engine = engine) -> None:
            for number, request in enumerate(requests):
                engine.submit(number, request)
            while not engine.is_idle:
                engine.step()

        first, passes = seconds_of(draw, device), engine.passes
        second, passes = seconds_of(draw, device), engine.passes - passes
        floor = (passes * weight_bytes(model, vocab) + cache_bytes(model, requests)) / rate
        peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
        print(
            f"{name}, {mode:24} first {first:8.2f} s, then {second:8.2f} s, {tokens / second:8.1f} tokens/s, "
            f"{peak:.1f} GiB; reading alone {floor:.2f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--large", default="emu3_stage1")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--height", type=int, default=24)
    parser.add_argument("--width", type=int, default=29)
    parser.add_argument("--side", type=int, default=90)
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--skip-large", action="store_true")
    parser.add_argument("--skip-compile", action="store_true")
    parser.add_argument("--rate", type=float, default=4.8e12)
    parser.add_argument("--weights", choices=QUANTIZED)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    if args.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    modes = [mode for mode in MODES if not (args.skip_compile and "compiled" in mode)]
    vocab = Vocabulary("qwen", 32_768)
    grammar = Grammar(vocab, one_block=True)
    sampling = SamplingParams(vision=TokenSampling(top_k=2048), guidance=3.0)

    def requests(images: int, h: int, w: int) -> list[Request]:
        captions = [CAPTIONS[number % len(CAPTIONS)] for number in range(images)]
        return [image_request(grammar, text, h, w, sampling=sampling, stream=n) for n, text in enumerate(captions)]

    small = random_decoder(args.recipe, vocab, args.device)
    asked = requests(args.images, args.height, args.width)
    measured = f"{args.recipe}, {args.images} x {args.height} x {args.width}"
    measure(measured, small, vocab, asked, args.device, modes, args.rate)
    if not args.skip_peer:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from generate import Emu3ForCausalLM, theirs  # that of bench/, which needs transformers

        with tempfile.TemporaryDirectory() as folder:
            export_model(small, vocab, Path(folder), layout="emu3")
            peer = Emu3ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(args.device).eval()
        for compiled in (False,) if args.skip_compile else (False, True):
            first, second = (
                seconds_of(
                    lambda compiled=compiled: theirs(peer, asked, grammar, args.height, args.width, compiled=compiled),
                    args.device,
                )
                for _ in range(2)
            )
            tokens = sum(request.max_new_tokens for request in asked)
            print(
                f"transformers, {'compiled' if compiled else 'plain'}: first {first:.2f} s, then {second:.2f} s, "
                f"{tokens / second:.1f} tokens/s",
                flush=True,
            )
        del peer
    del small
    if not args.skip_large:
        large = random_decoder(args.large, vocab, args.device)
        if args.weights:
            quantize(large, args.weights)
        measured = f"{args.large} {args.weights or ''}, 1 x {args.side} x {args.side}"
        measure(measured, large, vocab, requests(1, args.side, args.side), args.device, modes, args.rate)


if __name__ == "__main__":
    main()
