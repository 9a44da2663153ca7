"""The command `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.pipelines.shared_options import (
    AREA,
    Area,
    Compile,
    Decode,
    Host,
    Lag,
    ModelFolder,
    Port,
    PresetName,
    Rows,
    Steps,
    TensorRanks,
    VisionTokenizerName,
    Weights,
)
from reelmill.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    model: ModelFolder,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    area: Area = None,
    preset: PresetName = "none",
    rows: Rows = 16,
    queue: Annotated[int, typer.Option(help="Sequences that may wait; further requests get a 429.")] = 64,
    context_tokens: Annotated[
        int,
        typer.Option(
            help="Tokens of a sequence, prompt included; 0: two pictures (of a model of tasks 13) and 1,024 more."
        ),
    ] = 0,
    cache_tokens: Annotated[
        int,
        typer.Option(help="Tokens that all sequences hold together, on a GPU; 0: --rows x --context-tokens."),
    ] = 0,
    gallery: Annotated[int, typer.Option(help="Pictures kept in the gallery; 0: none.")] = 500,
    out: Annotated[Path, typer.Option(help="Folder for galleries.")] = Path("drawn"),
    compile: Compile = False,
    decode: Decode = "plain",
    steps: Steps = None,
    lag: Lag = None,
    tensor: TensorRanks = 1,
    weights: Weights = None,
    tokenizer: VisionTokenizerName = None,
) -> None:
    """Serve a model: a page to generate pictures on, and OpenAI-compatible image and chat endpoints under /v1.

    `--area` is the most that a request may ask for. The token for other machines is the environment variable
    REELMILL_TOKEN, or a random one. Ctrl-C ends it. With `--tensor` the first process has the page.
    """
    from reelmill.eval.generation import Studio
    from reelmill.eval.generation import preset as preset_of
    from reelmill.eval.generation.loading import find_model
    from reelmill.pipelines.serve.peers import follow_leader, sharing
    from reelmill.pipelines.serve.routes import serve_app
    from reelmill.pipelines.serve.served_model import ServeConfig, served_model
    from reelmill.pipelines.web import address_of, listen
    from reelmill.pipelines.web import serve as run
    from reelmill.train.provenance import Training

    chosen = preset_of(preset)
    config = ServeConfig(
        area=area if area is not None else chosen.area or AREA,
        rows=rows,
        queue=queue,
        context_tokens=context_tokens,
        cache_tokens=cache_tokens,
        gallery=gallery,
        out=out,
        preset=chosen,
        compile=compile,
    )
    config.check()
    place = find_model(model)
    training = Training.of(place)
    with sharing(tensor, config) as peers:
        mesh = None if peers is None else peers.mesh
        studio = Studio.open(
            place, tokenizer, rows=rows, decode=decode, steps=steps, lag=lag, mesh=mesh, weights=weights
        )
        if peers is not None and not peers.leads:
            follow_leader(studio, config, training, peers)
            return
        listener, access = listen(host, port)
        with (
            listener,
            served_model(studio, model.resolve().name, str(place), config, training, peers) as served,
        ):
            tokens = f"{config.rows} x {served.engine.capacity:,} tokens"
            shared = f", {config.cache_tokens:,} together" if config.cache_tokens else ""
            cache = f"{tokens}{shared}, {served.engine.cache_bytes / 2**20:,.0f} MiB"
            echo(f"{model}: {cache}{f' on each of {tensor} ranks' if peers else ''}; pictures in {config.out}/")
            echo(f"{address_of(listener, access)}\nCtrl-C ends it.")
            run(serve_app(served, access), listener, served.engine.stop, served.engine.failed)
    echo("ended")
