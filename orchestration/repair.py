"""What to do about a damaged file of a run folder. docs/repair.md tells the same at length."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reelmill.errors import DataError
from reelmill.written_log import CHECKSUMS, WRITTEN_LOG

AGAIN = "then run the same `reelmill curate` again"
COPY = "put it back from a copy; without one, curate into another --out"

_IMPORTED = " (what was imported: import it again)"
_MADE_AGAIN = dict.fromkeys(
    ("failures", "audio", "transcripts", "judgements", "annotations", "duplicates", "alike", "schemas"), ""
) | {
    "tokens": _IMPORTED,
    "captions": _IMPORTED,
    "fetched": " (addresses are fetched again)",
}
"""Tables whose files a run makes again, and what it takes beside the command."""

MOST_NAMED = 5
"""So many damaged files are named by a command that only reads."""


@dataclass(frozen=True)
class Cure:
    """Files to remove (paths in the run folder), and what makes them anew or brings them back."""

    remove: tuple[str, ...]
    then: str


def cures(folder: Path, problems: Iterable[str]) -> list[str]:
    """A line for each kind of damage that `verify` found in a run folder: a command that can be pasted, and what next.

    Files with the same cure share a line. Problems that name no file of the folder have none.
    """
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(problem.partition(": ")[0] for problem in problems):
        if cure := cure_of(name):
            found.setdefault(cure.then, []).extend(cure.remove)
    lines = []
    for then, names in found.items():
        paths = " ".join(shlex.quote(str(folder / name)) for name in dict.fromkeys(names))
        lines.append(f"rm -f {paths}; {then}" if paths else then)
    return lines


def damage_error(folder: Path, problems: Sequence[str]) -> DataError:
    """What a command says that reads a damaged run folder: which file is damaged, and what to do about it."""
    todo = cures(folder, problems)
    named = "; ".join(problems[:MOST_NAMED]) + (f"; ... ({len(problems)} in all)" if len(problems) > MOST_NAMED else "")
    if len(todo) > 1 or len(problems) > MOST_NAMED:
        todo = [f"`reelmill verify {shlex.quote(str(folder))}` says what to do about each"]
    return DataError(f"{folder} is damaged, so nothing is answered: {named}. What to do: {', '.join(todo)}")


def cure_of(name: str) -> Cure | None:
    """What to do about one damaged or missing file, named by its path in the run folder; None for no file of one."""
    if name == f"{CHECKSUMS}/{WRITTEN_LOG}":
        return Cure((name,), "a file that is gone together with its checksum is no longer missed")
    # The file of a damaged record cannot be told from a damaged one.
    return _cure_of_file(name.removeprefix(f"{CHECKSUMS}/").removesuffix(".sha256"))


def _cure_of_file(name: str) -> Cure | None:
    path = PurePosixPath(name)
    here = _with_checksum(name)
    table = path.parts[0] if path.parts else ""
    if table in ("samples", "items", "embeddings"):
        others = _with_checksum(name) if table == "embeddings" else ()
        return Cure((*_with_checksum(f"items/{path.name}"), *_with_checksum(f"samples/{path.name}"), *others), AGAIN)
    if table in _MADE_AGAIN or name in ("run.json", "reelmill.duckdb"):
        if table == "fetched":  # rows name the tar of their bytes: without them its addresses are left to do
            rows = _with_checksum(f"fetched/{path.name[: len('unit-000000')]}.parquet")
            here = tuple(dict.fromkeys((*here, *rows)))
        return Cure(here, AGAIN + _MADE_AGAIN.get(table, ""))
    if table == "verdicts":
        selection = path.stem
        return Cure(here, AGAIN if selection == "default" else f"then run `reelmill select` for {selection!r} again")
    if table == "timings":
        return Cure(here, f"{AGAIN} (only CPU times are lost)")
    if name in ("plan.parquet", "recipe.toml"):
        return Cure((), f"{name}: {COPY}")
    return Cure(here, "the next run that writes to the folder writes it anew") if name == ".epoch" else None


def _with_checksum(name: str) -> tuple[str, ...]:
    return name, f"{CHECKSUMS}/{name}.sha256"
