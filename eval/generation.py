"""Drawing from a trained model: tokens after a prompt, an image from a caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.documents import Grammar, State, generation_prompt, parse
from reelmill.tokenize.vision import load, load_by_fingerprint
from reelmill.train.checkpoint import load_decoder
from reelmill.train.model import Decoder, KVCache

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. `temperature` 0 takes the likeliest; `top_k` 0 lets all ids stand.

    The defaults are those of Emu3's released image generation.
    """

    temperature: float = 1.0
    top_k: int = 2048
    seed: int = 0

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        if not self.temperature >= 0:
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 (the likeliest token) or more.")
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}; it must be 0 (all tokens) or more.")


@torch.no_grad()
def generate(
    model: Decoder,
    prompt: npt.ArrayLike,
    most: int,
    *,
    end: int,
    count: int = 1,
    sampling: Sampling | None = None,
    grammar: Grammar | None = None,
) -> list[Ids]:
    """`count` continuations of the prompt (int [n]), at most `most` tokens each, closed by `end` where it was drawn.

    With a `grammar` only what it allows is drawn: one that reaches `end` (EOS) makes a well-formed document. The
    same seed gives the same continuations. Raises DocumentError for a prompt that the grammar refuses.
    """
    sampling = sampling or Sampling()
    sampling.check()
    ids = torch.as_tensor(np.asarray(prompt), dtype=torch.int64).expand(count, -1)
    states = [grammar.advance_all(grammar.start(), ids[0].tolist())] * count if grammar else []
    generator = torch.Generator().manual_seed(sampling.seed)
    drawn: list[list[int]] = [[] for _ in range(count)]
    for logits in _next_logits(model, ids, most, drawn):
        if grammar:
            logits.masked_fill_(~_allowed(grammar, states), -torch.inf)
        for row, token in enumerate(_draw(logits, sampling, generator)):
            if drawn[row] and drawn[row][-1] == end:
                continue
            drawn[row].append(token)
            if grammar:
                states[row] = grammar.advance(states[row], token)
        if all(tokens[-1] == end for tokens in drawn):
            break
    return [np.array(tokens, dtype=np.int32) for tokens in drawn]


def image_codes(
    model: Decoder, grammar: Grammar, caption: str, h: int, w: int, sampling: Sampling | None = None
) -> npt.NDArray[np.int32]:
    """Codes [h, w] of an image drawn for a caption, constrained by the grammar."""
    vocab = grammar.vocab
    prompt = generation_prompt(vocab, caption, h, w)
    rest = h * (w + 1) + 3  # the rows, EOF, EOI, EOS
    (tokens,) = generate(model, prompt, rest, end=vocab.eos, sampling=sampling, grammar=grammar)
    codes: npt.NDArray[np.int32] = parse(vocab, np.concatenate((prompt, tokens))).codes[0]
    return codes


def generate_image(
    checkpoint: Path,
    caption: str,
    out: Path,
    *,
    h: int = 16,
    w: int = 16,
    tokenizer: str | None = None,
    sampling: Sampling | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw an image of h x w codes for a caption with the model of a checkpoint; write it as PNG and return it.

    `tokenizer` names the vision tokenizer that the model was trained with (None: the shipped one that it is); DataError
    where it is another.
    """
    from PIL import Image

    model, vocab, state = load_decoder(checkpoint)
    vision = load_by_fingerprint(state.tokenizer) if tokenizer is None else load(tokenizer)
    if vision.fingerprint != state.tokenizer:
        raise DataError(
            f"{checkpoint} was trained on codes of the vision tokenizer {state.tokenizer[:12]}, but {tokenizer} is "
            f"{vision.fingerprint[:12]}; name the one that made the tokens (`reelmill tokenizer list`)."
        )
    pixels = vision.decode_image(image_codes(model, Grammar(vocab, one_block=True), caption, h, w, sampling))
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(out, format="PNG")
    return pixels


def _next_logits(model: Decoder, prompt: Tensor, most: int, drawn: list[list[int]]) -> Iterator[Tensor]:
    """Logits [count, V] of the next token, over and over, fed with the last of `drawn`; the prompt is read once."""
    count, length = prompt.shape
    cache = KVCache(model.config, count, length + most, model.embed_tokens.weight)
    ids, first = prompt, 0
    for _ in range(most):
        positions = torch.arange(first, first + ids.shape[1]).expand(count, -1)
        hidden = model(ids, positions, cache=cache)
        logits: Tensor = model.lm_head(hidden[:, -1]).float()
        yield logits
        ids, first = torch.tensor([[tokens[-1]] for tokens in drawn]), cache.length


def _allowed(grammar: Grammar, states: list[State]) -> Tensor:
    return torch.from_numpy(np.stack([grammar.mask(state) for state in states]))


def _draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> list[int]:
    """One id a row of logits [count, V]."""
    if sampling.temperature == 0:
        return [int(token) for token in logits.argmax(dim=-1)]
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    return [int(token) for token in torch.multinomial(probabilities, 1, generator=generator)]
