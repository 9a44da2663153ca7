"""What is asked of the engine: the document up to where the model goes on, and how far it may go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelmill.errors import DataError
from reelmill.eval.generation.request import Ids, Request
from reelmill.eval.generation.sampling import SamplingParams
from reelmill.tokenize.documents import (
    Grammar,
    Header,
    Turn,
    Visual,
    chat_prompt,
    frame_ids,
    generation_prompt,
    interleaved_document,
)
from reelmill.tokenize.documents.writing import Codes

DEFAULT = SamplingParams()


def visual_request(
    grammar: Grammar,
    caption: str,
    header: Header,
    *,
    begun: Codes | None = None,
    sampling: SamplingParams = DEFAULT,
    negative: str = "",
    stream: int = 0,
) -> Request:
    """What draws the image or video of `header` for a caption; guidance is away from the caption `negative`.

    `begun`: codes [t, h, w] of its first latent frames, which are given. Raises DataError where they do not fit.
    """
    vocab = grammar.vocab
    given = np.empty((0, header.h, header.w), dtype=np.int32) if begun is None else np.asarray(begun)
    if given.shape[1:] != (header.h, header.w) or not len(given) < header.t:
        raise DataError(
            f"the given frames are {list(given.shape)} codes (t, h, w); the whole is [{header.t}, {header.h}, "
            f"{header.w}], so they must be fewer and of that size"
        )

    def prompt(text: str) -> Ids:
        opening = generation_prompt(vocab, text, header.h, header.w, fps=header.fps, seconds=header.seconds)
        return np.concatenate((opening, frame_ids(vocab, given)))

    return Request(
        prompt=prompt(caption),
        unconditional=prompt(negative) if sampling.guidance != 1 else None,
        most=(header.t - len(given)) * vocab.layout.frame_tokens(header.h, header.w) + 2,  # EOI and EOS
        end=vocab.eos,
        sampling=sampling,
        stream=stream,
        grammar=grammar,
    )


def image_request(
    grammar: Grammar,
    caption: str,
    h: int,
    w: int,
    *,
    sampling: SamplingParams = DEFAULT,
    negative: str = "",
    stream: int = 0,
) -> Request:
    """What draws an image of h x w codes for a caption."""
    return visual_request(grammar, caption, Header(h, w), sampling=sampling, negative=negative, stream=stream)


def words_request(
    grammar: Grammar, parts: Sequence[str | Visual], most: int, *, sampling: SamplingParams = DEFAULT, stream: int = 0
) -> Request:
    """What goes on in words after texts and visuals, at most `most` tokens: a caption."""
    return _in_words(grammar, interleaved_document(grammar.vocab, parts)[:-1], most, sampling, stream)


def chat_request(
    grammar: Grammar,
    question: Sequence[str | Visual],
    most: int,
    *,
    before: Sequence[Turn] = (),
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """What answers a question in words, at most `most` tokens, in Emu3's chat template; `before`: earlier turns."""
    return _in_words(grammar, chat_prompt(grammar.vocab, question, before), most, sampling, stream)


def _in_words(grammar: Grammar, prompt: Ids, most: int, sampling: SamplingParams, stream: int) -> Request:
    vocab = grammar.vocab
    only = ((0, vocab.text_size), (vocab.eos, vocab.eos + 1))
    return Request(
        prompt=prompt, most=most, end=vocab.eos, sampling=sampling, stream=stream, grammar=grammar, only=only
    )


def free_request(
    grammar: Grammar,
    parts: Sequence[str | Visual],
    most: int,
    *,
    sampling: SamplingParams = DEFAULT,
    negative: str = "",
    stream: int = 0,
) -> Request:
    """What goes on as the model likes: words, and images and videos that it opens itself and gives a size.

    Guidance of their codes is away from `negative` in the place of all words of the prompt.
    """
    vocab = grammar.vocab
    wordless: list[str | Visual] = [*(part for part in parts if isinstance(part, Visual)), negative]
    return Request(
        prompt=interleaved_document(vocab, parts)[:-1],
        unconditional=interleaved_document(vocab, wordless)[:-1] if sampling.guidance != 1 else None,
        most=most,
        end=vocab.eos,
        sampling=sampling,
        stream=stream,
        grammar=grammar,
    )
