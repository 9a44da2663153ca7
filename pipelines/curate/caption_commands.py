"""Commands about captions: `caption run`, `caption export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.terminal import echo, progress_console

Out = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Selection = Annotated[str, typer.Option(help="Whose kept samples.")]

caption_app = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(caption_app, name="caption", help="Captions by a model: run; pairs to train one's own: export.")


@caption_app.command("run")
def run(
    out: Out,
    source: Annotated[str, typer.Option(help="A caption source of the recipe, such as endpoint, or module:Class.")],
    url: Annotated[str, typer.Option(help="Address of the endpoint, up to /v1.")] = "",
    model: Annotated[str, typer.Option(help="Name of the model at the endpoint, or folder of a model.")] = "",
    selection: Selection = "default",
    tokenize: Annotated[bool, typer.Option(help="Tokenize again what has another caption now.")] = True,
    set_: Annotated[list[str] | None, typer.Option("--set", help="captions.endpoint.concurrency=32")] = None,
    executor: Annotated[str, typer.Option(help="ray or inline; the recipe's when not given.")] = "",
) -> None:
    """Caption the kept samples of a run by one source, beside the captions they have. Run it again and it goes on."""
    from reelmill.pipelines.curate.captions import run_captions

    own = {key: value for key, value in (("url", url), ("model", model)) if value}
    assignments = [*([f"engine.executor={executor}"] if executor else []), *(set_ or [])]
    run_captions(out, selection, source, assignments, tokenize, progress_console(), own)


@caption_app.command("export")
def export(
    out: Out,
    file: Annotated[Path, typer.Argument(help="JSON Lines file to write; the frames go to a folder beside it.")],
    selection: Selection = "default",
    sources: Annotated[str, typer.Option(help="Sources whose chosen captions are taken.")] = "vllm,endpoint,sidecar",
    frames: Annotated[int, typer.Option(min=1, help="Evenly spaced frames of a clip.")] = 8,
) -> None:
    """Write pairs to train a captioner of one's own: frames as JPEG, prompts for content and motion, the caption."""
    from reelmill.pipelines.curate.caption_export import export_pairs

    pairs, left_out = export_pairs(out, file, selection, [name for name in sources.split(",") if name], frames)
    echo(f"{file}: {pairs} pairs" + (f"; {left_out} samples could not be decoded" if left_out else ""))
