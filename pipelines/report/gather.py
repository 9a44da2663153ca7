"""The report's numbers, by SQL over the views."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelmill.curation.quotas import Quota, shares_sql
from reelmill.curation.rules import Rule, is_read
from reelmill.orchestration.views import LedgerQueries

Rows = list[dict[str, Any]]
KINDS = ("video", "image", "text")
LAST = ("copy_elsewhere", "near_duplicate", "semantic_duplicate")
"""What judges after the rules; what is no rule otherwise comes before them."""
MAX_ROWS = 40
"""Rows of a table on the page; what is more is counted in one line."""

_ITEMS = """
SELECT count(*) AS items, count(*) FILTER (status = 'refused') AS refused,
    coalesce(sum(bytes), 0)::BIGINT AS bytes, coalesce(sum(duration_s), 0) AS media_s,
    count(DISTINCT source) AS sources, count(DISTINCT licence) AS licences
FROM items"""

_STATED = """
SELECT CASE WHEN licence IS NULL THEN 'nobody' ELSE coalesce(licence_from, 'an earlier version') END AS name,
    count(*) AS items, count(copyright) AS copyrighted, count(*) FILTER (c2pa) AS c2pa
FROM items WHERE status = 'done' GROUP BY ALL ORDER BY items DESC, name"""
"""Who states the licence of how many items; how many carry a copyright notice or C2PA's credentials."""

_JUDGED = """
SELECT s.kind, coalesce(v.status, 'undecided') AS status, v.rule, v.second_chance,
    any_value(v.stage) AS stage, count(*) AS samples,
    coalesce(sum(s.end_s - s.start_s), 0) AS seconds,
    count(*) FILTER (s.kind <> 'text' AND s.aesthetic_score IS NULL) AS without_aesthetic_score
FROM scored s LEFT JOIN verdicts v ON v.sample_id = s.sample_id AND v.selection = 'default'
GROUP BY s.kind, v.status, v.rule, v.second_chance"""

DOCUMENTS = """(SELECT * FROM tokens WHERE starts_with(fingerprint, $1)
    AND sample_id IN (SELECT sample_id FROM verdicts WHERE selection = 'default' AND status = 'kept'))"""
"""Documents of kept samples under the fingerprint $1; all of them where it is empty."""

_MADE = f"""
SELECT count(*) AS documents, coalesce(sum(n_tokens), 0)::BIGINT AS tokens,
    coalesce(sum(n_vision), 0)::BIGINT AS vision, count(DISTINCT sample_id) AS tokenized
FROM {DOCUMENTS}"""

_TOKENS = f"""
SELECT {{names}}, grouping({{names}}) AS place, count(*) AS documents, sum(n_tokens)::BIGINT AS tokens,
    sum(n_vision)::BIGINT AS vision
FROM (SELECT n_tokens, n_vision, {{columns}} FROM {DOCUMENTS}) GROUP BY GROUPING SETS ({{sets}}) ORDER BY tokens DESC"""

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


def timings(ledger: LedgerQueries, kept_s: float) -> Rows:
    """CPU-seconds of the workers by stage, and how many a minute of kept video, of which there are `kept_s` seconds."""
    rows = ledger.rows(_TIMINGS) if ledger.has("timings") else []
    return [{**row, "cpu_s_a_kept_minute": 60 * row["cpu_s"] / kept_s if kept_s else None} for row in rows]


def run_facts(root: Path) -> dict[str, Any]:
    """`run.json`, or nothing where the run did not get that far."""
    path = root / "run.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def numbers(ledger: LedgerQueries, rules: Mapping[str, Rule], fingerprint: str) -> dict[str, Any]:
    """Every number of the page but the histograms; tokens are those under `fingerprint` (hex digits, or "")."""
    (items,) = ledger.rows(_ITEMS)
    (made,) = ledger.rows(_MADE, [fingerprint])
    judged = ledger.rows(_JUDGED)
    totals = {**items, **_totals(judged), **made}
    if not is_read("aesthetic_score", rules):
        totals["without_aesthetic_score"] = 0
    return {
        "totals": totals,
        "funnel": _funnel(judged, rules, totals),
        "tokens": {n: _bounded(r, ("documents", "tokens", "vision")) for n, r in _tokens(ledger, fingerprint).items()},
        "stated": ledger.rows(_STATED),
        "refused": _bounded(ledger.rows(_REFUSED), ("items",)),
        "errors": _bounded(ledger.rows(_ERRORS), ("samples",)),
        "timings": timings(ledger, totals["kept_s"]),
    }


