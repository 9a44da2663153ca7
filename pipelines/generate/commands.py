"""The commands `generate` and `ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reelmill.pipelines.shared_options import (
    AREA,
    Area,
    Compile,
    ContextSeconds,
    Decode,
    Fps,
    Lag,
    MaxTokens,
    ModelFolder,
    PresetName,
    PromptFile,
    Prompts,
    Ratio,
    Rows,
    Seed,
    Steps,
    TensorRanks,
    VisionTokenizerName,
    Weights,
)
from reelmill.terminal import echo, tell_beside

ANSWER_TOKENS = 256
"""The most tokens of an answer to `ask`, if no option says otherwise."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("generate")(generate)
    app.command("ask")(ask)


def generate(
    model: ModelFolder,
    prompt: Prompts = None,
    prompts: PromptFile = None,
    out: Annotated[
        Path,
        typer.Option(help="File to write: .png, .mp4, or .md or .html for a page. Several files are numbered."),
    ] = Path("generated.png"),
    task: Annotated[
        str | None,
        typer.Option(help="One of Emu3.5's tasks: t2i, x2i, howto, story, explore, vla.", show_default=False),
    ] = None,
    ratio: Ratio = None,
    area: Area = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures for each prompt.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of a video, or of what follows --video; 0: a picture.")] = 0,
    fps: Fps = 8.0,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            help="Picture that the video or page begins with, and a second that it ends with (--decode dida); up to "
            "three that --task refers to."
        ),
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Video to continue.")] = None,
    context_seconds: ContextSeconds = 2.0,
    interleaved: Annotated[
        bool, typer.Option("--interleaved", help="A page of text and pictures, in the order that the model chooses.")
    ] = False,
    max_tokens: MaxTokens = None,
    preset: PresetName = "none",
    guidance: Annotated[float | None, typer.Option(help="Guidance scale (Emu3: 3); 1: none.")] = None,
    image_guidance: Annotated[float | None, typer.Option(help="The same by the pictures of --task; 1: none.")] = None,
    negative: Annotated[str | None, typer.Option(help="Text that guidance moves away from.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of codes; 0 takes the likeliest [1].")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample codes from the k likeliest; 0: all [2048].")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample codes from the likeliest of this probability [1].")
    ] = None,
    text_temperature: Annotated[float | None, typer.Option(help="The same for text, with --interleaved [1].")] = None,
    text_top_k: Annotated[int | None, typer.Option(help="[0]")] = None,
    text_top_p: Annotated[float | None, typer.Option(help="[1]")] = None,
    seed: Seed = 0,
    preview: Annotated[
        str, typer.Option(help="Show pictures as their rows appear: terminal, or a .png file that is rewritten.")
    ] = "",
    rows: Rows = 16,
    compile: Compile = False,
    decode: Decode = "plain",
    steps: Steps = None,
    lag: Lag = None,
    json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each file: tokens, passes, cpu_seconds, settings.")
    ] = False,
    tensor: TensorRanks = 1,
    weights: Weights = None,
    tokenizer: VisionTokenizerName = None,
) -> None:
    """Generate pictures, videos, continuations of a video, pages of text and pictures, or the answer in a task.

    The grammar keeps rows and frames complete. Under torchrun each process generates its share of the prompts, or with
    --tensor each group of processes. Prompt, seed, model and settings are written into the files.
    """
    from dataclasses import replace

    from reelmill.eval.generation import preset as preset_of
    from reelmill.pipelines.generate import run
    from reelmill.pipelines.generate.options import GenerateOptions
    from reelmill.pipelines.generate.prompts import read_prompts

    chosen = preset_of(preset)
    usual = chosen.sampling
    sampling = replace(
        usual,
        vision=replace(usual.vision, **_given(temperature=temperature, top_k=top_k, top_p=top_p)),
        text=replace(usual.text, **_given(temperature=text_temperature, top_k=text_top_k, top_p=text_top_p)),
        seed=seed,
        **_given(guidance=guidance, image_guidance=image_guidance, negative=negative),
    )
    texts = [*(prompt or []), *(read_prompts(prompts) if prompts else [])]
    options = GenerateOptions(
        model=model,
        tokenizer=tokenizer,
        prompts=[text + chosen.suffix for text in texts for _ in range(count)],
        out=out,
        sampling=sampling,
        ratio=ratio,
        area=area if area is not None else chosen.area or AREA,
        seconds=seconds,
        fps=fps,
        images=image or [],
        video=video,
        context_seconds=context_seconds,
        interleaved=interleaved,
        task=task,
        max_tokens=max_tokens or chosen.max_tokens or 0,
        preview=preview,
        rows=rows,
        compile=compile,
        decode=decode,
        steps=steps,
        lag=lag,
        tensor=tensor,
        weights=weights,
        json=json,
    )
    for line in run.generate(options):
        echo(line)


def ask(
    model: ModelFolder,
    file: Annotated[Path, typer.Argument(help="A picture or a video.", show_default=False)],
    question: Annotated[str, typer.Option(help="A question about it; without one it is captioned.")] = "",
    area: Area = None,
    fps: Fps = 8.0,
    context_seconds: ContextSeconds = 2.0,
    max_tokens: MaxTokens = None,
    tokenizer: VisionTokenizerName = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens of this probability.")] = 1.0,
    seed: Seed = 0,
) -> None:
    """Caption a picture or video, or answer a question about it."""
    from reelmill.eval.generation import SamplingParams, TokenSampling
    from reelmill.pipelines.generate import run
    from reelmill.pipelines.generate.options import AskOptions

    text = TokenSampling(temperature=temperature, top_k=top_k, top_p=top_p)
    options = AskOptions(
        model=model,
        tokenizer=tokenizer,
        file=file,
        sampling=SamplingParams(text=text, seed=seed),
        question=question,
        area=AREA if area is None else area,
        fps=fps,
        context_seconds=context_seconds,
        max_tokens=max_tokens or ANSWER_TOKENS,
    )
    answer = run.ask(options)
    if not answer.strip():
        tell_beside(f"{model} ends without a word: it learned few captions or answers, or none (docs/post-training.md)")
    echo(answer)


def _given(**options: float | str | None) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
