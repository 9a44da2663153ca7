"""The command `sample-dump`."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Annotated

import typer

from reelmill.errors import ConfigError
from reelmill.pipelines.shared_options import Port
from reelmill.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sample-dump")(sample_dump)


def sample_dump(
    folder: Annotated[Path, typer.Argument(help="Where to write it; made if missing.")],
    narrated: Annotated[bool, typer.Option(help="Two videos with subtitles, for recipe emu3_5.")] = False,
    urls: Annotated[
        bool, typer.Option(help="A table of URLs, and serve on --port what they lead to, until Ctrl-C.")
    ] = False,
    port: Port = 8765,
) -> None:
    """Write the sample dump: a small crawl of videos, images and texts, with known facts and with faults."""
    if narrated and urls:
        raise ConfigError("--narrated and --urls are two dumps; give one of them")
    if urls:
        _serve_urls(folder, port)
        return
    if narrated:
        from reelmill.pipelines.sampledump.narrated import VIDEOS, write_narrated_dump

        size = write_narrated_dump(folder)
        echo(f"{folder}: {len(VIDEOS)} narrated videos, {size / 1e6:.1f} MB")
        return
    from reelmill.pipelines.sampledump.write import write_sample_dump

    manifest = write_sample_dump(folder)
    echo(f"{folder}: {manifest.summary()}")


def _serve_urls(folder: Path, port: int) -> None:
    """Write the table of URLs and answer them, until Ctrl-C."""
    from reelmill.pipelines.sampledump.website import TABLE, site, write_url_table

    with site(port) as server:
        count = write_url_table(folder, server.server_address[1])
        echo(f"{folder / TABLE}: {count} URLs, served until Ctrl-C. In another terminal:")
        rest = ["--out", "out/urls", "--recipe", "sample", "--set", "fetch.allow_private=true"]
        echo("  " + shlex.join(["reelmill", "curate", str(folder / TABLE), *rest]))
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
