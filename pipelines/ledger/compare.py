"""`reelmill compare`: what two run folders, or two selections of one, say of the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from rich.console import Console

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

_SAMPLES = """SELECT s.sample_id, i.uri, s.kind, s.start_s, s.end_s, coalesce(v.status, 'undecided') AS status,
    v.rule, v.value, c.caption
FROM scored s JOIN items i USING (item_id)
LEFT JOIN verdicts v ON v.sample_id = s.sample_id AND v.selection = $1
LEFT JOIN chosen_captions c ON c.sample_id = s.sample_id"""

_JOINED = """SELECT coalesce(a.sample_id, b.sample_id) AS sample_id, coalesce(a.uri, b.uri) AS uri,
    coalesce(a.kind, b.kind) AS kind, coalesce(a.start_s, b.start_s) AS start_s, coalesce(a.end_s, b.end_s) AS end_s,
    coalesce(a.status, 'absent') AS before, a.rule AS rule_before, a.value AS value_before,
    coalesce(b.status, 'absent') AS after, b.rule AS rule_after, b.value AS value_after,
    a.caption AS caption_before, b.caption AS caption_after,
    a.sample_id IS NOT NULL AND b.sample_id IS NOT NULL AND a.caption IS DISTINCT FROM b.caption AS has_other_caption,
    a.status IS DISTINCT FROM b.status OR a.rule IS DISTINCT FROM b.rule AS has_other_verdict
FROM first a FULL JOIN second b USING (sample_id)"""

_COUNTED = f"""SELECT before, rule_before, after, rule_after, kind, count(*) AS samples, min(uri) AS example
FROM ({_JOINED}) WHERE has_other_verdict GROUP BY ALL
ORDER BY samples DESC, before, rule_before, after, rule_after, kind"""

_TOTALS = f"""SELECT count(*) FILTER (before <> 'absent') AS samples_before,
    count(*) FILTER (after <> 'absent') AS samples_after,
    count(*) FILTER (before = 'kept') AS kept_before, count(*) FILTER (after = 'kept') AS kept_after,
    count(*) FILTER (has_other_verdict) AS other_verdicts, count(*) FILTER (has_other_caption) AS other_captions
FROM ({_JOINED})"""

_CHANGED = f"""SELECT * EXCLUDE (has_other_verdict, has_other_caption) FROM ({_JOINED})
WHERE has_other_verdict OR has_other_caption ORDER BY uri, start_s, sample_id LIMIT $1"""


@dataclass(frozen=True)
class Comparison:
    """Totals, verdicts that changed by what they were and became, and the first of the samples that changed."""

    totals: dict[str, Any]
    verdicts: list[dict[str, Any]]
    samples: list[dict[str, Any]]


def compare(before: Path, after: Path, selections: tuple[str, str], limit: int) -> Comparison:
    """Compare two run folders sample by sample; samples are the same where their item's uri and their span are.

    `selections`: whose verdicts, of the first and of the second. ConfigError where there is no such selection.
    """
    first, second = (_samples(out, name) for out, name in zip((before, after), selections, strict=True))
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        connection.register("first", first)
        connection.register("second", second)
        (totals,) = connection.sql(_TOTALS).to_arrow_table().to_pylist()
        verdicts = connection.sql(_COUNTED).to_arrow_table().to_pylist()
        samples = connection.sql(_CHANGED, params=[limit]).to_arrow_table().to_pylist()
    return Comparison(totals, verdicts, samples)


def print_comparison(found: Comparison, console: Console) -> None:
    """Totals in a line, then the tables."""
    totals = found.totals
    say(
        console,
        f"{totals['samples_before']:,} samples, {totals['kept_before']:,} kept; then {totals['samples_after']:,}, "
        f"{totals['kept_after']:,} kept. {totals['other_verdicts']:,} verdicts and {totals['other_captions']:,} "
        "captions differ.",
    )
    if found.verdicts:
        print_table(console, found.verdicts, "Verdicts that differ")
    captions = [
        {key: row[key] for key in ("uri", "start_s", "caption_before", "caption_after")}
        for row in found.samples
        if row["caption_before"] != row["caption_after"] and "absent" not in (row["before"], row["after"])
    ]
    if captions:
        print_table(console, captions, "Captions that differ")


def _samples(out: Path, selection: str) -> pa.Table:
    """What a run folder says of its samples."""
    with LedgerQueries(RunFolder(out).require().root) as ledger:
        known = [row["selection"] for row in ledger.rows("SELECT DISTINCT selection FROM verdicts")]
        if selection not in known:
            raise ConfigError(f"no selection {selection!r} in {out}; {nearest(selection, known)}")
        return ledger.table(_SAMPLES, [selection])
