"""`reelmill explain`: everything the run folder knows about one sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from reelmill.curation.rules import Rule
from reelmill.errors import ConfigError
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

MOST = 8
"""Samples named when an id or a uri is not of one sample."""

_FACTS = ("sample_id", "item_id", "kind", "uri", "start_s", "end_s", "width", "height", "fps", "n_frames")
_ORIGIN = ("source", "licence", "url", "alt", "caption", "caption_source")
_COPY = ("duplicate_of", "duplicate_cluster", "duplicate_similarity", "duplicate_method", "duplicate_reason")
_NO_SCORES = ("unit", "skipped", "score_error", "keyframes", "phash")
_VERDICT = ("status", "stage", "rule", "value", "threshold", *_COPY)


_NARRATION = """
WITH this AS (SELECT * FROM scored WHERE sample_id = $1)
SELECT k.time_s AS at_s, 'picture' AS what, NULL AS text, k.problem AS dropped
FROM (SELECT unnest(keyframes) AS k FROM this)
UNION ALL SELECT t.start_s, t.source, t.text,
    CASE WHEN problem IS NOT NULL THEN problem WHEN c.item_id IS NULL THEN 'not chosen' END
FROM transcripts t JOIN this USING (item_id)
LEFT JOIN (SELECT DISTINCT item_id, source, model FROM chosen_transcripts) c ON c.item_id = t.item_id
    AND c.source = t.source AND c.model IS NOT DISTINCT FROM t.model
