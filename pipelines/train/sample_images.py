"""Pictures that a training run draws at each validation, for the recipe's `sample_prompts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from reelmill.errors import ConfigError
from reelmill.eval.generation import continuations, image_request
from reelmill.tokenize import vision
from reelmill.tokenize.documents import Grammar, parse
from reelmill.train.model import Decoder
from reelmill.train.objectives.interface import DataSource


def sampler(tokenizer: str | None) -> Callable[[DataSource, Sequence[str]], Callable[[Decoder, Path], None]]:
    """For `train(sampler=...)`: draws with the vision tokenizer of that name (None: the shipped one of the codes).

    Pictures are as large as most of the corpus's, drawn as Emu3 draws, with the same random numbers at each validation.
    """

    def made(corpus: DataSource, prompts: Sequence[str]) -> Callable[[Decoder, Path], None]:
        decoder = vision.load_by_fingerprint(corpus.tokenizer, tokenizer)
        h, w = _usual_grid(corpus)
        grammar = Grammar(corpus.vocab, one_block=True)

        def draw(model: Decoder, folder: Path) -> None:
            requests = [image_request(grammar, prompt, h, w, stream=n) for n, prompt in enumerate(prompts)]
            folder.mkdir(parents=True, exist_ok=True)
            for number, tokens in enumerate(continuations(model, corpus.vocab, requests)):
                (codes,) = parse(corpus.vocab, np.concatenate((requests[number].prompt, tokens))).codes
                Image.fromarray(decoder.decode_image(codes)).save(folder / f"{number:02}.png", format="PNG")

        return draw

    return made


def _usual_grid(corpus: DataSource) -> tuple[int, int]:
    """Height and width in codes of most of the corpus's images."""
    grids = corpus.image_grids()
    if not len(grids):
        raise ConfigError("sample_prompts is set, but the documents hold no images to learn from; leave it out.")
    ((h, w), _), *_ = Counter(map(tuple, grids.tolist())).most_common(1)
    return h, w
