"""Image tokens per CPU-second, compared with transformers' `generate`.

    python bench/generate.py [--recipe small] [--images 4] [--height 24] [--width 29] [--guidance 3] [--json]

Random weights of a recipe's model, the same in both; images of HEIGHT rows of WIDTH codes under Emu3's constraint, with
guidance (conditional and unconditional rows in one batch), top-k 2,048, float32. The peer is `Emu3ForCausalLM.generate`
at its best: static cache, batched guidance and the constraint as one vectorised logits processor (its own
`guidance_scale` runs the unconditional rows in a second pass, its own `prefix_allowed_tokens_fn` builds Python lists of
32,768 ids a row). `--check` also compares the greedy tokens of both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from beside import Row, print_json

from reelmill.compat import torchvision
from reelmill.eval.generation import SamplingParams, TokenSampling, continuations, image_request
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.hub import export_model
from reelmill.train.model import Decoder
from reelmill.train.recipes import recipe

torchvision()
from transformers import Emu3ForCausalLM, LogitsProcessor, LogitsProcessorList  # noqa: E402

CAPTIONS = ("a windmill turning on a hill", "two boats", "a red fox in the snow, at dusk", "a harbour")


class GuidedImage(LogitsProcessor):
    """Guidance over (conditional, unconditional) halves of the batch, Emu3's constraint, top-k and the draw itself.

    Both halves get the same scores with the drawn id on top, so that a greedy `generate` goes on with it.
    """

    def __init__(self, vocab: Vocabulary, start: int, h: int, w: int, how: TokenSampling, guidance: float) -> None:
        self.vocab, self.start, self.h, self.w, self.how, self.guidance = vocab, start, h, w, how, guidance

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        vocab, offset, row = self.vocab, input_ids.shape[1] - self.start, self.w + 1
        forced = {self.h * row: vocab.eof, self.h * row + 1: vocab.eoi, self.h * row + 2: vocab.eos}
        chosen = torch.full_like(scores, -torch.inf)
        if offset in forced or offset % row == self.w:
            chosen[:, forced.get(offset, vocab.eol)] = 0
            return chosen
        half = len(scores) // 2
        codes = scores[:, vocab.vision_start : vocab.vision_stop]
        guided = codes[half:] + self.guidance * (codes[:half] - codes[half:])
        if self.how.temperature:
            top, ids = guided.topk(self.how.top_k, dim=-1)
            drawn = ids.gather(1, torch.multinomial((top / self.how.temperature).softmax(-1), 1))
        else:
            drawn = guided.argmax(-1, keepdim=True)
        return chosen.scatter_(1, drawn.repeat(2, 1) + vocab.vision_start, 0.0)


def theirs(
    model: Emu3ForCausalLM, requests: list, grammar: Grammar, h: int, w: int, *, compiled: bool = False
) -> np.ndarray:
    """Tokens [images, n] of the peer."""
    vocab, sampling = grammar.vocab, requests[0].sampling
    prompts = [np.asarray(r.prompt) for r in requests] + [np.asarray(r.unconditional) for r in requests]
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), vocab.pad)
    seen = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.from_numpy(prompt)
        seen[row, longest - len(prompt) :] = 1
    processor = GuidedImage(vocab, longest, h, w, sampling.vision, sampling.guidance)
    out = model.generate(
        input_ids=ids.to(model.device), attention_mask=seen.to(model.device), do_sample=False,
        max_new_tokens=requests[0].max_new_tokens, eos_token_id=vocab.eos,
        pad_token_id=vocab.pad, cache_implementation="static", disable_compile=not compiled,
        logits_processor=LogitsProcessorList([processor]),
    )  # fmt: skip
    return out[: len(requests), longest:].cpu().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--height", type=int, default=24)
    parser.add_argument("--width", type=int, default=29)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--check", action="store_true", help="draw the likeliest tokens and compare them")
    parser.add_argument("--json", action="store_true", help="rows beside peers as the last line")
    args = parser.parse_args()
    torch.manual_seed(0)
    vocab = Vocabulary("qwen", 32_768)
    ours = Decoder(recipe(args.recipe).model).eval()
    for parameter in ours.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    with tempfile.TemporaryDirectory() as folder:
        export_model(ours, vocab, Path(folder), layout="emu3", dtype=torch.float32)
        peer = Emu3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    grammar = Grammar(vocab, one_block=True)
    draw = TokenSampling(temperature=0.0) if args.check else TokenSampling(top_k=2048)
    sampling = SamplingParams(vision=draw, guidance=args.guidance)
    captions = [CAPTIONS[number % len(CAPTIONS)] for number in range(args.images)]
    requests = [
        image_request(grammar, caption, args.height, args.width, sampling=sampling, stream=stream)
        for stream, caption in enumerate(captions)
    ]
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    print(
        f"{args.recipe}: {parameters:,} parameters, {args.images} images of {args.height} x {args.width} codes, "
        f"guidance {args.guidance:g}, {torch.get_num_threads()} threads",
        flush=True,
    )
    tokens, rates = {}, {}
    jobs = {
        "peer: Emu3ForCausalLM.generate": lambda: theirs(peer, requests, grammar, args.height, args.width),
        "ours": lambda: np.stack(continuations(ours, vocab, requests)),
    }
    for name, job in jobs.items():
        began = time.process_time()
        tokens[name] = job()
        seconds = time.process_time() - began
        rates[name] = tokens[name].size / seconds
        print(
            f"{name:32} {tokens[name].size:6} tokens {seconds:8.1f} CPU-s {rates[name]:8.1f} tokens/CPU-s", flush=True
        )
    one, other = tokens.values()
    print(f"ours draws {rates['ours'] / rates['peer: Emu3ForCausalLM.generate']:.2f} x as many tokens a CPU-second")
    if args.check:
        print(f"the same tokens: {(one == other).mean():.2%}")
    if args.json:
        theirs_s, ours_s = (1000 / rate for rate in rates.values())
        print_json([Row("drawing pictures", "transformers' generate", "CPU-s a thousand tokens", ours_s, theirs_s)])


if __name__ == "__main__":
    main()
