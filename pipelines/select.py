"""`reelmill select`: another verdict over the same scores, beside the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reelmill.config import differences, from_dict, override, read_toml
from reelmill.errors import ConfigError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import DEFAULT, complete_selection, write_verdicts
from reelmill.pipelines.recipes import Recipe, check
from reelmill.pipelines.summary import print_table

_CHANGED = """
SELECT coalesce(o.status, 'undecided') AS before, n.status AS after, n.rule, count(*) AS samples
FROM (SELECT * FROM verdicts WHERE selection = $2) n
LEFT JOIN (SELECT * FROM verdicts WHERE selection = $1) o USING (sample_id)
WHERE o.status IS DISTINCT FROM n.status OR o.rule IS DISTINCT FROM n.rule GROUP BY ALL ORDER BY samples DESC, rule"""

_LACKING = """
SELECT count(*) AS samples FROM verdicts WHERE selection = ? AND status = 'kept'
AND sample_id NOT IN (SELECT sample_id FROM tokens) AND sample_id NOT IN (SELECT sample_id FROM failures)"""


def select(out: Path, name: str, assignments: Sequence[str], complete: bool, console: Console) -> None:
    """Write `verdicts/NAME.parquet` under the run's rules with `assignments`, and print what changed from the default.

    With `complete`, what the selection keeps and lacks is scored, captioned and tokenized.
    """
    folder = RunFolder(out).require()
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name in (DEFAULT, "schema"):
        raise ConfigError(
            f"a selection is named in letters, digits, - and _, not {name!r} ({DEFAULT} is the run's own)"
        )
    base = from_dict(Recipe, read_toml(folder.recipe_path))
    recipe = override(base, assignments)
    check(recipe)
    outside = [line for line in differences(base, recipe) if not line.startswith(("rules.", "engine."))]
    if outside:
        raise ConfigError(f"a selection changes rules only; not {'; '.join(outside)}")
    with folder.lock() as locked:
        write_verdicts(locked, name, recipe, assignments)
        if complete:
            complete_selection(locked, name, recipe, console)
    with LedgerQueries(folder.root) as ledger:
        changed = ledger.rows(_CHANGED, [DEFAULT, name])
        (lacking,) = ledger.rows(_LACKING, [name])
    print_table(console, changed, f"{name}, against {DEFAULT}")
    if lacking["samples"]:
        console.print(
            f"{lacking['samples']} kept samples have no tokens yet; add --complete to make them", highlight=False
        )
