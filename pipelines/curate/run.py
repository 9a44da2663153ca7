"""`reelmill curate`: plan, score, decide, caption, tokenize; each stage does what its table lacks."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import reelmill
from reelmill import weights
from reelmill.compat import installed_version
from reelmill.config import differences, identity, to_toml
from reelmill.curation import scorers, syntax
from reelmill.curation.embeddings import EMBEDDINGS
from reelmill.curation.ledger import (
    ALIKE,
    ANNOTATIONS,
    AUDIO,
    CAPTIONS,
    DUPLICATES,
    FAILURES,
    FETCHES,
    ITEMS,
    JUDGEMENTS,
    TIMINGS,
    TRANSCRIPTS,
    VERDICTS,
    samples_schema,
)
from reelmill.curation.readers import find_reader
from reelmill.curation.readers.folder import LINKS
from reelmill.curation.scoring import score_columns, score_fingerprint
from reelmill.curation.speech.voice import WEIGHTS as VOICE
from reelmill.errors import ConfigError, DataError
from reelmill.isolation.confinement import available
from reelmill.orchestration import fetch, score
from reelmill.orchestration.changed import has_changed
from reelmill.orchestration.engine import Task, stop_ray
from reelmill.orchestration.listed import planned_rows
from reelmill.orchestration.picture_spool import drop_pictures
from reelmill.orchestration.plan import Planned, extend_plan
from reelmill.orchestration.prune import drop_machine_failures, prune
from reelmill.orchestration.recipe import Recipe, load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.stages import StageRunner
from reelmill.pipelines.curate import annotations as annotation
from reelmill.pipelines.curate import captions as caption
from reelmill.pipelines.curate import judging, speech
from reelmill.pipelines.curate.recipes import DEFAULT
from reelmill.pipelines.curate.remote import COPIES, copied, objects_at
from reelmill.pipelines.curate.verdicts import (
    assignments_of,
    decide_again,
    forget_selections,
    recover,
    write_all_verdicts,
    write_verdicts,
)
from reelmill.pipelines.report.card import refresh as refresh_card
from reelmill.terminal import LOG, log_to, say
from reelmill.tokenize.shards import TOKENS_SCHEMA
from reelmill.written_log import CHECKSUMS

EXCLUDED = "excluded"
"""Folder of OUT with a run folder for each place of pictures that must not be trained on."""


@dataclass(frozen=True)
class CurateOptions:
    """What the user asked for beside the recipe."""

    prefix: str = ""
    limit: int | None = None
    share: float = 1.0
    update: bool = False
    retry: frozenset[str] = frozenset()
    """Classes of failures to try again: "machine", "scorer", "fetch", "fetch:REASON"."""
    refetch: bool = False
    """Ask again about everything that was fetched."""


def curate(
    dumps: Sequence[Path | str], out: Path, recipe: Recipe, options: CurateOptions, console: Console
) -> RunFolder:
    """Bring the run folder `out` to the state that `dumps` and `recipe` ask for; does only what is missing.

    A dump that is a text is an address (`remote.py`).

    Raises ConfigError when `out` was made with another recipe and `options.update` is off, or is no place for a run;
    DataError for a dump that is none.
    """
    folder = RunFolder(out)
    check_curation(dumps, folder, recipe, options, console)
    try:
        with folder.lock() as locked, log_to(locked.root, f"curate {', '.join(map(str, dumps))} by {recipe.name}"):
            runner = StageRunner(locked, recipe, console)
            _prepare(runner)
            recover(locked, recipe, console)
            found = []
            for dump in dumps:
                here = dump if isinstance(dump, Path) else copied(dump, locked.root, console)
                found.append(f"{dump}: {_plan(locked, here, recipe, options, console)}")
            if not planned_rows(locked):
                raise DataError(
                    f"there is nothing to curate in {'; '.join(found)}. Videos, pictures, texts, archives and tables "
                    "of them are read: docs/dumps.md"
                )
            _fetch(runner, options)
            _score(runner, "score", score.score_tasks(locked, runner.score_fingerprint, options.retry))
            prune(locked)
            if "machine" in options.retry:
                drop_machine_failures(locked)
            speech.hear(runner, retry="machine" in options.retry)
            decide_again(locked, recipe, console)
            complete_selection(runner, DEFAULT)
            drop_pictures(locked)
            refresh_card(locked)
    finally:
        stop_ray()
    return folder


def check_curation(
    dumps: Sequence[Path | str], folder: RunFolder, recipe: Recipe, options: CurateOptions, console: Console
) -> None:
    """Raise what `curate` raises before anything is written."""
    _check_places(dumps, folder, recipe)
    _agree(folder, recipe, options.update, console)
    _require_weights(recipe)


def score_skipped(runner: StageRunner, selection: str) -> None:
    """Score the undecided samples of a selection that a scorer skipped under other rules, and decide again."""
    folder, recipe = runner.folder, runner.recipe
    again = score.requeued_tasks(folder, selection, recipe.rules, recipe.score)
    if _score(runner, "score again", again):
        write_verdicts(folder, selection, recipe, assignments_of(folder, selection))


def complete_selection(runner: StageRunner, selection: str, *, is_second: bool = False) -> None:
    """Score, caption and tokenize what the kept samples of a selection lack.

    Items that turn out to have changed since they were scored go through all of it once more.
    """
    from reelmill.orchestration import tokens

    folder, recipe = runner.folder, runner.recipe
    score_skipped(runner, selection)
    if speech.transcribe(runner, selection):
        _decide_once_more(runner, selection)
    if judging.judge(runner, selection):
        _decide_once_more(runner, selection)
    caption.caption_selection(runner, selection)
    annotation.annotate(runner, selection)
    fingerprint, tokenizer = tokens.tokenize_selection(runner, selection, caption.required(recipe))
    if selection == DEFAULT:  # another selection may have tokens of its own, which are not the run's
        _write_run(folder, recipe, fingerprint, tokenizer)
    if not is_second and has_changed(folder):
        recover(folder, recipe, runner.console)
        _score(runner, "score again", score.score_tasks(folder, runner.score_fingerprint))
        decide_again(folder, recipe, runner.console)
        complete_selection(runner, selection, is_second=True)
        return
    speech.require_transcripts(runner, selection)
    annotation.require_annotations(runner, selection)
    caption.require_captions(runner, selection)


def _score(runner: StageRunner, stage: str, tasks: list[Task]) -> bool:
    """Run the score stage; key frames that documents will show are kept."""
    if not tasks or runner.recipe.tokens.documents != "narrated":
        return runner.run(stage, score.WORKER, tasks)
    from reelmill.orchestration.narrated import wanted_pictures

    return runner.run(stage, score.WORKER, tasks, pictures=wanted_pictures(runner.recipe))


def _decide_once_more(runner: StageRunner, selection: str) -> None:
    """With what was measured of kept samples; for the run itself all its selections."""
    folder, recipe = runner.folder, runner.recipe
    if selection == DEFAULT:
        write_all_verdicts(folder, recipe, runner.console)
    else:
        write_verdicts(folder, selection, recipe, assignments_of(folder, selection))


def _check_places(dumps: Sequence[Path | str], folder: RunFolder, recipe: Recipe) -> None:
    """A wrong path stops here, before anything is made."""
    for dump in dumps:
        if isinstance(dump, str):
            objects_at(dump)
            continue
        find_reader(dump, recipe.plan.readers, recipe.plan.columns)
        if folder.root.is_relative_to(dump.resolve()):
            raise ConfigError(f"--out {folder.root} lies in the dump {dump}; choose an --out outside of it")
    if folder.root.is_dir() and not folder.exists():
        left = {CHECKSUMS, LOG, COPIES, EXCLUDED}  # by a run that was killed at its very start
        names = (path.name for path in folder.root.iterdir())
        if others := sorted(name for name in names if not name.startswith(".") and name not in left):
            raise ConfigError(
                f"--out {folder.root} is no run folder and holds {others[0]!r}; choose an empty or new one"
            )


def _agree(folder: RunFolder, recipe: Recipe, update: bool, console: Console) -> None:
    """Stop when the folder was made with another recipe, unless that is wanted."""
    if not folder.exists():
        return
    old = load_recipe(folder.root)
    changes = differences(identity(old), identity(recipe))
    if changes and not update:
        lines = "\n  ".join(changes)
        raise ConfigError(
            f"{folder.root} was made with another recipe:\n  {lines}\nAdd --update to go on with the new one (what it "
            "changes is done anew, the rest is kept), or choose another --out."
        )
    if changes:
        say(console, "; ".join(changes), head="recipe")


def _require_weights(recipe: Recipe) -> None:
    """Fail before the work, naming the command, when weights or a pipeline of spaCy are missing."""
    for name, options in recipe.score.scorers.items():
        for card in scorers.scorer_class(options.get("use", name)).weights:
            weights.path(card)
    if recipe.sound.measure:
        weights.path(VOICE)
    if recipe.tokens.narration.spacy:
        syntax.require(recipe.tokens.narration.spacy)


def _prepare(runner: StageRunner) -> None:
    """Recipe, empty tables and views: a folder that answers queries before its first row."""
    folder, recipe = runner.folder, runner.recipe
    if folder.exists():
        forget_selections(folder, load_recipe(folder.root), recipe)
    folder.commit_text(folder.recipe_path, to_toml(recipe))
    columns = samples_schema(score_columns(recipe.score))
    tables = {"items": ITEMS, "samples": columns, "captions": CAPTIONS, "failures": FAILURES, "audio": AUDIO}
    tables |= {"transcripts": TRANSCRIPTS, "annotations": ANNOTATIONS, "duplicates": DUPLICATES, "fetches": FETCHES}
    tables |= {"alike": ALIKE, "judgements": JUDGEMENTS, "embeddings": EMBEDDINGS}
    folder.prepare({**tables, "timings": TIMINGS, "verdicts": VERDICTS, "tokens": TOKENS_SCHEMA})
    runner.database.write()


def plan_dump(folder: RunFolder, dump: Path, recipe: Recipe, options: CurateOptions) -> Planned:
    """Append what a dump has that the plan of the folder does not know, as the recipe and the options say."""
    return extend_plan(
        folder,
        dump,
        recipe.plan,
        options.prefix,
        options.limit,
        options.share,
        recipe.score.expanders,
        with_addresses=recipe.fetch.enabled,
        workers=recipe.engine.expected_workers(),
    )


def _plan(folder: RunFolder, dump: Path, recipe: Recipe, options: CurateOptions, console: Console) -> Planned:
    planned = plan_dump(folder, dump, recipe, options)
    say(console, f"{dump}: {planned}", head="plan")
    if LINKS in planned.ignored:
        advice = "links to folders are not followed: name the folders themselves as dumps"
        say(console, advice, head="plan", style="bold yellow")
    if not planned.new_items + planned.known_items:
        say(console, f"nothing to curate in {dump}", head="plan", style="bold yellow")
    return planned


def _fetch(runner: StageRunner, options: CurateOptions) -> None:
    """Fetch the addresses that are left; what turns out to have changed goes back to scoring."""
    folder, recipe = runner.folder, runner.recipe
    if not recipe.fetch.enabled:
        return
    tasks = fetch.fetch_tasks(folder, options.retry, again=options.refetch)
    runner.follow("fetch", tasks, fetch.fetch_units(folder, recipe.fetch, recipe.score.expanders.keys(), tasks))
    if tasks and has_changed(folder):
        recover(folder, recipe, runner.console)


def _write_run(folder: RunFolder, recipe: Recipe, fingerprint: str, tokenizer: str) -> None:
    """`run.json`: versions and hashes that the run's numbers depend on."""
    names = ("torch", "ray", "duckdb", "pyarrow", "av", "scenedetect-headless", "rapidocr", "onnxruntime", "numpy")
    used = {VOICE} if recipe.sound.measure else set()
    used |= {card for n, o in recipe.score.scorers.items() for card in scorers.scorer_class(o.get("use", n)).weights}
    cards = weights.cards()
    run = {
        "reelmill": reelmill.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "confinement": str(available()) if recipe.score.isolation.confine else "rlimits",
        "packages": {name: installed_version(name) for name in names},
        "weights": {name: cards[name].sha256 for name in sorted(used)},
        "vision_tokenizer": {"name": recipe.tokens.tokenizer, "fingerprint": tokenizer},
        "tokens_fingerprint": fingerprint,
        "score_fingerprint": score_fingerprint(recipe.score),
    }
    folder.commit_text(folder.root / "run.json", json.dumps(run, indent=2) + "\n")
