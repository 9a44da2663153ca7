"""Commands that measure: `eval reconstruction`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelmill.terminal import cell, echo, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from reelmill.eval.reconstruction import Evaluation, Kind, Quality, Summary

app = typer.Typer(no_args_is_help=True, help="Measure tokenizers.")

FEW = 2048
"""Under so many frames the covariance behind rFID has not even full rank."""


@app.command()
def reconstruction(
    tokenizer: Annotated[str, typer.Argument(help="A shipped tokenizer's name, or a file.", show_default=False)],
    media: Annotated[
        list[Path], typer.Argument(help="Pictures, videos, tars of them, or folders.", show_default=False)
    ],
    size: Annotated[int, typer.Option(help="Shorter side in pixels; Emu3's table has 128, 256, 512, 720.")] = 256,
    out: Annotated[
        Path | None, typer.Option(help="Folder for side-by-side pictures and scores.json, every file's scores.")
    ] = None,
    rfid: Annotated[
        bool, typer.Option("--rfid", help="Also rFID; its weights come by: reelmill models pull inception-fid")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Reconstruct pictures and videos with a tokenizer and say how near they come, in Emu3's Table 2 protocol."""
    from rich.console import Console
    from rich.progress import track

    from reelmill.errors import DataError
    from reelmill.eval.reconstruction import Evaluation
    from reelmill.files import write_text
    from reelmill.tokenize.vision import load
    from reelmill.train.vision.media import find

    sources = find(media)
    if not sources:
        raise DataError(f"no pictures or videos in {', '.join(map(str, media))}")
    evaluation = Evaluation(load(tokenizer), size, rfid=rfid, sheets=out / "pictures" if out else None)
    for source in track(sources, "Reconstructing", console=Console(stderr=True), transient=True):
        evaluation.add(source)
    if not evaluation.scores:
        raise DataError("nothing could be judged:\n" + "\n".join(evaluation.left_out[:20]))
    report = json.dumps(_report(evaluation), indent=2)
    if out is not None:
        write_text(out / "scores.json", report)
    if as_json:
        echo(report)
    else:
        _print(evaluation, Console(), out)


def _report(evaluation: Evaluation) -> dict[str, object]:
    kinds = {kind: summary for kind in ("video", "picture") if (summary := evaluation.summary(kind))}
    return {
        "tokenizer": evaluation.tokenizer.name,
        "fingerprint": evaluation.tokenizer.fingerprint,
        "size": evaluation.size,
        "summary": {kind: asdict(summary) for kind, summary in kinds.items()},
        "files": [asdict(score) for score in evaluation.scores],
        "left_out": evaluation.left_out,
    }


def _print(evaluation: Evaluation, console: Console, out: Path | None) -> None:
    for kind in ("video", "picture"):
        summary = evaluation.summary(kind)
        if summary is not None:
            console.print(_table(evaluation, kind, summary))
            if summary.rfid is not None and summary.frames < FEW:
                say(console, f"rFID over {summary.frames} frames: compare it only with rFID over the same ones.")
    for reason in evaluation.left_out:
        say(console, f"left out: {reason}")
    if out is not None:
        say(console, f"side by side: {out / 'pictures'}; file by file: {out / 'scores.json'}")


def _table(evaluation: Evaluation, kind: Kind, summary: Summary) -> Table:
    """Metrics down, what is measured across."""
    from rich.table import Table

    from reelmill.eval.reconstruction import EMU3

    columns = {evaluation.tokenizer.name: _cells(summary.quality, summary)}
    if summary.jpeg is not None:
        columns["JPEG, nearest rate"] = _cells(summary.jpeg)
    published = kind == "video" and evaluation.size in EMU3
    if published:
        columns["Emu3, as published*"] = _cells(EMU3[evaluation.size])
    noun = {"video": "videos (8 frames of 5 s each)", "picture": "pictures"}[kind]
    table = Table(
        title=f"{noun}: {summary.files}, at {evaluation.size} x {evaluation.size}",
        caption="* over 3,172 other videos" if published else None,
    )
    table.add_column("")
    for name in columns:
        table.add_column(cell(name), justify="right")
    for row in columns[evaluation.tokenizer.name]:
        table.add_row(row, *(cells.get(row, "") for cells in columns.values()))
    return table


def _cells(quality: Quality, summary: Summary | None = None) -> dict[str, str]:
    """What a column shows, by row; what was not measured is left out."""
    rows: list[tuple[str, float | None, str]] = [
        ("bits a pixel", quality.bits_per_pixel, ".3f"),
        ("PSNR, dB", quality.psnr, ".2f"),
        ("SSIM", quality.ssim, ".3f"),
        ("MS-SSIM", quality.ms_ssim, ".3f"),
        ("LPIPS (lower is nearer)", quality.lpips, ".3f"),
    ]
    if summary is not None:
        rows += [
            ("rFID (lower is nearer)", summary.rfid, ".2f"),
            ("flicker in chunks, levels", summary.flicker_within, ".2f"),
            ("flicker across chunks, levels", summary.flicker_across, ".2f"),
            ("codes used", summary.codes_used, ".1%"),
            ("perplexity", summary.perplexity, ",.0f"),
            ("tokens", summary.tokens, ",d"),
        ]
    return {name: format(value, form) for name, value, form in rows if value is not None}
