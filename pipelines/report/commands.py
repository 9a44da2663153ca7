"""Commands that show and tell: `report`, `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.pipelines.shared_options import Check
from reelmill.terminal import echo, echo_json

Out = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("report")(report)
    app.command("explain")(explain)


def report(
    out: Out,
    beside: Annotated[
        str, typer.Option(help="A second vision tokenizer, whose reconstructions are shown beside the run's own.")
    ] = "",
    check: Check = False,
    as_json: Json = False,
) -> None:
    """One self-contained page about a run folder, OUT/report/index.html, and its dataset card, OUT/README.md."""
    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.pipelines.report.page import write_report

    RunFolder(out).require_sound(check)
    written = write_report(out, beside)
    if as_json:
        facts = {"page": str(written.page), "card": str(written.card), "bytes": written.bytes}
        echo_json({**facts, "tiles": written.tiles, "pairs": written.pairs})
    else:
        size = f"{written.bytes / 1e6:.1f} MB, {written.tiles} clips, {written.pairs} reconstructions"
        echo(f"{written.page}: {size}\n{written.card}")


def explain(
    out: Out,
    sample: Annotated[
        str, typer.Argument(help="A sample's id, the first digits of one, or a uri.", show_default=False)
    ],
    png: Annotated[Path | None, typer.Option(help="Also draw its frames and facts to this file.")] = None,
    page: Annotated[Path | None, typer.Option(help="Also write a narrated sample as a page to this file.")] = None,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Everything about a sample: scores, rules with their margins, caption, frames and documents."""
    from rich.console import Console

    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.pipelines.report.explain import explain as ask
    from reelmill.pipelines.report.explain import print_explained
    from reelmill.pipelines.report.explain_png import draw
    from reelmill.pipelines.report.narration_page import write_page

    RunFolder(out).require_sound(check)
    found = ask(out, sample)
    if png is not None:
        draw(out, found, png)
    if page is not None:
        write_page(out, found, page)
    if as_json:
        echo_json(found)
    else:
        print_explained(found, Console())
