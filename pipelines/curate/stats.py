"""What a run folder holds, as numbers and as tables on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from reelmill.config import nearest, read_toml
from reelmill.errors import ConfigError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report.gather import timings
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

_QUERIES = {
    "items": """SELECT kind, count(*) FILTER (status = 'done') AS done,
        count(*) FILTER (status = 'refused' AND reason_class = 'item') AS refused,
        count(*) FILTER (status = 'refused' AND reason_class = 'machine') AS machine
        FROM items GROUP BY kind ORDER BY kind""",
    "fetches": """SELECT outcome, split_part(reason, ':', 1) AS reason, count(*) AS urls,
        round(sum(bytes) / 1e6, 1) AS megabytes, round(sum(seconds) / count(*), 2) AS mean_s
        FROM fetches GROUP BY ALL ORDER BY urls DESC, reason""",
    "refused": """SELECT split_part(reason, ':', 1) AS reason, reason_class, count(*) AS items, min(uri) AS example
        FROM items WHERE status = 'refused' GROUP BY ALL ORDER BY items DESC, reason""",
    "funnel": """SELECT coalesce(v.status, 'undecided') AS status, v.stage,
        coalesce(v.rule, v.second_chance || ': second chance') AS rule, v.threshold,
        count(*) FILTER (s.kind = 'video') AS video, count(*) FILTER (s.kind = 'image') AS image,
        count(*) FILTER (s.kind = 'text') AS text, count(*) FILTER (s.kind = 'interleaved') AS interleaved,
        round(sum(s.end_s - s.start_s), 1) AS seconds
        FROM scored s LEFT JOIN verdicts v ON v.sample_id = s.sample_id AND v.selection = $1
        GROUP BY ALL ORDER BY status DESC, stage, rule""",
    "tokens": """SELECT t.kind, coalesce(t.source, '(none)') AS source, coalesce(t.licence, '(none)') AS licence,
        count(*) AS documents, sum(n_tokens)::BIGINT AS tokens, sum(n_vision)::BIGINT AS vision,
        left(t.fingerprint, 12) AS fingerprint
        FROM tokens t WHERE sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
        GROUP BY ALL ORDER BY fingerprint, t.kind, tokens DESC""",
    "failures": "SELECT stage, split_part(reason, ':', 1) AS reason, count(*) AS samples FROM failures GROUP BY ALL",
    "unscored": """SELECT count(*) AS samples FROM scored JOIN verdicts v USING (sample_id)
        WHERE v.selection = $1 AND v.status = 'kept' AND scored.kind <> 'text' AND aesthetic_score IS NULL""",
}


def gather(out: Path, selection: str = "default") -> dict[str, list[dict[str, Any]]]:
    """The numbers of `reelmill stats`: name of a table to its rows."""
    with LedgerQueries(RunFolder(out).require().root) as ledger:
        known = [row["selection"] for row in ledger.rows("SELECT DISTINCT selection FROM verdicts")]
        if known and selection not in known:
            raise ConfigError(f"no selection {selection!r} in {out}; {nearest(selection, known)}")
        found = {n: ledger.rows(query, [selection] if "$1" in query else []) for n, query in _QUERIES.items()}
        # Pictures and texts have no seconds.
        kept_s = sum(row["seconds"] or 0.0 for row in found["funnel"] if row["status"] == "kept")
        return found | {"cost": timings(ledger, kept_s)}


def print_stats(out: Path, console: Console, selection: str = "default") -> None:
    """Tables of items, funnel and tokens; says loudly when an aesthetic rule was off."""
    found = gather(out, selection)
    titles = {
        "fetches": "Fetched URLs",
        "items": "Items",
        "refused": "Refused items",
        "funnel": f"Samples ({selection})",
        "tokens": "Tokens",
    }
    if len({row["fingerprint"] for row in found["tokens"]}) == 1:  # of several tokenizations it says which is which
        found["tokens"] = [{k: v for k, v in row.items() if k != "fingerprint"} for row in found["tokens"]]
    if not any(row["interleaved"] for row in found["funnel"]):
        found["funnel"] = [{k: v for k, v in row.items() if k != "interleaved"} for row in found["funnel"]]
    for name, title in titles.items():
        if found[name]:
            print_table(console, found[name], title)
    if found["cost"]:
        print_table(console, [_shown_cost(row) for row in found["cost"]], "CPU-seconds of the workers")
    if found["failures"]:
        print_table(console, found["failures"], "Kept samples without tokens")
    (unscored,) = found["unscored"]
    if unscored["samples"] and _judges_taste(out):
        say(
            console,
            "they have no aesthetic_score (`reelmill models list` shows the weights it needs).",
            head=f"The aesthetic rule is OFF for {unscored['samples']} kept samples:",
            style="bold yellow",
        )


def _shown_cost(row: dict[str, Any]) -> dict[str, Any]:
    kept = row["cpu_s_a_kept_minute"]
    shown = {"move": row["move"], "stage": row["stage"], "cpu_s": round(row["cpu_s"], 1)}
    return shown if kept is None else shown | {"a minute of kept video": round(kept, 1)}


def _judges_taste(out: Path) -> bool:
    """Whether a rule of the run's recipe reads the aesthetic score; an earlier version's recipe is read too."""
    rules = read_toml(RunFolder(out).recipe_path).get("rules", {})
    return any("aesthetic_score" in rule["expr"] for rule in rules.values())