WHERE (t.start_s + t.end_s) / 2 >= this.start_s AND (t.start_s + t.end_s) / 2 < this.end_s
UNION ALL SELECT a.start_s, a.kind, a.text, a.problem FROM annotations a JOIN narrations USING (sample_id, basis)
WHERE a.sample_id = $1
ORDER BY at_s, what"""
"""What is seen and said, and what models say of it, in order of time, with what was left out and why."""


def explain(out: Path, wanted: str) -> dict[str, Any]:
    """Facts, origin, scores, rules, verdicts, narration, judgements, captions, documents, failures of one sample.

    `wanted` is a sample_id, its first digits, or a uri with one sample. ConfigError names the samples when several fit,
    and the item's reason when it has none.
    """
    folder = RunFolder(out).require()
    recipe = load_recipe(folder.root)
    with LedgerQueries(folder.root) as ledger:
        row = _one(ledger, wanted)
        key = [row["sample_id"]]
        documents = ledger.rows(
            """SELECT doc_id, part, kind, start_s, fps, n_tokens, n_vision, grid_t, grid_h, grid_w, caption_after,
            left(fingerprint, 12) AS fingerprint FROM tokens WHERE sample_id = ? ORDER BY fingerprint, part""",
            key,
        )
        scored = ledger.table("SELECT * FROM scored LIMIT 0").column_names
        scores = [name for name in scored if name in row and name not in (*_FACTS, *_NO_SCORES)]
        return {
            "facts": {name: row[name] for name in _FACTS},
            "origin": {name: row[name] for name in _ORIGIN},
            "verdict": {name: row[name] for name in _VERDICT},
            "scores": {name: row[name] for name in scores},
            "skipped": row["skipped"],
            "score_error": row["score_error"],
            "rules": _rules(ledger, recipe.rules, row["sample_id"]),
            "selections": ledger.rows(
                "SELECT selection, status, rule FROM verdicts WHERE sample_id = ? ORDER BY 1", key
            ),
            "narration": ledger.rows(_NARRATION, key) if row["keyframes"] is not None or row["kind"] == "audio" else [],
            "judgements": ledger.rows(
                "SELECT judge, value, model, text, problem FROM chosen_judgements WHERE sample_id = ? ORDER BY judge",
                key,
            ),
            "captions": _plain(ledger.rows("SELECT * FROM captions WHERE sample_id = ?", key)),
            "documents": documents,
            "failures": ledger.rows("SELECT stage, reason, reason_class FROM failures WHERE sample_id = ?", key),
        }


def print_explained(found: Mapping[str, Any], console: Console) -> None:
    """The same on a terminal."""
    facts, verdict, origin = found["facts"], found["verdict"], found["origin"]
    colour = {"kept": "green", "rejected": "red"}.get(verdict["status"], "yellow")
    say(console, verdict["status"] or "undecided", head=facts["sample_id"], style=f"bold {colour}")
    for line in lines(found):
        say(console, line)
    if origin["caption"]:
        say(console, f"({origin['caption_source']})", head=f"“{origin['caption']}”")
    print_table(console, [{"score": k, "value": v} for k, v in found["scores"].items() if v is not None], "Scores")
    print_table(console, found["rules"], "Rules")
    for title in ("narration", "judgements", "documents", "captions", "selections", "failures"):
        if found[title]:
            print_table(console, found[title], title.capitalize())


def lines(found: Mapping[str, Any]) -> list[str]:
    """Where the sample comes from and why it was kept or not, a line each."""
    facts, verdict, origin = found["facts"], found["verdict"], found["origin"]
    size = "" if facts["kind"] == "text" else f", {facts['width']} × {facts['height']}"
    span = (
        f", {facts['start_s']:.2f}–{facts['end_s']:.2f} s at {facts['fps']:g} frames/s"
        if facts["kind"] == "video"
        else ""
    )
    sentences = [f"{facts['kind']} {facts['uri']}{span}{size}, {facts['n_frames']} frames scored"]
    stated = [f"{key} {origin[key]}" for key in ("source", "licence", "url") if origin[key]]
    sentences.append(", ".join(stated) or "no source and no licence stated")
    if verdict["duplicate_of"]:
        same = "same bytes as" if verdict["duplicate_method"] == "exact" else "looks the same as"
        alike = "" if same.startswith("same") else f", similarity {verdict['duplicate_similarity']:.2f}"
        why = "" if verdict["duplicate_reason"] is None else f", which stays by {verdict['duplicate_reason']}"
        sentences.append(f"{same} item {verdict['duplicate_of']}{alike}{why}")
    elif verdict["status"] == "rejected":
        value, bound = verdict["value"], verdict["threshold"]
        numbers = "" if value is None or bound is None else f": {value:.4g}, bound {bound:.4g}"
        sentences.append(f"rejected by {verdict['rule']}{numbers}")
    if found["skipped"]:
        sentences.append(f"scorers skipped: {found['skipped']}")
    if found["score_error"]:
        sentences.append(f"scorer failed: {found['score_error']}")
    tokens = sum(document["n_tokens"] for document in found["documents"])
    sentences.append(f"{len(found['documents'])} documents, {tokens:,} tokens")
    return sentences


def _one(ledger: LedgerQueries, wanted: str) -> dict[str, Any]:
    query = f"SELECT * FROM samples WHERE {{}} ORDER BY uri, start_s LIMIT {MOST + 1}"
    found = ledger.rows(query.format("starts_with(sample_id, $1) AND length($1) > 0"), [wanted.lower()])
    found = found or ledger.rows(query.format("uri = $1"), [wanted])
    if len(found) == 1:
        return found[0]
    if found:
        named = "\n".join(
            f"  {row['sample_id']}  {row['start_s']:.2f}–{row['end_s']:.2f} s  {row['uri']}" for row in found[:MOST]
        )
        more = "\n  ..." if len(found) > MOST else ""
        raise ConfigError(f"{wanted!r} is not one sample but several; name one:\n{named}{more}")
    items = ledger.rows("SELECT uri, reason, reason_class FROM items WHERE uri = $1 OR item_id = $1", [wanted])
    if items and items[0]["reason"]:
        raise ConfigError(
            f"{items[0]['uri']} has no samples: refused ({items[0]['reason_class']}): {items[0]['reason']}"
        )
    raise ConfigError(
        f'no sample has the id, the first digits or the uri {wanted!r}; `reelmill sql OUT "SELECT sample_id, uri FROM '
        'samples"` lists them'
    )


def _rules(ledger: LedgerQueries, rules: Mapping[str, Rule], sample_id: str) -> list[dict[str, Any]]:
    """One row per rule: value, bounds, outcome, and the margin: how far inside (negative: outside) it lies."""
    if not rules:
        return []
    columns = [
        f"{rule.value_sql()} AS v{n}, {rule.applies_sql()} AS a{n}, "
        f"{rule.failed_sql()} AS f{n}, {rule.undecided_sql()} AS u{n}"
        for n, rule in enumerate(rules.values())
    ]
    (row,) = ledger.rows(f"SELECT {', '.join(columns)} FROM samples WHERE sample_id = ?", [sample_id])
    found = []
    for n, (name, rule) in enumerate(rules.items()):
        value = row[f"v{n}"]
        outcome = _outcome(row[f"a{n}"], row[f"f{n}"], row[f"u{n}"], value)
        room = [value - rule.min] if value is not None and rule.min is not None else []
        room += [rule.max - value] if value is not None and rule.max is not None else []
        margin = min(room, default=None) if row[f"a{n}"] else None
        known = {"rule": name, "outcome": outcome, "value": value, "min": rule.min, "max": rule.max}
        found.append({**known, "margin": margin, "expr": rule.expr})
    return found


def _outcome(applies: bool, fails: bool, waits: bool, value: float | None) -> str:
    if not applies:
        return "does not apply"
    if fails or waits:
        return "fails" if fails else "waits"
    return "passes" if value is not None else "passes unmeasured"


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose values JSON knows."""
    plain: list[dict[str, Any]] = json.loads(json.dumps(rows, default=str))
    return plain
