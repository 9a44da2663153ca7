"""`reelmill generate` and `reelmill ask`: media in, requests to a studio, files or an answer out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import reelmill
from reelmill.errors import ConfigError
from reelmill.eval.generation import Clip, Studio
from reelmill.eval.generation.loading import find_model
from reelmill.eval.generation.media_files import read_clip, read_image, read_media, write_clip
from reelmill.eval.generation.pages import write_page
from reelmill.eval.generation.window_sampler import window_of
from reelmill.pipelines.generate.options import AskOptions, GenerateOptions
from reelmill.pipelines.generate.progress import LiveProgress
from reelmill.tokenize.documents import Header, grid_for_ratio


def generate(options: GenerateOptions) -> Iterator[str]:
    """Generate this process's share of the prompts; yields one line for each file as soon as it is written."""
    options.check()
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out is {options.out}, and its folder cannot be made ({error.strerror}).") from error
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    mine = range(rank, len(options.prompts), ranks)
    if not mine:
        return
    model = find_model(options.model)
    studio = Studio.open(model, options.tokenizer, rows=options.rows, compile=options.compile)
    settings = {
        "checkpoint": str(model),
        **options.settings(),
        "tokenizer": studio.vision.name,
        "reelmill": reelmill.__version__,
    }
    with LiveProgress(studio, options.preview) as progress:
        for number, result in _results(
            replace(studio, on_token=progress.update, window=window_of(options.decode)), options, mine
        ):
            path = options.path(number)
            own = {"prompt": options.prompts[number], "stream": number, **settings}
            if isinstance(result, Clip):
                write_clip(result, path, own)
                yield f"{path}: {_size(result)}"
            else:
                files = write_page(result, path, own)
                texts = sum(isinstance(part, str) for part in result)
                yield f"{path}: {texts} texts, {len(files)} pictures or videos"


def ask(options: AskOptions) -> str:
    """The answer to a question about a picture or video, or its caption."""
    options.check()
    studio = Studio.open(options.model, options.tokenizer)
    clip = read_media(options.file, options.area, studio.vision.spatial, options.fps, options.context_seconds)
    if options.question:
        return studio.answer(clip, options.question, max_new_tokens=options.max_tokens, sampling=options.sampling)
    return studio.caption(clip, max_new_tokens=options.max_tokens, sampling=options.sampling)


def _results(studio: Studio, options: GenerateOptions, numbers: range) -> Iterator[tuple[int, Clip | list[str | Clip]]]:
    """What is generated for each of these prompts, with its number, which is also its random stream: it does not depend
    on which process generates it."""
    cell = studio.vision.spatial
    prompts = [options.prompts[number] for number in numbers]
    prefix = read_image(options.image, options.area, cell) if options.image else None
    results: Iterator[tuple[int, Clip | list[str | Clip]]]
    if options.video:
        results = _futures(studio, options, prompts, numbers)
    elif options.interleaved:
        results = studio.pages(
            prompts, prefix=prefix, max_new_tokens=options.max_tokens, sampling=options.sampling, streams=numbers
        )
    else:
        if prefix:
            h, w = (side // cell for side in prefix.frames.shape[1:3])
        else:
            h, w = grid_for_ratio(options.ratio, options.area)
        header = Header(h, w, options.fps, options.seconds) if options.seconds else Header(h, w)
        results = studio.visuals(prompts, header, prefix=prefix, sampling=options.sampling, streams=numbers)
    for place, result in results:
        yield numbers[place], result


def _futures(
    studio: Studio, options: GenerateOptions, prompts: list[str], numbers: range
) -> Iterator[tuple[int, Clip]]:
    assert options.video is not None
    window_s = options.context_seconds
    clip = read_clip(options.video, options.area, studio.vision.spatial, options.fps, window_s)
    for place, prompt in enumerate(prompts):
        yield (
            place,
            studio.future(
                clip,
                options.seconds,
                caption=prompt,
                window_s=window_s,
                sampling=options.sampling,
                stream=numbers[place],
            ),
        )


def _size(clip: Clip) -> str:
    frames, height, width = clip.frames.shape[:3]
    return f"{f'{frames} frames of ' if clip.fps else ''}{width}x{height} pixels"
