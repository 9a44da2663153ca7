"""Speed of stories of text and pictures, compared with transformers on the same small random weights.

    python bench/interleaved.py [--hidden 192] [--layers 4] [--pictures 3] [--side 10] [--words 16] [--check]

Emu3.5's vocabulary of 282,926 ids and its task `story`, guidance 3 on codes alone (text is not guided), the preset's
top-k and top-p, float32 on the CPU. Random weights never begin a picture by themselves, so both follow a timetable: so
many text tokens, then a picture of a given size, and so on. The peer is `Qwen3ForCausalLM.generate` on the exported
folder, as Emu3.5's released inference uses its own class: its cache, and a logits processor that runs the
unconditional branch in a pass of its own with a cache of its own, only where codes are due, and samples from the
allowed ids alone. `--check` takes the likeliest tokens of both and compares them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList, Qwen3ForCausalLM

from reelmill.eval.generation import PRESETS, Request, TokenSampling, continuations, task_request
from reelmill.eval.generation.request import single_id
from reelmill.eval.generation.sampling import sample
from reelmill.tokenize.documents import Grammar, Header, State
from reelmill.tokenize.documents.grammar import Phase, Ranges
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.hub import export_model
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("qwen", 131_072, EMU3_5)


class Timetable(Grammar):
    """The grammar of answers of `words` text tokens and a picture by turns, `pictures` times, after `prompt` tokens."""

    def __init__(self, vocab: Vocabulary, size: Header, prompt: int, words: int, pictures: int) -> None:
        super().__init__(vocab, header=size)
        block = 3 + len(vocab.tokenizer.encode(size.text)) + vocab.layout.frame_tokens(size.h, size.w)
        self.prompt, self.words, self.turn, self.pictures = prompt, words, words + block, pictures

    @property
    def tokens(self) -> int:
        """Of an answer, with ESS and EOS."""
        return self.turn * self.pictures + 2

    def allowed(self, state: State) -> Ranges:
        """What the timetable leaves of what the grammar allows."""
        if state.phase != Phase.TEXT or not state.in_answer:
            return super().allowed(state)
        turns, at = divmod(state.position - self.prompt, self.turn)
        if turns == self.pictures:
            return ((self.vocab.ess, self.vocab.ess + 1),)
        return ((0, self.vocab.text_size),) if at < self.words else ((self.vocab.boi, self.vocab.boi + 1),)


class GuidedStory(LogitsProcessor):
    """Guidance, the timetable, top-k, top-p and the draw; a single sequence."""

    def __init__(self, model: Qwen3ForCausalLM, request: Request, grammar: Timetable) -> None:
        self.model, self.request, self.grammar = model, request, grammar
        assert request.unconditional is not None
        self.unread = torch.from_numpy(np.asarray(request.unconditional, dtype=np.int64))[None]
        self.cache = None
        self.state: State | None = None
        self.random = np.random.default_rng(request.sampling.seed)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Zero at the id that is drawn, minus infinity elsewhere."""
        if self.state is None:
            self.state = self.grammar.advance_all(self.grammar.start(), ids[0].tolist())
        else:
            token = int(ids[0, -1])
            self.state = self.grammar.advance(self.state, token)
            self.unread = torch.cat((self.unread, ids[:, -1:]), dim=1)
        ranges, sampling = self.grammar.allowed(self.state), self.request.sampling
        chosen = single_id(ranges)
        if chosen is None:
            start, stop = ranges[0]
            is_vision = start >= self.grammar.vocab.vision_start
            logits = scores[:, start:stop].float()
            if is_vision:
                other = self._unconditional()[:, start:stop].float()
                logits = other + sampling.guidance * (logits - other)
            uniform = torch.tensor([self.random.random(dtype=np.float32)])
            chosen = start + int(sample(logits, sampling.vision if is_vision else sampling.text, uniform))
        drawn = torch.full_like(scores, -torch.inf)
        drawn[0, chosen] = 0.0
        return drawn

    def _unconditional(self) -> torch.Tensor:
        """The other branch's logits after all that is unread, read in one pass."""
        out = self.model(input_ids=self.unread, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache, self.unread = out.past_key_values, self.unread[:, :0]
        return out.logits[:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("hidden", 192), ("layers", 4), ("pictures", 3), ("side", 10), ("words", 16)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--check", action="store_true", help="take the likeliest tokens and compare them")
    args = parser.parse_args()
    torch.manual_seed(0)
    sizes = ModelConfig(
        vocab_size=VOCAB.size, hidden=args.hidden, layers=args.layers, heads=4, kv_heads=2, head_dim=64,
        mlp=4 * args.hidden, qk_norm=True, norm_eps=1e-6, dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    ours = Decoder(sizes).eval()
    for parameter in ours.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    with tempfile.TemporaryDirectory() as folder:
        export_model(ours, VOCAB, Path(folder), layout="qwen3", dtype=torch.float32)
        peer = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sampling = PRESETS["emu3.5-story"].sampling
    if args.check:
        greedy = TokenSampling(temperature=0.0)
        sampling = replace(sampling, vision=greedy, text=greedy)
    asked = task_request(Grammar(VOCAB), "story", "A fox builds a raft.", 1, sampling=sampling)
    prompt = asked.prompts[0]
    grammar = Timetable(VOCAB, Header(args.side, args.side), len(prompt), args.words, args.pictures)
    request = replace(asked, grammar=grammar, max_new_tokens=grammar.tokens)

    def theirs() -> np.ndarray:
        steps = LogitsProcessorList([GuidedStory(peer, request, grammar)])
        out = peer.generate(
            input_ids=torch.from_numpy(prompt)[None], attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            do_sample=False, max_new_tokens=grammar.tokens, eos_token_id=VOCAB.eos, pad_token_id=VOCAB.pad,
            logits_processor=steps,
        )  # fmt: skip
        return out[0, len(prompt) :].numpy()

    parameters = sum(parameter.numel() for parameter in ours.parameters())
    print(
        f"{parameters:,} parameters, {args.pictures} pictures of {args.side} x {args.side} codes, {args.words} words "
        f"before each, guidance {sampling.guidance:g}, {torch.get_num_threads()} threads",
        flush=True,
    )
    tokens, rates = {}, {}
    for name, job in {
        "peer: Qwen3ForCausalLM.generate": theirs,
        "ours": lambda: continuations(ours, VOCAB, [request])[0],
    }.items():
        began = time.process_time()
        with torch.inference_mode():
            tokens[name] = job()
        seconds = time.process_time() - began
        rates[name] = len(tokens[name]) / seconds
        print(
            f"{name:32} {len(tokens[name]):6} tokens {seconds:8.1f} CPU-s {rates[name]:8.1f} tokens/CPU-s", flush=True
        )
    one, other = tokens.values()
    print(f"ours draws {rates['ours'] / rates['peer: Qwen3ForCausalLM.generate']:.2f} x as many tokens a CPU-second")
    if args.check:
        print(f"the same tokens: {(one == other).mean():.2%}")


if __name__ == "__main__":
    main()
