"""Commands about clips: `clips export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.terminal import echo, tell

app = typer.Typer(no_args_is_help=True)


@app.callback()
def clips() -> None:
    """Kept clips and images as files: export them as WebDataset shards."""


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(help="Folder of the shards; made anew, or gone on with.", show_default=False)
    ],
    selection: Annotated[str, typer.Option(help="Whose kept samples.")] = "default",
    kind: Annotated[list[str] | None, typer.Option(help="video or image; both when not given.")] = None,
    shard_mb: Annotated[int, typer.Option(min=1, help="MiB after which a shard is full.")] = 512,
) -> None:
    """Write kept clips and images as WebDataset tars: bytes, caption, scores. Run it again and it goes on.

    Videos are cut at key frames without encoding them again; the JSON of each says where the clip lies in its file.
    """
    from reelmill.pipelines.clips.export import export_clips

    done = export_clips(out, folder, selection, kind or ("video", "image"), shard_mb, tell)
    whole = f", {done.whole:,} of them whole files" if done.whole else ""
    left_out = f"; {done.left_out:,} could not be read" if done.left_out else ""
    echo(f"{folder}: {done.samples:,} samples{whole}, {done.known:,} were there{left_out}")
