"""Decide: one query over all samples gives a verdict for each. Seconds, re-runnable, any number of named selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from reelmill.curation.duplicates.clusters import Member, judge
from reelmill.curation.duplicates.config import DuplicatesConfig
from reelmill.curation.duplicates.pair import Pair
from reelmill.curation.ledger import VERDICTS
from reelmill.curation.quotas import Quota, keep_within
from reelmill.curation.rules import Rule, quoted
from reelmill.errors import ConfigError

_COPIES = pa.schema(
    [
        *((name, pa.string()) for name in ("sample_id", "cluster", "original", "method", "reason")),
        ("similarity", pa.float64()),
        ("is_dropped", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class _Reason:
    """Why a sample may be rejected: a condition, and what the verdict says then (SQL)."""

    condition: str
    stage: str
    rule: str
    value: str = "NULL"
    threshold: str = "NULL"


def decide(
    connection: duckdb.DuckDBPyConnection,
    rules: Mapping[str, Rule],
    licences: Sequence[str] = (),
    duplicates: DuplicatesConfig | None = None,
    quotas: Mapping[str, Quota] | None = None,
) -> pa.Table:
    """Verdicts (schema VERDICTS) for every committed sample.

    `connection` must see `scored` (samples of committed units), `items`, and `duplicates` where near copies are asked
    for. Exact duplicates come first: of the items with one SHA-256 the smallest uri stays, the others' samples point at
    it. Then the licence, where `licences` says which are allowed. Then the rules in their order: the first that fails
    is the reason. A sample that fails none is undecided while a rule waits for a value. Of those that pass, near copies
    come next: the best stays. Quotas come last. Raises ConfigError when a rule's SQL fails over these samples.
    """
    try:
        decided: pa.Table = connection.sql(decide_sql(rules, licences)).to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(f"a rule cannot be computed over these samples: {error}") from None
    if duplicates is not None and (duplicates.against or duplicates.exclude):
        decided = _without_copies_elsewhere(connection, decided, duplicates)
    if duplicates is not None and (duplicates.near or duplicates.semantic):
        decided = _without_copies(connection, decided, duplicates)
    decided = keep_within(connection, decided, quotas or {})
    return decided.select(VERDICTS.names).cast(VERDICTS)


def _without_copies_elsewhere(
    connection: duckdb.DuckDBPyConnection, decided: pa.Table, config: DuplicatesConfig
) -> pa.Table:
    """The same verdicts, where copies of what other run folders hold are rejected."""
    connection.register("decided", decided)
    against, exclude = ([str(Path(name).resolve()) for name in names] for names in (config.against, config.exclude))
    bounds = _bounds(config, near=True, semantic=False)
    found: pa.Table = connection.sql(_ELSEWHERE, params=[*bounds, against, exclude]).to_arrow_table()
    connection.unregister("decided")
    return found


def _without_copies(connection: duckdb.DuckDBPyConnection, decided: pa.Table, config: DuplicatesConfig) -> pa.Table:
    """The same verdicts, where near copies of a kept sample are rejected, and clusters are named."""
    connection.register("decided", decided)
    least = _bounds(config, config.near, config.semantic)
    pairs = [Pair(*row) for row in connection.execute(_PAIRS, least).fetchall()]
    named = list({name for pair in pairs for name in (pair.sample_id, pair.other_id)})
    members = {row[0]: Member(*row) for row in connection.execute(_MEMBERS, [named]).fetchall()}
    judged = judge(pairs, members)
    rows = [
        {**vars(one), "is_dropped": one.original != one.sample_id and members[one.original].status == "kept"}
        for one in judged
    ]
    connection.register("copies", pa.Table.from_pylist(rows, schema=_COPIES))
    found: pa.Table = connection.sql(_DROPPED, params=least).to_arrow_table()
    connection.unregister("copies")
    connection.unregister("decided")
    return found


def _bounds(config: DuplicatesConfig, near: bool, semantic: bool) -> list[float | None]:
    """Similarities from which on texts, looks and embeddings are copies; None for those that do not count."""
    looks = [config.min_text_similarity, config.min_similarity] if near else [None, None]
    return [*looks, config.min_semantic_similarity if semantic else None]


_BOUND = """CASE WHEN {0}method = 'minhash' THEN $1::DOUBLE WHEN starts_with({0}method, 'embedding') THEN $3::DOUBLE
    ELSE $2::DOUBLE END"""
_PAIRS = f"""SELECT sample_id, other_id, similarity, method FROM duplicates
WHERE similarity >= {_BOUND.format("")} AND other_run IS NULL ORDER BY NOT starts_with(method, 'embedding')"""
_OF_THE_PAIR = ("similarity", "method", "other_run")
_ELSEWHERE = f"""WITH found AS (
    SELECT sample_id, bool_or(other_run IN $5) AS is_excluded,
        {", ".join(f"max_by({name}, (other_run IN $5, similarity)) AS {name}" for name in _OF_THE_PAIR)}
    FROM duplicates WHERE similarity >= {_BOUND.format("")} AND (other_run IN $4 OR other_run IN $5) GROUP BY sample_id
)
SELECT d.* EXCLUDE (now, is_excluded, similarity, method, other_run) REPLACE (
    CASE WHEN now THEN 'rejected' ELSE d.status END AS status,
    CASE WHEN now THEN 'duplicates' ELSE d.stage END AS stage,
    CASE WHEN now THEN CASE WHEN is_excluded THEN 'excluded' ELSE 'copy_elsewhere' END ELSE d.rule END AS rule,
    CASE WHEN now THEN d.similarity ELSE d.value END AS value,
    CASE WHEN now THEN {_BOUND.format("d.")} ELSE d.threshold END AS threshold,
    CASE WHEN now THEN d.similarity ELSE d.duplicate_similarity END AS duplicate_similarity,
    CASE WHEN now THEN d.method ELSE d.duplicate_method END AS duplicate_method,
    CASE WHEN now THEN regexp_extract(d.other_run, '[^/\\\\]*$') ELSE d.duplicate_reason END AS duplicate_reason)
