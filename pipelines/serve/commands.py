"""The command that answers others: `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.pipelines.generate.commands import AREA, Checkpoint, Tokenizer
from reelmill.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    checkpoint: Checkpoint,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine a token is asked for.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    area: Annotated[
        int | None, typer.Option(help="The most pixels of a picture; what the model was trained on [16384].")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="emu3, emu3-eval or emu3.5-story: how is drawn what asks for nothing else.")
    ] = "none",
    rows: Annotated[int, typer.Option(help="Sequences drawn at a time; guidance takes two for a picture.")] = 16,
    queue: Annotated[int, typer.Option(help="Sequences that may wait; more are told to come again.")] = 64,
    context: Annotated[
        int, typer.Option(help="Tokens a sequence may have, prompt and all; 0: two pictures and 1,024 more.")
    ] = 0,
    keep: Annotated[int, typer.Option(help="Pictures kept in the gallery; 0: none.")] = 500,
    out: Annotated[Path, typer.Option(help="Folder of the galleries.")] = Path("drawn"),
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile the step: a slow start, then fast.")
    ] = False,
    tokenizer: Tokenizer = None,
) -> None:
    """Serve a trained checkpoint: a page to draw with, and OpenAI-compatible image and chat endpoints under /v1.

    The token for other machines is that of the environment's REELMILL_TOKEN, or a random one. Ctrl-C ends it.
    """
    from reelmill.eval.generation import Studio
    from reelmill.eval.generation import preset as preset_of
    from reelmill.eval.generation.loading import found_checkpoint
    from reelmill.pipelines.serve.routes import serve_app
    from reelmill.pipelines.serve.served_model import ServeConfig, opened
    from reelmill.pipelines.web import address_of, listen
    from reelmill.pipelines.web import serve as run

    chosen = preset_of(preset)
    config = ServeConfig(
        area=area if area is not None else chosen.area or AREA,
        rows=rows,
        queue=queue,
        context=context,
        keep=keep,
        out=out,
        preset=chosen,
        compile=compile,
    )
    config.check()
    place = found_checkpoint(checkpoint)
    listener, access = listen(host, port)
    with listener, opened(Studio.open(place, tokenizer), checkpoint.resolve().name, str(place), config) as serving:
        cache = f"{config.rows} x {config.capacity:,} tokens at a time, {serving.service.cache_bytes / 2**20:,.0f} MiB"
        echo(f"{checkpoint}: {cache}; pictures in {config.out}/")
        echo(f"{address_of(listener, access)}\nCtrl-C ends it.")
        run(serve_app(serving, access), listener, serving.service.stop)
    echo("ended")
