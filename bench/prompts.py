"""What is saved by reading a prompt once for several pictures, and how much do the branches of guidance share?

    python bench/prompts.py [--count 4] [--side 20]

An edit of three pictures of SIDE x SIDE codes, guided by words and by pictures, is drawn COUNT times by a decoder of
random weights (float32, CPU): once with an engine for each, which reads all prompts itself, and once together. Printed
are the tokens that the prompts of guidance begin with alike, the cache of all rows, and CPU-seconds up to the first
token.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from reelmill.eval.generation import Engine, Request, SamplingParams, task_picture_request
from reelmill.tokenize.documents import Grammar, Header, Visual
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 16_384, EMU3_5)


def requests(count: int, side: int) -> list[Request]:
    """The same edit with `count` random streams."""
    rng = np.random.default_rng(0)
    pictures = [Visual(rng.integers(0, VOCAB.codes, (side, side))) for _ in range(3)]
    grammar, sampling = Grammar(VOCAB, one_block=True), SamplingParams(guidance=3.0, image_guidance=1.5)
    asked = "put them on one table"
    return [
        task_picture_request(grammar, "x2i", asked, Header(8, 8), pictures=pictures, sampling=sampling, stream=stream)
        for stream in range(count)
    ]


def drawn(model: Decoder, some: list[Request]) -> tuple[float, int, list[tuple[int, int]]]:
    """CPU-seconds of the first step, bytes of the cache, and all tokens with the numbers of their requests."""
    rows = sum(len(request.prompts) for request in some)
    engine = Engine(model, VOCAB, rows=rows, capacity=max(request.max_length for request in some))
    for number, request in enumerate(some):
        engine.submit(number, request)
    began = time.process_time()
    tokens = engine.step()
    seconds = time.process_time() - began
    while not engine.is_idle:
        tokens += engine.step()
    size = sum(buffer.nbytes for buffer in (*engine.cache.keys, *engine.cache.values))
    return seconds, size, [(sampled.request, sampled.token) for sampled in tokens]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--side", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(0)
    sizes = ModelConfig(vocab_size=VOCAB.size, hidden=192, layers=4, heads=4, kv_heads=2, head_dim=64, mlp=768)
    model = Decoder(sizes).eval().requires_grad_(False)
    some = requests(args.count, args.side)
    words, pictures, nothing = some[0].prompts
    for name, one, other in (("words and none", words, pictures), ("pictures and none", pictures, nothing)):
        length = min(len(one), len(other))
        alike = int(np.argmin(np.append(one[:length] == other[:length], False)))
        print(f"{name}: {alike} of {len(one):,} tokens alike")
    alone = [drawn(model, [request]) for request in some]
    seconds, size, tokens = drawn(model, some)
    for name, taken in (("alone", alone), ("together", [(seconds, size)])):
        took, cache = sum(one[0] for one in taken), sum(one[1] for one in taken)
        print(f"{name:9} {took:.2f} CPU-seconds to the first tokens, {cache >> 20} MiB")
    own = [[token for number, token in tokens if number == place] for place in range(args.count)]
    same = [[token for _, token in one[2]] for one in alone] == own
    print(f"the same tokens: {same}")


if __name__ == "__main__":
    main()
