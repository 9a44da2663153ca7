"""The command `sample-dump`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sample-dump")(sample_dump)


def sample_dump(
    folder: Annotated[Path, typer.Argument(help="Where to write it; made if missing.")],
    narrated: Annotated[bool, typer.Option(help="Two videos with subtitles, for recipe emu3_5.")] = False,
) -> None:
    """Write the sample dump: a small crawl of videos, images and texts, with known facts and with faults."""
    if narrated:
        from reelmill.pipelines.sampledump.narrated import VIDEOS, write_narrated_dump

        size = write_narrated_dump(folder)
        echo(f"{folder}: {len(VIDEOS)} narrated videos, {size / 1e6:.1f} MB")
        return
    from reelmill.pipelines.sampledump.write import write_sample_dump

    manifest = write_sample_dump(folder)
    echo(f"{folder}: {manifest.summary()}")
