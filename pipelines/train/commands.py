"""Commands that learn: `train`, `export`."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelmill.pipelines.shared_options import ModelFolder
from reelmill.terminal import echo, log_to, tell, tell_beside

if TYPE_CHECKING:
    from reelmill.tokenize.shards import Selection

AUTO = "auto"
_NO_DATA = "there is nothing to train on: give --data OUT, a run folder with tokens, or --dry-run."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("export")(export)


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="auto (one that fits the data and this machine), tiny, small, 1b and others, or a TOML file."
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(help='Run folder; several are mixed, FOLDER=0.7 by share; "FOLDER WHERE width >= 512": a part.'),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where checkpoints go; runs/RECIPE when not given.")] = None,
    selection: Annotated[str, typer.Option(help="Whose kept samples; `all` takes every document.")] = "default",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change one value: optimizer.lr=1e-3")] = None,
    ray: Annotated[int, typer.Option(min=0, help="On so many workers of Ray Train; 0: here, or under torchrun.")] = 0,
    tokenizer: Annotated[
        str | None, typer.Option(help="Vision tokenizer for sample_prompts, where it is no shipped one.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check-data", help="Only read all the data; an error names bad rows.")
    ] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it needs, with --json for a script; no GPU, no data.")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="--dry-run: on so many GPUs; by default 8, or the fewest that hold it.")
    ] = None,
    gpu_memory: Annotated[float, typer.Option(help="--dry-run: GiB of each.")] = 80.0,
    peak: Annotated[float, typer.Option(help="--dry-run: dense bfloat16 TFLOP/s of each.")] = 989.0,
    bandwidth: Annotated[float, typer.Option(help="--dry-run: TB/s of the memory of each.")] = 3.35,
    network: Annotated[float, typer.Option(help="--dry-run: GB/s of each to other nodes of 8.")] = 50.0,
    mfu: Annotated[
        float | None, typer.Option(help="--dry-run: share of the peak that is hoped for; by default predicted.")
    ] = None,
    document: Annotated[float, typer.Option(help="--dry-run: tokens of a packed document; 0: a row's.")] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="For a script: a line of JSON for each step and validation.")
    ] = False,
) -> None:
    """Train a decoder on token shards; run it again and it goes on from its last checkpoint. Works under torchrun.

    SIGTERM, SIGUSR1 and Ctrl-C end it after the present step, saved, with exit code 75 (Ctrl-C: 130).
    """
    from rich.console import Console

    from reelmill.config import from_dict, override, read_toml, to_dict
    from reelmill.errors import ConfigError, resumable
    from reelmill.pipelines.train.mixture import chosen
    from reelmill.pipelines.train.run import train_here, train_on_ray
    from reelmill.train import recipes
    from reelmill.train.config import TrainConfig
    from reelmill.train.data.config import mixture

    folders, shares, conditions = mixture(data or [])
    kept = None if selection == "all" else selection
    fitted: list[str] = []
    if recipe == AUTO:
        recipe, fitted = _fitting(folders, chosen(folders, conditions, kept))
    is_file = recipe.endswith(".toml")
    loaded = from_dict(TrainConfig, read_toml(Path(recipe))) if is_file else recipes.recipe(recipe)
    config = override(loaded, [*fitted, *(set_ or [])])
    if shares:
        config.data.shares = shares
    if dry:
        from reelmill.pipelines.train.dryrun import dry_run
        from reelmill.train.dryrun import Machine
        from reelmill.train.roofline import Rates

        rates = Rates(flops=peak * 1e12, memory=bandwidth * 1e12, network=network * 1e9)
        machine = Machine(gpus=gpus or 8, memory=gpu_memory, rates=rates, mfu=mfu)
        dry_run(config, folders, machine, document, Console(), as_json=as_json, choose=gpus is None)
        return
    if not folders:
        raise ConfigError(_NO_DATA)
    if check:
        from reelmill.train.check_data import check_data

        echo(check_data(config, folders, chosen(folders, conditions, kept)))
        return
    place = out or Path("runs") / Path(recipe).stem
    settings = {
        "recipe": to_dict(config),
        "data": list(map(str, folders)),
        "out": str(place),
        "conditions": conditions,
        "selection": kept,
        "tokenizer": tokenizer,
        "json": as_json,
    }
    is_first = os.environ.get("RANK", "0") == "0"
    show = echo if as_json else tell
    with resumable(), log_to(place, f"train {recipe} on {', '.join(data or [])}") if is_first else nullcontext():
        if ray:
            train_on_ray(settings, ray, show)
        else:
            train_here(settings, show)
    if is_first and not as_json:
        task = _task_of(place)
        tell(f'Next: reelmill generate {place} {task}--prompt "a windmill turning on a hill"')


def _task_of(run: Path) -> str:
    """The option with which a model draws from words that has learned tasks alone."""
    from reelmill.train.checkpoint import find
    from reelmill.train.provenance import Training

    place = find(run)
    training = Training.of(place) if place else None
    learned = (training and training.learned) or ()
    return "--task t2i " if "t2i" in learned and "image" not in learned else ""


def _fitting(folders: list[Path], selection: list[Selection]) -> tuple[str, list[str]]:
    """The recipe that fits, which is said, and its settings."""
    from reelmill.errors import ConfigError
    from reelmill.train.fitting import fitting

    if not folders:
        raise ConfigError(_NO_DATA)
    fit = fitting(folders, selection)
    tell_beside(f"auto: {' '.join(fit.words)} ({fit.reason})")
    return fit.name, fit.settings


def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    architecture: Annotated[str, typer.Option(help="emu3, llama, qwen3 or emu3.5; by default the one that fits.")] = "",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    context_tokens: Annotated[int, typer.Option(help="Longest sequence that config.json states.")] = 131_072,
) -> None:
    """Write a model in Hugging Face's layout: config.json and sharded safetensors that transformers loads."""
    import torch

    from reelmill.config import nearest
    from reelmill.errors import ConfigError
    from reelmill.eval.generation.loading import find_model, load_decoder
    from reelmill.train.hub import CLASSES, export_model
    from reelmill.train.provenance import Training

    if architecture and architecture not in CLASSES:
        raise ConfigError(f"no architecture {architecture!r}; {nearest(architecture, CLASSES)}")
    if dtype not in (dtypes := ("bfloat16", "float16", "float32")):
        raise ConfigError(f"no dtype {dtype!r}; {nearest(dtype, dtypes)}")
    place = find_model(model)
    decoder, vocab = load_decoder(place)
    written = export_model(
        decoder,
        vocab,
        out,
        layout=architecture or None,
        dtype=getattr(torch, dtype),
        context=context_tokens,
        training=Training.of(place),
    )
    echo(f"{out}: {CLASSES[written].name}, {dtype}")
