"""The report's numbers, by SQL over the views."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelmill.curation.rules import Rule
from reelmill.orchestration.views import LedgerQueries

Rows = list[dict[str, Any]]
KINDS = ("video", "image", "text")
MAX_ROWS = 40
"""Rows of a table on the page; what is more is counted in one line."""

_TOTALS = """
SELECT (SELECT count(*) FROM items) AS items,
    (SELECT count(*) FROM items WHERE status = 'refused') AS refused,
    (SELECT coalesce(sum(bytes), 0)::BIGINT FROM items) AS bytes,
    (SELECT coalesce(sum(duration_s), 0) FROM items) AS media_s,
    (SELECT count(DISTINCT source) FROM items) AS sources,
    (SELECT count(DISTINCT licence) FROM items) AS licences,
    count(*) AS samples,
    count(*) FILTER (status = 'kept') AS kept,
    count(*) FILTER (status = 'rejected') AS rejected,
    count(*) FILTER (coalesce(status, 'undecided') = 'undecided') AS undecided,
    count(*) FILTER (status = 'kept' AND kind = 'video') AS kept_videos,
    count(*) FILTER (status = 'kept' AND kind = 'image') AS kept_images,
    count(*) FILTER (status = 'kept' AND kind = 'text') AS kept_texts,
    coalesce(sum(end_s - start_s) FILTER (status = 'kept'), 0) AS kept_s,
    count(*) FILTER (status = 'kept' AND kind <> 'text' AND aesthetic_score IS NULL) AS without_aesthetic_score
FROM samples"""

_LOST = """
SELECT rule, any_value(stage) AS stage, kind, count(*) AS samples, sum(end_s - start_s) AS seconds FROM samples
WHERE status = 'rejected' GROUP BY rule, kind"""

_ALL = """SELECT kind, coalesce(status, 'undecided') AS status, count(*) AS samples,
    sum(end_s - start_s) AS seconds FROM samples GROUP BY ALL"""

_DOCUMENTS = """CREATE OR REPLACE TEMP VIEW documents AS SELECT * FROM tokens
WHERE starts_with(fingerprint, '{fingerprint}')
AND sample_id IN (SELECT sample_id FROM samples WHERE status = 'kept')"""

_TOKENS = """
SELECT {column} AS name, count(*) AS documents, sum(n_tokens)::BIGINT AS tokens, sum(n_vision)::BIGINT AS vision
FROM documents GROUP BY ALL ORDER BY tokens DESC, name"""

_TOKEN_COLUMNS = {
    "kind": "kind",
    "source": "coalesce(source, '(none stated)')",
    "licence": "coalesce(licence, '(none stated)')",
    "resolution": """CASE WHEN kind = 'text' THEN 'text'
        ELSE concat(grid_w, ' × ', grid_h, ' codes', CASE WHEN kind = 'video' THEN ', video' ELSE ', image' END) END""",
    "caption": "coalesce(caption_source, '(text)')",
}

_REFUSED = """
SELECT split_part(reason, ':', 1) AS name, reason_class, count(*) AS items, min(uri) AS example,
    arg_min(reason, uri) AS message
FROM items WHERE status = 'refused' GROUP BY ALL ORDER BY items DESC, name"""

_ERRORS = """
SELECT split_part(score_error, ':', 1) AS name, 'score' AS stage, count(*) AS samples, min(score_error) AS message
FROM samples WHERE score_error IS NOT NULL GROUP BY ALL
UNION ALL
SELECT split_part(reason, ':', 1), stage, count(DISTINCT sample_id), min(reason) FROM failures GROUP BY ALL
ORDER BY samples DESC, name"""

_TIMINGS = """
SELECT move, stage, sum(items)::BIGINT AS items, sum(media_s) AS media_s, sum(cpu_s) AS cpu_s
FROM timings GROUP BY ALL ORDER BY move, cpu_s DESC"""


def run_facts(root: Path) -> dict[str, Any]:
    """`run.json`, or nothing where the run did not get that far."""
    path = root / "run.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def numbers(ledger: LedgerQueries, rules: Mapping[str, Rule], fingerprint: str) -> dict[str, Any]:
    """Every number of the page but the histograms; tokens are those under `fingerprint` (hex digits, or "")."""
    if not all(digit in "0123456789abcdef" for digit in fingerprint):
        raise ValueError(f"a fingerprint is hex digits, not {fingerprint!r}")
    ledger.connection.execute(_DOCUMENTS.replace("{fingerprint}", fingerprint))
    (totals,) = ledger.rows(_TOTALS)
    tokens = {name: ledger.rows(_TOKENS.replace("{column}", sql)) for name, sql in _TOKEN_COLUMNS.items()}
    (made,) = ledger.rows(
        """SELECT count(*) AS documents, coalesce(sum(n_tokens), 0)::BIGINT AS tokens,
        coalesce(sum(n_vision), 0)::BIGINT AS vision, count(DISTINCT sample_id) AS tokenized FROM documents"""
    )
    return {
        "totals": {**totals, **made},
        "funnel": _funnel(ledger, rules, totals),
        "tokens": {name: _bounded(rows, ("documents", "tokens", "vision")) for name, rows in tokens.items()},
        "refused": _bounded(ledger.rows(_REFUSED), ("items",)),
        "errors": _bounded(ledger.rows(_ERRORS), ("samples",)),
        "timings": ledger.rows(_TIMINGS) if ledger.has("timings") else [],
    }


def _funnel(ledger: LedgerQueries, rules: Mapping[str, Rule], totals: Mapping[str, Any]) -> Rows:
    """What is left after each step, in the order in which the steps judge; rules that reject nothing are in it too."""
    everything = ledger.rows(_ALL)
    lost = ledger.rows(_LOST)
    left = {kind: sum(row["samples"] for row in everything if row["kind"] == kind) for kind in KINDS}
    seconds = sum(row["seconds"] or 0.0 for row in everything)
    steps: Rows = [{"name": "cut into samples", "stage": "scenes", "lost": 0, "left": dict(left), "seconds": seconds}]
    before = sorted({row["rule"] for row in lost} - {*rules})  # what judges before the rules
    for name in (*before, *rules):
        here = [row for row in lost if row["rule"] == name]
        for row in here:
            left[row["kind"]] = left.get(row["kind"], 0) - row["samples"]
        seconds -= sum(row["seconds"] or 0.0 for row in here)
        stage = rules[name].stage if name in rules else here[0]["stage"]
        gone = sum(row["samples"] for row in here)
        steps.append({"name": name, "stage": stage, "lost": gone, "left": dict(left), "seconds": seconds})
    undecided = sum(row["samples"] for row in everything if row["status"] == "undecided")
    if undecided:
        kept = {
            kind: sum(r["samples"] for r in everything if (r["kind"], r["status"]) == (kind, "kept")) for kind in KINDS
        }
        row = {"name": "waiting for a score", "stage": "", "lost": undecided, "left": kept, "seconds": totals["kept_s"]}
        steps.append(row)
    first = max(sum(steps[0]["left"].values()), 1)
    return [
        {**step, "total": sum(step["left"].values()), "share": sum(step["left"].values()) / first} for step in steps
    ]


def _bounded(rows: Rows, sums: tuple[str, ...]) -> Rows:
    """The first rows, and one that adds up the others."""
    if len(rows) <= MAX_ROWS:
        return rows
    rest = rows[MAX_ROWS:]
    more = {**dict.fromkeys(rest[0]), "name": f"({len(rest)} more)"}
    return [*rows[:MAX_ROWS], {**more, **{key: sum(row[key] for row in rest) for key in sums}}]
