"""Arguments and options that several commands share, so that each has one meaning and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AREA = 128 * 128
"""Pixels that are generated if neither an option nor a preset says otherwise."""

Check = Annotated[
    bool,
    typer.Option("--check", help="First compare every file with its SHA-256, not only its size and time with the log."),
]
"""Of a command that reads a run folder."""

MODEL_HELP = "A training run, a checkpoint, or a Hugging Face folder."
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
VisionTokenizerName = Annotated[
    str | None, typer.Option("--tokenizer", help="Vision tokenizer of the model, if it is not a shipped one.")
]
Area = Annotated[int | None, typer.Option(help=f"Pixels of a picture; use what the model was trained on [{AREA}].")]
Ratio = Annotated[str | None, typer.Option(help="Aspect ratio W:H [1:1].", show_default=False)]
Seed = Annotated[int, typer.Option(help="The same seed samples the same tokens.")]
Prompts = Annotated[list[str] | None, typer.Option(help="What to generate; may be repeated.")]
PromptFile = Annotated[
    Path | None, typer.Option(help="File with a prompt on each line, or a .jsonl with the field prompt.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="The most tokens to generate [a page: 4096, a task's picture: its codes and 1024, an answer: 256].",
        show_default=False,
    ),
]
Fps = Annotated[float, typer.Option(help="Frames per second of a video.")]
ContextSeconds = Annotated[float, typer.Option(help="How much of the end of a video the model sees at a time.")]
PresetName = Annotated[
    str,
    typer.Option(
        help="emu3, emu3-eval, emu3.5-t2i, -x2i, -howto, -story: their authors' settings, under those of other options."
    ),
]
TensorRanks = Annotated[
    int,
    typer.Option(
        "--tensor", min=1, help="Under torchrun so many processes share the model's layers, for one too large."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="Type of the weights: float32, bfloat16, int8, float8 [CUDA: bfloat16, CPU: float32]."),
]
Rows = Annotated[int, typer.Option(min=1, help="Sequences decoded together; with guidance a picture takes two.")]
Compile = Annotated[bool, typer.Option("--compile", help="Use torch.compile for the step: slow to start, then fast.")]
Decode = Annotated[
    str,
    typer.Option(
        help="plain: a token a pass. exact-parallel: several codes a pass, by the same law. auto: the faster of these. "
        "rows: approximate, rows side by side. dida: a picture in --steps passes, by a model of the recipe dida."
    ),
]
Steps = Annotated[int | None, typer.Option(help="Passes of a picture, with --decode dida [16].", show_default=False)]
Lag = Annotated[
    int | None,
    typer.Option(
        help="Codes that a row is behind the one above it, with --decode rows [16, or a quarter of a row].",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on; beyond this machine every request needs a token.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
