"""Does training learn? Trains `tiny` on a run folder and prints the evidence.

    python bench/train_proof.py OUT --run RUN        on the documents of a curated run folder
    python bench/train_proof.py --run RUN            on made-up documents (`synthetic_run.py`)

Printed: validation NLL on held-out items, text and vision, beside the unigram entropy of the training items and beside
the same documents with their codes shuffled; in how many of 50 unconstrained tries every row has the length that the
prompt asks for; CPU time. Images drawn under the grammar are written to RUN/images.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from synthetic_run import write_run

from reelmill.config import override
from reelmill.errors import DataError
from reelmill.eval.generation import Request, SamplingParams, Studio, TokenSampling, continuations
from reelmill.tokenize.documents import generation_prompt, parse
from reelmill.train.checkpoint import load_decoder
from reelmill.train.data.corpus import Corpus
from reelmill.train.recipes import recipe
from reelmill.train.run import train

TRIES = 50
PROMPTS = 10


def heldout_prompts(corpus: Corpus) -> list[tuple[str, int, int]]:
    """(caption, h, w): every caption of a held-out image or video with the commonest sizes of the corpus."""
    visual = corpus.grid[:, 0] > 0
    held = [parse(corpus.vocab, tokens) for tokens in corpus.read(np.flatnonzero(corpus.heldout & visual))]
    captions = list(dict.fromkeys(document.caption for document in held))[:PROMPTS]
    sizes = Counter(map(tuple, corpus.grid[visual, 1:].tolist())).most_common(PROMPTS // len(captions))
    return [(caption, h, w) for (h, w), _ in sizes for caption in captions]


def right_rows(tokens: np.ndarray, h: int, w: int, eol: int) -> int:
    """How many of the h rows have exactly w codes before their EOL, counted up to the first that has not."""
    for row in range(h):
        line = tokens[row * (w + 1) : (row + 1) * (w + 1)]
        if len(line) < w + 1 or line[-1] != eol or (line[:-1] == eol).any():
            return row
    return h


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="a run folder; made-up documents without one")
    parser.add_argument("--run", type=Path, required=True, help="folder for the checkpoints, metrics and images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    args = parser.parse_args()
    data = args.data or args.run / "synthetic"
    if args.data is None and not data.exists():
        write_run(data)

    config = override(recipe("tiny"), args.set)
    began, cpu = time.monotonic(), time.process_time()
    checkpoint = train(config, [data], args.run)
    print(f"\ntrained in {time.process_time() - cpu:.0f} CPU-seconds, {time.monotonic() - began:.0f} s")

    lines = [json.loads(line) for line in (args.run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "validation" in line][-1]
    for kind in ("text", "vision"):
        nll, entropy = last["validation"][kind], last["unigram_entropy"][kind]
        print(f"{kind}: held-out NLL {nll:.3f}, unigram entropy of the training items {entropy:.3f}: {nll < entropy}")
    nll, shuffled = last["validation"]["vision"], last["vision_shuffled"]
    print(f"vision: held-out NLL {nll:.3f}, codes shuffled {shuffled:.3f}: {nll < shuffled}")

    model, vocab, state = load_decoder(checkpoint)
    prompts = heldout_prompts(Corpus([data], None, config.data))
    whole = rows = all_rows = 0
    for number, (caption, h, w) in enumerate(prompts):
        each = TRIES // len(prompts) + (number < TRIES % len(prompts))
        prompt = generation_prompt(vocab, caption, h, w)
        sampling = SamplingParams(text=TokenSampling(top_k=2048), seed=number)
        request = Request(prompt=prompt, max_new_tokens=h * (w + 1), stop_id=vocab.eos, sampling=sampling)
        tries = continuations(model, vocab, [replace(request, stream=stream) for stream in range(each)])
        right = [right_rows(tokens, h, w, vocab.eol) for tokens in tries]
        whole += sum(n == h for n in right)
        rows, all_rows = rows + sum(right), all_rows + h * each
    print(f"unconstrained: all rows right in {whole} of {TRIES} tries ({rows} of {all_rows} rows before a wrong one)")

    try:
        studio = Studio.open(checkpoint)
    except DataError as error:
        print(f"no images: {error}")
    else:
        (args.run / "images").mkdir(exist_ok=True)
        for number, (caption, h, w) in enumerate(prompts[:6]):
            path = args.run / "images" / f"{number}.png"
            Image.fromarray(studio.images([caption], h, w)[0]).save(path)
            print(f"{path}: {caption[:100]}")
    print(f"checkpoint: {checkpoint}, trained on the tokenizer {state.tokenizer[:12]}")


if __name__ == "__main__":
    main()
