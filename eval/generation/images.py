"""An image from a caption, with the model of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.eval.generation.engine import Request, continuations
from reelmill.eval.generation.sampling import Sampling
from reelmill.tokenize.documents import Grammar, generation_prompt, parse
from reelmill.tokenize.vision import load, load_by_fingerprint
from reelmill.train.checkpoint import load_decoder
from reelmill.train.model import Decoder


def image_request(
    grammar: Grammar,
    caption: str,
    h: int,
    w: int,
    *,
    sampling: Sampling | None = None,
    negative: str = "",
    stream: int = 0,
) -> Request:
    """What draws an image of h x w codes for a caption; guidance is away from the caption `negative`."""
    vocab, sampling = grammar.vocab, sampling or Sampling()
    return Request(
        prompt=generation_prompt(vocab, caption, h, w),
        unconditional=generation_prompt(vocab, negative, h, w) if sampling.guidance != 1 else None,
        most=h * (w + 1) + 3,  # the rows, EOF, EOI, EOS
        end=vocab.eos,
        sampling=sampling,
        stream=stream,
        grammar=grammar,
    )


def image_codes(
    model: Decoder,
    grammar: Grammar,
    caption: str,
    h: int,
    w: int,
    *,
    sampling: Sampling | None = None,
    negative: str = "",
) -> npt.NDArray[np.int32]:
    """Codes [h, w] of an image drawn for a caption, constrained by the grammar."""
    request = image_request(grammar, caption, h, w, sampling=sampling, negative=negative)
    (tokens,) = continuations(model, grammar.vocab, [request])
    codes: npt.NDArray[np.int32] = parse(grammar.vocab, np.concatenate((request.prompt, tokens))).codes[0]
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
    negative: str = "",
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
    grammar = Grammar(vocab, one_block=True)
    pixels = vision.decode_image(image_codes(model, grammar, caption, h, w, sampling=sampling, negative=negative))
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(out, format="PNG")
    return pixels
