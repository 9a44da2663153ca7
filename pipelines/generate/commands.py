"""Commands that draw and speak with a trained model: `generate`, `ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reelmill.terminal import echo

Checkpoint = Annotated[
    Path, typer.Argument(help="A checkpoint, a training run, or a folder of Hugging Face's.", show_default=False)
]
Area = Annotated[int, typer.Option(help="Pixels; what the model was trained on.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="Vision tokenizer of the training tokens, where no checkpoint knows it."),
]
Seed = Annotated[int, typer.Option(help="The same seed draws the same tokens.")]
AREA = 128 * 128


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("generate")(generate)
    app.command("ask")(ask)


def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[list[str] | None, typer.Option(help="What to draw; several draw one each.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A text file with a prompt a line.")] = None,
    out: Annotated[
        Path,
        typer.Option(help="File to write: .png, .mp4, of a page .md or .html; of several each is numbered."),
    ] = Path("generated.png"),
    ratio: Annotated[str, typer.Option(help="Aspect ratio W:H.")] = "1:1",
    area: Annotated[int | None, typer.Option(help="Pixels; what the model was trained on [16384].")] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of a video, or of what follows --video; 0: a picture.")] = 0,
    fps: Annotated[float, typer.Option(help="Frames a second of a video.")] = 8.0,
    image: Annotated[Path | None, typer.Option(help="Picture that the video or page begins with.")] = None,
    video: Annotated[Path | None, typer.Option(help="Video whose future is drawn.")] = None,
    context: Annotated[float, typer.Option(help="Seconds of --video that each step sees.")] = 2.0,
    interleaved: Annotated[
        bool, typer.Option("--interleaved", help="Words and pictures as the model likes: a page with its pictures.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="At most so many tokens of a page.")] = 4096,
    preset: Annotated[
        str, typer.Option(help="emu3, emu3-eval or emu3.5-story: how Emu3's authors draw, where no option says else.")
    ] = "none",
    guidance: Annotated[float | None, typer.Option(help="Away from --negative (Emu3: 3); 1: none [1].")] = None,
    negative: Annotated[str | None, typer.Option(help="What not to draw, under --guidance.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of codes; 0 takes the likeliest [1].")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw codes among so many; 0: all [2048].")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw codes among the likeliest of this share [1].")] = None,
    text_temperature: Annotated[float | None, typer.Option(help="The same of words, if --interleaved [1].")] = None,
    text_top_k: Annotated[int | None, typer.Option(help="[0]")] = None,
    text_top_p: Annotated[float | None, typer.Option(help="[1]")] = None,
    seed: Seed = 0,
    preview: Annotated[
        str, typer.Option(help="terminal, or a .png file that is written anew: the pictures as their rows come.")
    ] = "",
    rows: Annotated[int, typer.Option(min=1, help="Rows drawn together; a picture under --guidance takes two.")] = 16,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile the step: a slow start, then fast.")
    ] = False,
    tokenizer: Tokenizer = None,
) -> None:
    """Draw pictures, videos, the future of a video, or pages of words and pictures, with a trained checkpoint.

    Rows and frames are kept right by the grammar. Under torchrun each process draws its share of the prompts. Prompt,
    seed, checkpoint and settings are written into the files.
    """
    from dataclasses import replace

    from reelmill.eval.generation import preset as preset_of
    from reelmill.pipelines.generate.run import Task, read_prompts, run_task

    chosen = preset_of(preset)
    like = chosen.sampling
    vision = replace(like.vision, **_given(temperature=temperature, top_k=top_k, top_p=top_p))
    text = replace(like.text, **_given(temperature=text_temperature, top_k=text_top_k, top_p=text_top_p))
    texts = [*(prompt or []), *(read_prompts(prompts) if prompts else [])]
    task = Task(
        prompts=[text + chosen.suffix for text in texts for _ in range(count)],
        ratio=ratio,
        area=area if area is not None else chosen.area or AREA,
        seconds=seconds,
        fps=fps,
        image=image,
        video=video,
        context=context,
        interleaved=interleaved,
        most=most,
        negative=chosen.negative if negative is None else negative,
        sampling=replace(like, vision=vision, text=text, seed=seed, **_given(guidance=guidance)),
        rows=rows,
        compile=compile,
    )
    for line in run_task(checkpoint, tokenizer, task, out, preview):
        echo(line)


def ask(
    checkpoint: Checkpoint,
    file: Annotated[Path, typer.Argument(help="A picture or a video.", show_default=False)],
    question: Annotated[str, typer.Option(help="A question about it; without one it is captioned.")] = "",
    area: Area = AREA,
    fps: Annotated[float, typer.Option(help="Frames a second of a video.")] = 8.0,
    seconds: Annotated[float, typer.Option(help="The last so many seconds of a video.")] = 2.0,
    most: Annotated[int, typer.Option(min=1, help="At most so many tokens.")] = 256,
    tokenizer: Tokenizer = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Draw among so many; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest that hold this share.")] = 1.0,
    seed: Seed = 0,
) -> None:
    """Caption a picture or video, or answer a question about it, with a trained checkpoint."""
    from reelmill.eval.generation import SamplingParams, TokenSampling
    from reelmill.eval.generation.media_files import read_media
    from reelmill.pipelines.generate.run import studio_of

    sampling = SamplingParams(text=TokenSampling(temperature=temperature, top_k=top_k, top_p=top_p), seed=seed)
    sampling.check()
    studio = studio_of(checkpoint, tokenizer)
    clip = read_media(file, area, studio.vision.spatial, fps, seconds)
    if question:
        echo(studio.answer(clip, question, most=most, sampling=sampling))
    else:
        echo(studio.caption(clip, most=most, sampling=sampling))


def _given(**options: float | None) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
