"""Commands that draw and speak with a trained model: `generate`, `ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint folder, or a training run's.", show_default=False)]
Area = Annotated[int, typer.Option(help="Pixels; what the model was trained on.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="Vision tokenizer of the training tokens, where it is no shipped one.")
]
Seed = Annotated[int, typer.Option(help="The same seed draws the same tokens.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("generate")(generate)
    app.command("ask")(ask)


def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[list[str], typer.Option(help="What to draw; several draw one each.", show_default=False)],
    out: Annotated[Path, typer.Option(help="PNG or MP4 to write; of several each gets a number.")] = Path(
        "generated.png"
    ),
    ratio: Annotated[str, typer.Option(help="Aspect ratio W:H.")] = "1:1",
    area: Area = 128 * 128,
    count: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of a video, or of what follows --video; 0: a picture.")] = 0,
    fps: Annotated[float, typer.Option(help="Frames a second of a video.")] = 8.0,
    image: Annotated[Path | None, typer.Option(help="Picture that the video begins with.")] = None,
    video: Annotated[Path | None, typer.Option(help="Video whose future is drawn.")] = None,
    context: Annotated[float, typer.Option(help="Seconds of --video that each step sees.")] = 2.0,
    tokenizer: Tokenizer = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw among so many; 0: all.")] = 2048,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest that hold this probability.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Away from --negative (Emu3: 3); 1: none.")] = 1.0,
    negative: Annotated[str, typer.Option(help="What not to draw, under --guidance.")] = "",
    seed: Seed = 0,
) -> None:
    """Draw pictures, a video, a video from a picture, or the future of a video, with a trained checkpoint.

    Rows and frames are kept right by the grammar. Under torchrun each process draws its share of the prompts. Prompt,
    seed, checkpoint and settings are written into the files.
    """
    from reelmill.eval.generation import Draw, Sampling
    from reelmill.pipelines.generating import Task, run_task

    sampling = Sampling(vision=Draw(temperature=temperature, top_k=top_k, top_p=top_p), guidance=guidance, seed=seed)
    task = Task(
        prompts=[text for text in prompt for _ in range(count)],
        ratio=ratio,
        area=area,
        seconds=seconds,
        fps=fps,
        image=image,
        video=video,
        context=context,
        negative=negative,
        sampling=sampling,
    )
    for line in run_task(checkpoint, tokenizer, task, out):
        typer.echo(line)


def ask(
    checkpoint: Checkpoint,
    file: Annotated[Path, typer.Argument(help="A picture or a video.", show_default=False)],
    question: Annotated[str, typer.Option(help="A question about it; without one it is captioned.")] = "",
    area: Area = 128 * 128,
    fps: Annotated[float, typer.Option(help="Frames a second of a video.")] = 8.0,
    seconds: Annotated[float, typer.Option(help="The last so many seconds of a video.")] = 2.0,
    most: Annotated[int, typer.Option(min=1, help="At most so many tokens.")] = 256,
    tokenizer: Tokenizer = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    seed: Seed = 0,
) -> None:
    """Caption a picture or video, or answer a question about it, with a trained checkpoint."""
    from reelmill.eval.generation import Draw, Sampling
    from reelmill.pipelines.generating import read_media, studio_of

    studio = studio_of(checkpoint, tokenizer)
    clip = read_media(file, area, studio.vision.spatial, fps, seconds)
    sampling = Sampling(text=Draw(temperature=temperature), seed=seed)
    if question:
        typer.echo(studio.answer(clip, question, most=most, sampling=sampling))
    else:
        typer.echo(studio.caption(clip, most=most, sampling=sampling))
