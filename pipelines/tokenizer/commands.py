"""Commands about vision tokenizers: `tokenizer list`, `show`, `train`, `encode`, `decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.terminal import echo, echo_json, tell

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A shipped tokenizer, or a .safetensors file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """Every configuration: parameters, grid, codebook, and whether its weights are here."""
    from rich.console import Console
    from rich.table import Column, Table

    from reelmill.pipelines.tokenizer.run import describe
    from reelmill.tokenize.vision.presets import PRESETS

    rows = [describe(name) for name in PRESETS]
    if json:
        echo_json(rows)
        return
    table = Table("name", Column("parameters", justify="right"), "covers", "codes", "weights")
    for row in rows:
        cube = f"{row['spatial']}x{row['spatial']}x{row['temporal']}"
        weights = "shipped" if row["shipped"] else "not here"
        table.add_row(row["name"], f"{row['parameters']:,}", cube, f"{row['codes']:,}", weights)
    Console().print(table)


@app.command("show")
def show(name: Name, json: Json = False) -> None:
    """One tokenizer: configuration, parameters by part, grid, codebook, fingerprint where its weights are here."""
    from reelmill.pipelines.tokenizer.run import describe

    described = describe(name)
    if json:
        echo_json(described)
        return
    for key, value in described.items():
        is_count = isinstance(value, int) and not isinstance(value, bool)
        echo(f"{key:16}{value:,}" if is_count else f"{key:16}{value}")


@app.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="Recipe: reelmill-tok-s, …, or a TOML file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the tokenizer, its log, pictures and state.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of pictures and videos or of WebDataset tars, or a run folder (its kept samples)."),
    ] = None,
    held_out: Annotated[list[Path] | None, typer.Option(help="Folder to judge on; else a share of --data.")] = None,
    share: Annotated[float, typer.Option(help="That share.", min=0, max=0.5)] = 0.02,
    media: Annotated[Path | None, typer.Option(help="Without --data: where the listed media go; OUT/media.")] = None,
    selection: Annotated[str, typer.Option(help="Whose kept samples of a run folder.")] = "default",
    until: Annotated[int | None, typer.Option(min=1, help="Stop before this step, saved.", show_default=False)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change one value: optimizer.lr=1e-3")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train nothing; say as JSON what it would take.")] = False,
) -> None:
    """Train a vision tokenizer; run it again and it goes on. Without --data it fetches what the shipped one was
    trained on. Works under torchrun."""
    from reelmill.config import from_dict, override, read_toml
    from reelmill.errors import resumable
    from reelmill.pipelines.tokenizer.run import plan, training_media
    from reelmill.train.vision import recipes
    from reelmill.train.vision.config import TokenizerRecipe
    from reelmill.train.vision.run import train as run

    is_file = recipe.endswith(".toml")
    loaded = from_dict(TokenizerRecipe, read_toml(Path(recipe))) if is_file else recipes.recipe(recipe)
    wanted = override(loaded, set_ or [])
    if dry_run:
        echo_json(plan(wanted))
        return
    chosen, judged = training_media(data or [], held_out or [], share, media or out / "media", selection)
    with resumable():
        path = run(wanted, chosen, judged, out, until=until, log_fn=tell)
    echo(f"{path}; measure it: reelmill eval reconstruction {path} FOLDER")


@app.command("encode")
def encode(
    name: Name,
    file: Annotated[Path, typer.Argument(help="A picture or a video.", show_default=False)],
    codes: Annotated[Path, typer.Argument(help="The .npz file to write.", show_default=False)],
    fps: Annotated[float, typer.Option(help="Frames per second of a video.")] = 8.0,
    area: Annotated[int, typer.Option(help="Pixels a frame is resized to, its aspect kept; 0: as it is.")] = 0,
) -> None:
    """Write the codes of a picture (h, w) or a video (T, h, w), with size and frame rate, as a NumPy archive."""
    from reelmill.pipelines.tokenizer.run import encode_file

    echo(encode_file(name, file, codes, fps, area))


@app.command("decode")
def decode(
    name: Name,
    codes: Annotated[Path, typer.Argument(help="What `encode` wrote.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="PNG of a picture, MP4 of a video.", show_default=False)],
) -> None:
    """Write the picture or the video that codes stand for."""
    from reelmill.pipelines.tokenizer.run import decode_file

    echo(decode_file(name, codes, file))