def quota_shares(ledger: LedgerQueries, quotas: Mapping[str, Quota]) -> dict[str, Rows]:
    """Of each quota the samples of each value before and after all quotas, with their shares."""
    verdicts = "SELECT * FROM verdicts WHERE selection = 'default'"
    found = {}
    for name, quota in quotas.items():
        rows = ledger.rows(shares_sql(quota, verdicts))
        sums = {side: max(sum(row[side] for row in rows), 1) for side in ("before", "after")}
        listed = _bounded(rows, ("before", "after"))
        found[name] = [{**row, **{f"share_{side}": row[side] / sums[side] for side in sums}} for row in listed]
    return found


def _totals(judged: Rows) -> dict[str, Any]:
    """Samples by status, and of the kept ones more."""
    by_status = {
        status: sum(row["samples"] for row in judged if row["status"] == status)
        for status in ("kept", "rejected", "undecided")
    }
    kept = [row for row in judged if row["status"] == "kept"]
    by_kind = {f"kept_{kind}s": sum(row["samples"] for row in kept if row["kind"] == kind) for kind in KINDS}
    return {
        "samples": sum(row["samples"] for row in judged),
        **by_status,
        **by_kind,
        "kept_s": sum(row["seconds"] for row in kept),
        "without_aesthetic_score": sum(row["without_aesthetic_score"] for row in kept),
    }


def _tokens(ledger: LedgerQueries, fingerprint: str) -> dict[str, Rows]:
    """Documents and tokens by each of `_TOKEN_COLUMNS`, the most tokens first; the files are read once."""
    names = [f"by_{name}" for name in _TOKEN_COLUMNS]
    columns = ", ".join(f"{sql} AS by_{name}" for name, sql in _TOKEN_COLUMNS.items())
    query = _TOKENS.format(names=", ".join(names), columns=columns, sets=", ".join(f"({name})" for name in names))
    found = ledger.rows(query, [fingerprint])
    everything = (1 << len(names)) - 1
    tokens: dict[str, Rows] = {}
    for number, name in enumerate(_TOKEN_COLUMNS):
        grouped = everything - (1 << (len(names) - 1 - number))  # `grouping` has a bit for each column left out
        rows = [row for row in found if row["place"] == grouped]
        kept = ("documents", "tokens", "vision")
        by_name = [{"name": row[f"by_{name}"], **{key: row[key] for key in kept}} for row in rows]
        tokens[name] = sorted(by_name, key=lambda row: (-row["tokens"], row["name"]))
    return tokens


def _funnel(judged: Rows, rules: Mapping[str, Rule], totals: Mapping[str, Any]) -> Rows:
    """What is left after each step, in the order in which the steps judge; rules that reject nothing are in it too."""
    lost = [row for row in judged if row["status"] == "rejected"]
    left = {kind: sum(row["samples"] for row in judged if row["kind"] == kind) for kind in KINDS}
    seconds = sum(row["seconds"] for row in judged)
    steps: Rows = [{"name": "cut into samples", "stage": "scenes", "lost": 0, "left": dict(left), "seconds": seconds}]
    others = {row["rule"] for row in lost} - {*rules}
    last = [name for name in LAST if name in others]
    last += sorted({row["rule"] for row in lost if row["stage"] == "quotas"} - {*last, *rules})
    for name in (*sorted(others - {*last}), *rules, *last):
        here = [row for row in lost if row["rule"] == name]
        for row in here:
            left[row["kind"]] = left.get(row["kind"], 0) - row["samples"]
        seconds -= sum(row["seconds"] for row in here)
        stage = rules[name].stage if name in rules else here[0]["stage"]
        gone = sum(row["samples"] for row in here)
        steps.append({"name": name, "stage": stage, "lost": gone, "left": dict(left), "seconds": seconds})
        saved = sum(row["samples"] for row in judged if row["second_chance"] == name)
        if saved:
            road = {"name": "second chance", "saved": saved, "lost": 0}
            steps.append({**steps[-1], **road})
    if totals["undecided"]:
        kept = {kind: totals[f"kept_{kind}s"] for kind in KINDS}
        row = {"name": "waiting for a score", "stage": "", "left": kept, "seconds": totals["kept_s"]}
        steps.append({**row, "lost": totals["undecided"]})
    first = max(sum(steps[0]["left"].values()), 1)
    return [
        {"saved": 0, **step, "total": sum(step["left"].values()), "share": sum(step["left"].values()) / first}
        for step in steps
    ]


def _bounded(rows: Rows, sums: tuple[str, ...]) -> Rows:
    """The first rows, and one that adds up the others."""
    if len(rows) <= MAX_ROWS:
        return rows
    rest = rows[MAX_ROWS:]
    more = {**dict.fromkeys(rest[0]), "name": f"({len(rest)} more)"}
    return [*rows[:MAX_ROWS], {**more, **{key: sum(row[key] for row in rest) for key in sums}}]
