"""Commands over a run folder: `sql`, `select`, `compare`, `similar`, `verify`, `forget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.pipelines.shared_options import Check
from reelmill.terminal import echo, echo_json, progress_console

Out = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("sql")(sql)
    app.command("select")(select)
    app.command("compare")(compare)
    app.command("similar")(similar)
    app.command("verify")(verify)
    app.command("forget")(forget)


def sql(
    out: Out,
    query: Annotated[str, typer.Argument(help="SQL over the views items, samples, tokens.", show_default=False)],
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that the query may take; 0: no limit.")] = 0.0,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Run a query over the views. The connection reads this run folder and nothing else.

    Of more than 12 columns those are shown that hold something and that the terminal has room for.
    """
    from rich.console import Console

    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.orchestration.views import LedgerQueries
    from reelmill.pipelines.tables import print_answer

    folder = RunFolder(out).require_sound(check)
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.ask(query, timeout_s=timeout).to_pylist()
    if as_json:
        echo_json(rows)
    else:
        print_answer(Console(), rows)


def select(
    out: Out,
    name: Annotated[str, typer.Argument(help="Name of the selection.", show_default=False)],
    set_: Annotated[list[str] | None, typer.Option("--set", help="rules.motion.min=0.05")] = None,
    preset: Annotated[str, typer.Option(help="Changes that have a name: qft, for quality fine-tuning.")] = "",
    keep: Annotated[float | None, typer.Option(help="Share to keep of what passes, the best by their scores.")] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(help="Column to rank by, several: their mean. Human preference and aesthetics if not given."),
    ] = None,
    complete: Annotated[bool, typer.Option(help="Score, caption and tokenize what the selection lacks.")] = False,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Decide again under other rules, beside what is there: verdicts/NAME.parquet, and what changed."""
    from dataclasses import asdict

    from rich.console import Console

    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.pipelines.ledger.select import SelectOptions, print_selected
    from reelmill.pipelines.ledger.select import select as run

    RunFolder(out).require_sound(check, but=f"verdicts/{name}.parquet")
    console = progress_console(stderr=as_json)
    selected = run(out, name, SelectOptions(set_ or [], preset, keep, score or [], complete), console)
    if as_json:
        echo_json(asdict(selected))
    else:
        print_selected(selected, Console())


def compare(
    first: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another one, or the same with two selections.", show_default=False)],
    before: Annotated[str, typer.Option(help="Selection of the first folder.")] = "default",
    after: Annotated[str, typer.Option(help="Selection of the second folder.")] = "default",
    listed: Annotated[int, typer.Option(min=0, help="Samples that are listed one by one.")] = 20,
    page: Annotated[Path | None, typer.Option(help="Also write a page with pictures of these samples.")] = None,
    as_json: Json = False,
) -> None:
    """What two run folders, or two selections of one, say of the same samples: verdicts and captions that differ."""
    from dataclasses import asdict

    from rich.console import Console

    from reelmill.pipelines.ledger.compare import compare as run
    from reelmill.pipelines.ledger.compare import print_comparison
    from reelmill.pipelines.report.compare_page import write_page

    found = run(first, second, (before, after), listed)
    if page is not None:
        names = (f"{first} {before}", f"{second} {after}")
        write_page(asdict(found), (first, second), names, page)
    if as_json:
        echo_json(asdict(found))
    else:
        print_comparison(found, Console())


def similar(
    out: Out,
    wanted: Annotated[str, typer.Argument(help="sample_id, file, or words (CLIP).", show_default=False)],
    most: Annotated[int, typer.Option(min=1, help="Samples that are shown.")] = 10,
    model: Annotated[str, typer.Option(help="Whose embeddings, where OUT has several.")] = "",
    check: Check = False,
    as_json: Json = False,
) -> None:
    """The samples whose embeddings are nearest to that of a sample, a picture, a video or words."""
    from rich.console import Console

    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.pipelines.ledger.similar import similar as run
    from reelmill.pipelines.tables import print_table

    RunFolder(out).require_sound(check)
    rows = run(out, wanted, most, model)
    if as_json:
        echo_json(rows)
    else:
        print_table(Console(), rows)


def forget(
    out: Out,
    uri: Annotated[str, typer.Option(help="Items whose uri matches this pattern (* and ?).")] = "",
    licence: Annotated[str, typer.Option(help="Items under this licence.")] = "",
    item: Annotated[str, typer.Option(help="The item of this item_id.")] = "",
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove items, their samples and tokens for good; a rerun does not bring them back."""
    from rich.console import Console

    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.pipelines.ledger.forget import Criterion, print_matching
    from reelmill.pipelines.ledger.forget import forget as run

    folder, criterion = RunFolder(out).require(), Criterion(uri, licence, item)
    if dry:
        print_matching(folder, criterion, Console())
    else:
        run(folder, criterion, progress_console())


def verify(out: Out, as_json: Json = False) -> None:
    """Find any flipped bit, missing file, ill-formed document or broken reference. Exit code 4 when there is one.

    OUT is a run folder, a training run, or a folder of `reelmill prefer`.
    """
    from reelmill.errors import DataError
    from reelmill.orchestration.repair import cures
    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.pipelines.ledger import verify as verifying

    if verifying.holds_checkpoints(out):
        found = verifying.verify_checkpoints(out)
    elif verifying.holds_preferences(out) and not RunFolder(out).exists():
        found = verifying.verify_preferences(out)
    else:
        found = verifying.verify(RunFolder(out).require())
    if as_json:
        echo_json({"problems": found.problems, "files": found.files, "documents": found.documents})
    if found.problems:
        several = "s" * (len(found.problems) != 1)
        lines = [f"{len(found.problems)} problem{several} in {out}:", *found.problems]
        if todo := cures(out, found.problems):
            lines += ["What to do (docs/repair.md):", *todo]
        raise DataError("\n  ".join(lines))
    if not as_json:
        echo(f"{out}: {found.files} files and {found.documents} documents, all sound")
