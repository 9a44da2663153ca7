"""Pictures that a training run draws at each validation, for the recipe's `sample_prompts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from reelmill.errors import ConfigError
from reelmill.eval.generation import continuations, image_request
from reelmill.tokenize import vision
from reelmill.tokenize.documents import Grammar, parse
from reelmill.train.model import Decoder
from reelmill.train.objectives.interface import DataSource
from reelmill.train.run import MakeSampleFn
from reelmill.train.trainer import SampleFn


def sample_images(tokenizer: str | None) -> MakeSampleFn:
    """For `train(make_sample_fn=...)`: decodes with the vision tokenizer of that name.

    None: the shipped tokenizer that made the codes. Pictures are as large as most of the corpus's, sampled with Emu3's
    settings and the same random numbers at each validation.
    """

    def make_sample_fn(corpus: DataSource, prompts: Sequence[str]) -> SampleFn:
        decoder = vision.load_by_fingerprint(corpus.tokenizer, tokenizer)
        h, w = _usual_grid(corpus)
        grammar = Grammar(corpus.vocab, one_block=True)

        def sample(model: Decoder, folder: Path) -> None:
            requests = [image_request(grammar, prompt, h, w, stream=n) for n, prompt in enumerate(prompts)]
            folder.mkdir(parents=True, exist_ok=True)
            for number, tokens in enumerate(continuations(model, corpus.vocab, requests)):
                (codes,) = parse(corpus.vocab, np.concatenate((requests[number].prompt, tokens))).codes
                Image.fromarray(decoder.decode_image(codes)).save(folder / f"{number:02}.png", format="PNG")

        return sample

    return make_sample_fn


def _usual_grid(corpus: DataSource) -> tuple[int, int]:
    """Height and width in codes of most of the corpus's images."""
    grids = corpus.image_grids()
    if not len(grids):
        raise ConfigError("sample_prompts is set, but the documents hold no images to learn from; leave it out.")
    ((h, w), _), *_ = Counter(map(tuple, grids.tolist())).most_common(1)
    return h, w
