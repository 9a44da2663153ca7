"""Commands from a dump to token shards: `curate`, `stats`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from reelmill.pipelines.shared_options import Check
from reelmill.terminal import echo_json, progress_console, say

Dumps = Annotated[
    list[str],
    typer.Argument(
        help="What to read: folders, tars, zips, WARC, Parquet, JSON lines, files, URL tables; or an address of such: "
        "s3://, gs://, az://, https://.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="Run folder; made anew, or gone on with.", show_default=False)]
RunPlace = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Change one value: rules.motion.min=0.05")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("curate")(curate)
    app.command("stats")(stats)


def curate(
    dumps: Dumps,
    out: Out,
    recipe: Annotated[str, typer.Option(help="Recipe name or TOML file.")] = "video",
    set_: Sets = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first items of each dump.")] = None,
    sample: Annotated[float, typer.Option(min=0, max=1, help="Only so many of the items: 0.01 takes 1 %.")] = 1.0,
    reader: Annotated[
        list[str] | None,
        typer.Option(help="A reader of one's own, `package.module:Class`; asked before those of reelmill."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before the uris of these dumps.")] = "",
    update: Annotated[bool, typer.Option(help="Go on with a changed recipe.")] = False,
    retry: Annotated[
        list[str] | None,
        typer.Option(
            help="Try again: `machine`, what failed by the machine's fault; `scorer`, where a scorer failed; `fetch`, "
            "URLs that failed; `fetch:timeout`, those with this reason."
        ),
    ] = None,
    refetch: Annotated[
        bool, typer.Option(help="Ask again about all URLs that were fetched; take what changed.")
    ] = False,
    raft: Annotated[str, typer.Option(help="`all`: optical flow on every pair of frames, as on a GPU.")] = "",
    against: Annotated[
        list[Path] | None, typer.Option(help="Another run folder: what it keeps is a duplicate here. Several.")
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            help="What must not be trained on, such as an evaluation set: pictures and videos (a folder, an archive, "
            "a table), a list of texts (.txt, .jsonl, .parquet) or hashes (.sha256, .pdq), a run folder. Several."
        ),
    ] = None,
    trust_dump: Annotated[
        bool, typer.Option("--trust-dump", help="Tell by size, time and first bytes that a file did not change.")
    ] = False,
    executor: Annotated[str, typer.Option(help="ray or inline; the recipe's when not given.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one per CPU.")] = 0,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; nothing is written.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="The same, with what the dumps hold and about what it will cost.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a script: print what `stats --json` prints.")] = False,
) -> None:
    """Dump to token shards: plan, score, decide, caption, tokenize. Run it again and it does what is missing."""
    from dataclasses import asdict

    from rich.console import Console

    from reelmill.curation.scorers.motion import raft_assignments
    from reelmill.errors import resumable
    from reelmill.orchestration.fetch import check_retry
    from reelmill.pipelines.curate import recipes
    from reelmill.pipelines.curate.excluded import hash_places, is_list, places_of, without_lists
    from reelmill.pipelines.curate.next_steps import next_commands
    from reelmill.pipelines.curate.remote import is_remote
    from reelmill.pipelines.curate.run import CurateOptions
    from reelmill.pipelines.curate.run import curate as run
    from reelmill.pipelines.curate.stats import gather, print_stats

    for entry in {*(retry or ())} - {"machine", "scorer"}:
        check_retry(entry)
    engine = [f"engine.executor={executor}"] if executor else []
    engine += [f"engine.workers={workers}"] if workers else []
    engine += ["tokens.trust_dump=true"] if trust_dump else []
    readers = [f"plan.readers={json.dumps(reader)}"] if reader else []
    lists = [path for path in exclude or () if is_list(path)]
    folders = [path for path in exclude or () if not is_list(path)]
    excluded = places_of(out, folders, recipes.load(recipe, set_ or [])) if folders else {}
    others = [
        f"duplicates.{name}={json.dumps([str(path.resolve()) for path in paths])}"
        for name, paths in (("against", against), ("exclude", [*excluded.values()]))
        if paths
    ]
    loaded = recipes.load(recipe, [*(set_ or []), *others, *raft_assignments(raft), *engine, *readers])
    if lists:
        loaded = without_lists(loaded, lists)
        recipes.check(loaded)
    console = progress_console(stderr=as_json)
    places = [place if is_remote(place) else Path(place) for place in dumps]
    options = CurateOptions(prefix, limit, sample, update, frozenset(retry or ()), refetch)
    if dry or plan_only:
        from reelmill.pipelines.curate.dry_run import preview, print_preview

        found = preview(places, out, loaded, options, console, with_survey=plan_only)
        if as_json:
            echo_json(asdict(found))
        else:
            print_preview(found, Console())
        return
    with resumable():
        hash_places(excluded, loaded, console)
        folder = run(places, out, loaded, options, console)
    if as_json:
        echo_json(gather(folder.root))
        return
    print_stats(folder.root, console)
    say(console, "\nNext: " + " · ".join(next_commands(out)))


def stats(
    out: RunPlace,
    selection: Annotated[str, typer.Option(help="Whose verdicts.")] = "default",
    check: Check = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """What became of every item and sample: funnel by stage and rule, tokens by kind and source."""
    from rich.console import Console

    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.pipelines.curate.stats import gather, print_stats

    RunFolder(out).require_sound(check)
    if as_json:
        echo_json(gather(out, selection))
    else:
        print_stats(out, Console(), selection)
