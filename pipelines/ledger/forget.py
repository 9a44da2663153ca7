"""`reelmill forget`: take items out for good. Samples, captions and tokens go; a tombstone stays in the plan.

The tombstone is committed first and is the whole intent (`orchestration/forgotten.py`). Whatever scores its unit again,
today or under another recipe, gets a refused row instead of the item. A `forget` that was interrupted is finished by
the next command that writes to the run folder.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from reelmill.curation.ledger import FORGOTTEN
from reelmill.curation.rules import quoted
from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.forgotten import bury
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, write_database
from reelmill.pipelines.curate.verdicts import recover
from reelmill.terminal import log_to, say

SHOWN = 20
"""Items that are named before the others are counted."""

_THEIRS = """
SELECT (SELECT count(*) FROM scored WHERE list_contains($1, item_id)) AS samples,
    (SELECT count(*) FROM tokens WHERE list_contains($1, item_id)) AS documents"""


@dataclass(frozen=True)
class Criterion:
    """What to forget: items by uri (SQL GLOB pattern), by licence, or by id."""

    uri: str = ""
    licence: str = ""
    item: str = ""

    def sql(self) -> tuple[str, list[str], str]:
        """Condition over items, its parameters, and the reason on the tombstones. ConfigError unless one is given."""
        given = [(name, value) for name, value in vars(self).items() if value]
        if len(given) != 1:
            raise ConfigError("say what to forget by exactly one of --uri PATTERN, --licence NAME, --item ID")
        ((name, value),) = given
        condition = {"uri": "uri GLOB ?", "licence": "licence = ?", "item": "item_id = ?"}[name]
        return condition, [value], f"by {name} {value}"


def forget(folder: RunFolder, criterion: Criterion, console: Console) -> int:
    """Forget matching items and their exact copies (same bytes under another name); returns how many items.

    By licence the copies stay: another source may have offered them under another licence. DataError when nothing
    matches.
    """
    condition, values, reason = criterion.sql()
    with folder.lock() as locked, log_to(locked.root, f"forget {reason}"):
        recipe = load_recipe(locked.root)
        recover(locked, recipe, console)
        found, before = _matching(locked, condition, values, with_copies=not criterion.licence)
        if not found and before:
            say(console, f"forgotten before: {before} items; nothing of them is left")
            return 0
        if not found:
            raise DataError(f"no item of {folder.root} matches ({reason}); see `reelmill sql`")
        bury(locked, found, reason)
        samples = recover(locked, recipe, console)
        write_database(locked.root)
        say(console, f"forgot {len(found)} items; captions and tokens of {samples} samples are gone for good")
    return len(found)


def print_matching(folder: RunFolder, criterion: Criterion, console: Console) -> None:
    """What `forget` would remove: the items' uris, and how many samples and documents are theirs. Nothing is changed.

    DataError when nothing matches.
    """
    condition, values, reason = criterion.sql()
    found, before = _matching(folder, condition, values, with_copies=not criterion.licence)
    if not found:
        raise DataError(f"no item of {folder.root} matches ({reason}); {before} that do were forgotten before")
    with LedgerQueries(folder.root) as ledger:
        (counts,) = ledger.rows(_THEIRS, [list(found)])
        uris = ledger.rows("SELECT uri FROM plan WHERE list_contains($1, item_id) ORDER BY uri", [list(found)])
    for row in uris[:SHOWN]:
        say(console, row["uri"])
    if len(uris) > SHOWN:
        say(console, f"and {len(uris) - SHOWN:,} more")
    say(
        console,
        f"{len(found):,} items would be forgotten, with {counts['samples']:,} samples and {counts['documents']:,} "
        "documents. There is no way back. Nothing was changed: leave out --dry-run to do it.",
    )


def _matching(
    folder: RunFolder, condition: str, values: list[str], *, with_copies: bool
) -> tuple[dict[str, str | None], int]:
    """Items to forget by id, with the SHA-256 that is to be refused under any name; and how many match that are
    forgotten already. Items of the plan count that have not been scored yet."""
    known = f"""(SELECT p.item_id, p.uri, i.sha256, i.licence,
        starts_with(coalesce(p.problem, ''), {quoted(FORGOTTEN)}) AS gone
        FROM plan p LEFT JOIN items i USING (item_id))"""
    copies = f" OR sha256 IN (SELECT sha256 FROM {known} WHERE {condition})" if with_copies else ""
    query = f"SELECT item_id, sha256, gone FROM {known} WHERE {condition}{copies}"
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(query, values * (2 if copies else 1))
    found = {row["item_id"]: row["sha256"] if with_copies else None for row in rows if not row["gone"]}
    return found, len(rows) - len(found)
