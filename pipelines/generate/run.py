"""`reelmill generate` and `reelmill ask`: media in, requests to a studio, files or an answer out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.distributed.device_mesh import DeviceMesh

import reelmill
from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Clip, GenerationProgress, Studio
from reelmill.eval.generation.loading import find_model, never_drew_unprompted
from reelmill.eval.generation.media_files import read_clip, read_image, read_media, write_clip
from reelmill.eval.generation.pages import GrowingPages, write_page
from reelmill.eval.generation.request import Cost
from reelmill.eval.generation.studio import PICTURE_TASKS, PagePart
from reelmill.pipelines.generate.groups import groups_of
from reelmill.pipelines.generate.options import AUTO, PAGE_TOKENS, SQUARE, AskOptions, GenerateOptions
from reelmill.pipelines.generate.progress import LiveProgress
from reelmill.terminal import tell_beside
from reelmill.tokenize.documents import Header, grid_for_ratio

WORDS = 1024
"""Room for what a task's answer says or thinks before its picture, and for the picture's header."""


def generate(options: GenerateOptions) -> Iterator[str]:
    """Generate this process's share of the prompts; yields one line for each file as soon as it is written."""
    options.check()
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out is {options.out}, and its folder cannot be made ({error.strerror}).") from error
    if options.tensor == 1:
        rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if mine := range(rank, len(options.prompts), ranks):
            yield from _generate(options, mine, is_first=rank == 0)
        return
    with groups_of(options.tensor) as (mesh, group, groups):
        mine = range(group, len(options.prompts), groups)
        for line in _generate(options, mine, mesh, is_first=group == 0):
            if mesh.get_local_rank() == 0:
                yield line


def _generate(
    options: GenerateOptions, mine: range, mesh: DeviceMesh | None = None, *, is_first: bool
) -> Iterator[str]:
    """Generate these prompts. With a mesh, whose ranks share the model, the first of them writes the files."""
    writes = mesh is None or mesh.get_local_rank() == 0
    model = find_model(options.model)
    if is_first and writes and options.sampling.guidance != 1 and never_drew_unprompted(model):
        tell_beside(
            f"guidance {options.sampling.guidance:g} leads away from what a model draws without a prompt, and "
            f"{options.model} never learned that: leave it out, or train with --set data.caption_drop=0.1"
        )
    studio = Studio.open(
        model,
        options.tokenizer,
        rows=options.rows_used,
        compile=options.compile,
        decode=options.decode,
        steps=options.steps,
        lag=options.lag,
        mesh=mesh,
        weights=options.weights,
    )
    pictures = [read_image(path, options.area, studio.vision.spatial) for path in options.images]
    options = replace(options, max_tokens=_most_tokens(studio, options, pictures))
    settings = {
        "checkpoint": str(model),
        **options.settings(),
        **studio.settings,
        "tokenizer": studio.vision.name,
        "reelmill": reelmill.__version__,
    }

    def own(number: int) -> dict[str, Any]:
        return {"prompt": options.prompts[number], "stream": number, **settings}

    with LiveProgress(studio, options.preview if writes else "") as progress:
        spent: list[Cost] = []
        growing = GrowingPages(studio, lambda place: (options.path(mine[place]), own(mine[place])))

        def on_token(generated: GenerationProgress) -> None:
            progress.update(generated)
            if generated.last.cost is not None:
                spent.append(generated.last.cost)
            if options.is_page and writes:
                growing.update(generated)

        for number, result in _results(
            replace(studio, on_token=on_token, on_draft=progress.update_draft), options, mine, pictures
        ):
            path = options.path(number)
            if not writes:
                continue
            if isinstance(result, Clip):
                write_clip(result, path, own(number))
                line = f"{path}: {_size(result)}"
            else:
                files = write_page(result, path, own(number))
                texts = sum(isinstance(part, str) for part in result)
                line = f"{path}: {texts} texts, {len(files)} pictures or videos"
            # Each result comes right after the last token of its sequence, or of its windows.
            yield _facts(path, own(number), spent) if options.json else line
            spent.clear()


def _facts(path: Path, settings: dict[str, Any], spent: Sequence[Cost]) -> str:
    """A line of JSON about a file: what it took, and how it was made."""
    took = {
        "tokens": sum(cost.tokens for cost in spent),
        "passes": sum(cost.passes for cost in spent),
        "cpu_seconds": round(sum(cost.cpu_s for cost in spent), 6),
    }
    return json.dumps({"file": str(path), **took, **settings}, ensure_ascii=False)


