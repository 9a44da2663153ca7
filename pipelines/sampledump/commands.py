"""The command `sample-dump`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sample-dump")(sample_dump)


def sample_dump(folder: Annotated[Path, typer.Argument(help="Where to write it; made if missing.")]) -> None:
    """Write the sample dump: a small crawl of videos, images and texts, with known facts and with faults."""
    from reelmill.pipelines.sampledump.write import write_sample_dump

    manifest = write_sample_dump(folder)
    echo(f"{folder}: {manifest.summary()}")