FROM (SELECT d.*, coalesce(f.is_excluded OR (f.sample_id IS NOT NULL AND d.status <> 'rejected'), false) AS now,
        f.is_excluded, f.similarity, f.method, f.other_run
    FROM decided d LEFT JOIN found f USING (sample_id)) d ORDER BY d.sample_id"""
_MEMBERS = """SELECT s.sample_id, d.status, s.width::BIGINT * s.height, coalesce(s.quality_score, 0.0),
    i.alt IS NOT NULL, coalesce(i.crawled, ''), i.uri
FROM scored s JOIN decided d USING (sample_id) JOIN items i ON i.item_id = s.item_id
WHERE list_contains($1, s.sample_id)"""

_DROPPED = f"""SELECT d.* REPLACE (
    CASE WHEN now THEN 'rejected' ELSE d.status END AS status,
    CASE WHEN now THEN 'duplicates' ELSE d.stage END AS stage,
    CASE WHEN NOT now THEN d.rule WHEN starts_with(c.method, 'embedding') THEN 'semantic_duplicate'
        ELSE 'near_duplicate' END AS rule,
    CASE WHEN now THEN c.similarity ELSE d.value END AS value,
    CASE WHEN now THEN {_BOUND.format("c.")} ELSE d.threshold END AS threshold,
    coalesce(d.duplicate_of, CASE WHEN now THEN o.item_id END) AS duplicate_of,
    coalesce(c.cluster, d.duplicate_cluster) AS duplicate_cluster,
    coalesce(d.duplicate_similarity, c.similarity) AS duplicate_similarity,
    coalesce(d.duplicate_method, c.method) AS duplicate_method,
    CASE WHEN d.rule IN ('excluded', 'copy_elsewhere') THEN d.duplicate_reason
        ELSE coalesce(c.reason, d.duplicate_reason) END AS duplicate_reason)
FROM (SELECT d.*, coalesce(c.is_dropped AND d.status <> 'rejected', false) AS now
    FROM decided d LEFT JOIN copies c USING (sample_id)) d
LEFT JOIN copies c USING (sample_id) LEFT JOIN scored o ON o.sample_id = c.original ORDER BY d.sample_id"""


def decide_sql(rules: Mapping[str, Rule], licences: Sequence[str] = ()) -> str:
    """The query of `decide`, to show or to run by hand."""
    reasons = [_Reason("duplicate_of IS NOT NULL", "'duplicates'", "'exact_duplicate'")]
    if licences:
        allowed = ", ".join(map(quoted, licences))
        reasons.append(_Reason(f"NOT coalesce(licence IN ({allowed}), false)", "'licence'", "'licence'"))
    reasons += [
        _Reason(rule.failed_sql(), quoted(rule.stage), quoted(name), rule.value_sql(), rule.threshold_sql())
        for name, rule in rules.items()
    ]
    rejected = " OR ".join(f"({reason.condition})" for reason in reasons)
    undecided = " OR ".join(rule.undecided_sql() for rule in rules.values()) or "false"
    chances = [f"WHEN {rule.second_chance_sql()} THEN {quoted(name)}" for name, rule in rules.items() if rule.unless]
    second_chance = f"CASE {' '.join(chances)} END" if chances else "NULL::VARCHAR"
    return f"""
WITH firsts AS (
    SELECT item_id, licence, first_value(item_id) OVER same AS first_id FROM items WHERE status = 'done'
    WINDOW same AS (PARTITION BY coalesce(sha256, item_id) ORDER BY uri)
), judged AS (
    SELECT s.*, f.licence, CASE WHEN f.first_id <> s.item_id THEN f.first_id END AS duplicate_of,
        count(*) OVER same AS copies, first_value(sample_id) OVER same AS first_sample
    FROM scored s JOIN firsts f USING (item_id)
    WINDOW same AS (PARTITION BY f.first_id, s.start_s, s.end_s ORDER BY s.item_id <> f.first_id, s.sample_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
SELECT sample_id,
    CASE WHEN {rejected} THEN 'rejected' WHEN {undecided} THEN 'undecided' ELSE 'kept' END AS status,
    {_first(reasons, "stage")} AS stage,
    {_first(reasons, "rule")} AS rule,
    {_first(reasons, "value")} AS value,
    {_first(reasons, "threshold")} AS threshold,
    duplicate_of,
    CASE WHEN copies > 1 THEN first_sample END AS duplicate_cluster,
    CASE WHEN duplicate_of IS NOT NULL THEN 1.0::DOUBLE END AS duplicate_similarity,
    CASE WHEN duplicate_of IS NOT NULL THEN 'exact' END AS duplicate_method,
    CASE WHEN copies > 1 THEN 'name' END AS duplicate_reason,
    {second_chance} AS second_chance
FROM judged ORDER BY sample_id"""


def _first(reasons: Sequence[_Reason], what: str) -> str:
    """SQL for what the first reason that holds says."""
    cases = " ".join(f"WHEN {reason.condition} THEN {getattr(reason, what)}" for reason in reasons)
    return f"CASE {cases} END"
