"""Requests for the engine: the beginning of a document, and how far and how freely the model continues it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

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
    header_ids,
    interleaved_document,
    task_prompt,
)
from reelmill.tokenize.documents.writing import Codes

DEFAULT = SamplingParams()


def visual_request(
    grammar: Grammar,
    caption: str,
    header: Header,
    *,
    prefix: Codes | None = None,
    ending: Codes | None = None,
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """A request for the image or video of `header` for a caption. The unconditional prompt has the negative caption.

    `prefix`: codes [t, h, w] of its first latent frames, which are given; `ending`: of its last ones, see `Request`.
    Raises DataError if they do not fit.
    """
    vocab = grammar.vocab
    nothing = np.empty((0, header.h, header.w), dtype=np.int32)
    given, last = (nothing if codes is None else np.asarray(codes) for codes in (prefix, ending))
    for codes in (given, last):
        if codes.shape[1:] != (header.h, header.w) or not len(given) + len(last) < header.t:
            raise DataError(
                f"the given frames have the shape {list(codes.shape)} (t, h, w) in codes; the whole video has "
                f"[{header.t}, {header.h}, {header.w}]: give frames of that size, and fewer of them"
            )

    def prompt(text: str) -> Ids:
        opening = generation_prompt(vocab, text, header.h, header.w, fps=header.fps, seconds=header.seconds)
        return np.concatenate((opening, frame_ids(vocab, given)))

    return Request(
        prompt=prompt(caption),
        unconditional=prompt(sampling.negative) if sampling.guidance != 1 else None,
        max_new_tokens=(header.t - len(given)) * vocab.layout.frame_tokens(header.h, header.w) + 2,  # EOI and EOS
        stop_id=vocab.eos,
        sampling=sampling,
        stream=stream,
        grammar=grammar,
        ending=last if len(last) else None,
    )


def image_request(
    grammar: Grammar,
    caption: str,
    h: int,
    w: int,
    *,
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """A request for an image of h x w codes for a caption."""
    return visual_request(grammar, caption, Header(h, w), sampling=sampling, stream=stream)


def text_request(
    grammar: Grammar,
    parts: Sequence[str | Visual],
    max_new_tokens: int,
    *,
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """A request for text that follows texts and visuals, such as a caption."""
    prompt = interleaved_document(grammar.vocab, parts)[:-1]
    return _text_only(grammar, prompt, max_new_tokens, sampling, stream)


def chat_request(
    grammar: Grammar,
    question: Sequence[str | Visual],
    max_new_tokens: int,
    *,
    before: Sequence[Turn] = (),
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """A request for the answer to a question, as text, in Emu3's chat template; `before`: earlier turns."""
    return _text_only(grammar, chat_prompt(grammar.vocab, question, before), max_new_tokens, sampling, stream)


def _text_only(grammar: Grammar, prompt: Ids, max_new_tokens: int, sampling: SamplingParams, stream: int) -> Request:
    vocab = grammar.vocab
    return Request(
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        stop_id=vocab.eos,
        sampling=sampling,
        stream=stream,
        grammar=grammar,
        allowed_ids=((0, vocab.text_size), (vocab.eos, vocab.eos + 1)),
    )


def interleaved_request(
    grammar: Grammar,
    parts: Sequence[str | Visual],
    max_new_tokens: int,
    *,
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """A request for anything the grammar allows: text, and images and videos whose size the model chooses.

    The unconditional prompt has the negative text in place of all texts of the prompt, after its visuals.
    """
    vocab = grammar.vocab
    without_text: list[str | Visual] = [*(part for part in parts if isinstance(part, Visual)), sampling.negative]
    return Request(
        prompt=interleaved_document(vocab, parts)[:-1],
        unconditional=interleaved_document(vocab, without_text)[:-1] if sampling.guidance != 1 else None,
        max_new_tokens=max_new_tokens,
        stop_id=vocab.eos,
        sampling=sampling,
        stream=stream,
        grammar=grammar,
    )


def task_request(
    grammar: Grammar,
    task: str,
    question: str,
    max_new_tokens: int,
    *,
    pictures: Sequence[Visual] = (),
    before: Sequence[Turn] = (),
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """A request for the answer in one of Emu3.5's tasks; `before`: earlier turns, such as steps through a world.

    The unconditional prompt has neither task nor words, but the pictures of all turns (Emu3.5's `no_text`) and the
    negative text; the prompt of guidance by pictures has none of these either. Raises ConfigError for an unknown task,
    DataError where the layout has no tasks.
    """
    vocab = grammar.vocab
    given = [part for turn in before for part in (*turn.question, *turn.answer) if isinstance(part, Visual)]
    pictures_given = [*given, *pictures]
    negative = [sampling.negative] if sampling.negative else []
    return Request(
        prompt=task_prompt(vocab, task, question, pictures, before),
        unconditional=chat_prompt(vocab, [*pictures_given, *negative]),
        without_pictures=chat_prompt(vocab, negative) if pictures_given else None,
        max_new_tokens=max_new_tokens,
        stop_id=vocab.eos,
        sampling=sampling,
        stream=stream,
        grammar=grammar,
    )


def task_picture_request(
    grammar: Grammar,
    task: str,
    question: str,
    header: Header,
    *,
    pictures: Sequence[Visual] = (),
    sampling: SamplingParams = DEFAULT,
    stream: int = 0,
) -> Request:
    """A request for the picture of `header` that answers in one of Emu3.5's tasks, at once: without words before it.

    `grammar` is one of a single block. Raises as `task_request` does.
    """
    vocab = grammar.vocab
    size = vocab.layout.frame_tokens(header.h, header.w)
    asked = task_request(grammar, task, question, size + 3, pictures=pictures, sampling=sampling, stream=stream)
    return begun(asked, [vocab.boi, *header_ids(vocab, header), vocab.img])  # then its codes, EOI, ESS and EOS


def begun(request: Request, answer: npt.ArrayLike) -> Request:
    """The request whose answer begins with these ids: all of its prompts go on with them."""
    opening = np.asarray(answer, dtype=np.int32)

    def prompt(ids: npt.ArrayLike | None) -> Ids | None:
        return None if ids is None else np.concatenate((np.asarray(ids, dtype=np.int32), opening))

    return replace(
        request,
        prompt=np.concatenate((np.asarray(request.prompt, dtype=np.int32), opening)),
        unconditional=prompt(request.unconditional),
        without_pictures=prompt(request.without_pictures),
    )