def ask(options: AskOptions) -> str:
    """The answer to a question about a picture or video, or its caption."""
    options.check()
    studio = Studio.open(options.model, options.tokenizer)
    clip = read_media(options.file, options.area, studio.vision.spatial, options.fps, options.context_seconds)
    if options.question:
        return studio.answer(clip, options.question, max_new_tokens=options.max_tokens, sampling=options.sampling)
    return studio.caption(clip, max_new_tokens=options.max_tokens, sampling=options.sampling)


def _results(
    studio: Studio, options: GenerateOptions, numbers: range, pictures: Sequence[Clip]
) -> Iterator[tuple[int, Clip | list[PagePart]]]:
    """What is generated for each of these prompts, with its number, which is also its random stream: it does not depend
    on which process generates it."""
    prompts = [options.prompts[number] for number in numbers]
    prefix = pictures[0] if pictures else None
    ending = pictures[1] if len(pictures) > 1 else None
    results: Iterator[tuple[int, Clip | list[PagePart]]]
    if options.task:
        results = _answers(studio, options, pictures, numbers)
    elif options.video:
        results = _futures(studio, options, prompts, numbers)
    elif options.interleaved:
        results = studio.pages(
            prompts, prefix=prefix, max_new_tokens=options.max_tokens, sampling=options.sampling, streams=numbers
        )
    else:
        h, w = _grid_of(studio, prefix) if prefix else _grid(studio, options)
        header = Header(h, w, options.fps, options.seconds) if options.seconds else Header(h, w)
        results = studio.visuals(
            prompts, header, prefix=prefix, ending=ending, sampling=options.sampling, streams=numbers
        )
    for place, result in results:
        yield numbers[place], result


def _answers(
    studio: Studio, options: GenerateOptions, pictures: Sequence[Clip], numbers: range
) -> Iterator[tuple[int, Clip | list[PagePart]]]:
    """The answers of `--task`: pages, or of the tasks that ask for one the picture alone."""
    assert options.task is not None
    answers = studio.answers(
        options.task,
        [options.prompts[number] for number in numbers],
        pictures=pictures,
        size=_task_size(studio, options, pictures),
        max_new_tokens=options.max_tokens,
        sampling=options.sampling,
        streams=numbers,
    )
    for place, parts in answers:
        if options.is_page:
            yield place, parts
            continue
        picture = next((part for part in parts if isinstance(part, Clip)), None)
        if picture is None:
            raise DataError(
                f"the model wrote no whole picture for prompt {numbers[place] + 1} within {options.max_tokens:,} "
                "tokens; give it more (--max-tokens), or train it on the task"
            )
        yield place, picture


def _most_tokens(studio: Studio, options: GenerateOptions, pictures: Sequence[Clip]) -> int:
    """The most tokens of a page or an answer.

    Where a task's answer is a picture of a known size, what it takes and WORDS before it; ConfigError for fewer than
    it takes.
    """
    size = _task_size(studio, options, pictures) if options.task in PICTURE_TASKS else None
    if size is None:
        return options.max_tokens or PAGE_TOKENS
    picture = studio.vocab.layout.frame_tokens(*size)
    if 0 < options.max_tokens <= picture:
        raise ConfigError(
            f"--max-tokens is {options.max_tokens:,}, and a picture of {size[0]} x {size[1]} codes takes {picture:,} "
            "and some more around them; give more, leave it out, or take a smaller --area."
        )
    return options.max_tokens or picture + WORDS


def _task_size(studio: Studio, options: GenerateOptions, pictures: Sequence[Clip]) -> tuple[int, int] | None:
    """Rows and columns of codes of what a task draws; None where the model writes sizes itself."""
    if options.ratio == AUTO or (options.ratio is None and options.is_page):
        return None
    # An edited picture keeps its shape.
    return _grid_of(studio, pictures[0]) if options.ratio is None and pictures else _grid(studio, options)


def _grid(studio: Studio, options: GenerateOptions) -> tuple[int, int]:
    return grid_for_ratio(options.ratio or SQUARE, options.area, studio.vision.spatial, studio.vocab.layout)


def _grid_of(studio: Studio, picture: Clip) -> tuple[int, int]:
    height, width = picture.frames.shape[1:3]
    return height // studio.vision.spatial, width // studio.vision.spatial


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
