"""Decide: one query over all samples gives a verdict for each. Seconds, re-runnable, any number of named selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from reelmill.curation.ledger import VERDICTS
from reelmill.curation.rules import Rule, quoted
from reelmill.errors import ConfigError


@dataclass(frozen=True)
class _Reason:
    """Why a sample may be rejected: a condition, and what the verdict says then (SQL)."""

    condition: str
    stage: str
    rule: str
    value: str = "NULL"
    threshold: str = "NULL"


def decide(connection: duckdb.DuckDBPyConnection, rules: Mapping[str, Rule], licences: Sequence[str] = ()) -> pa.Table:
    """Verdicts (schema VERDICTS) for every committed sample.

    `connection` must see `scored` (samples of committed units) and `items`. Exact duplicates come first: of the items
    with one SHA-256 the smallest uri stays, the others' samples point at it. Then the licence, where `licences` says
    which are allowed. Then the rules in their order: the first that fails is the reason. A sample that fails none is
    undecided while a rule waits for a value. Raises ConfigError when a rule's SQL fails over these samples.
    """
    try:
        verdicts: pa.Table = connection.sql(decide_sql(rules, licences)).to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(f"a rule cannot be computed over these samples: {error}") from None
    return verdicts.cast(VERDICTS)


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
    return f"""
WITH firsts AS (
    SELECT item_id, licence, first_value(item_id) OVER same AS first_id FROM items WHERE status = 'done'
    WINDOW same AS (PARTITION BY coalesce(sha256, item_id) ORDER BY uri)
), judged AS (
    SELECT s.*, f.licence, CASE WHEN f.first_id <> s.item_id THEN f.first_id END AS duplicate_of
    FROM scored s JOIN firsts f USING (item_id)
)
SELECT sample_id,
    CASE WHEN {rejected} THEN 'rejected' WHEN {undecided} THEN 'undecided' ELSE 'kept' END AS status,
    {_first(reasons, "stage")} AS stage,
    {_first(reasons, "rule")} AS rule,
    {_first(reasons, "value")} AS value,
    {_first(reasons, "threshold")} AS threshold,
    duplicate_of
FROM judged ORDER BY sample_id"""


def _first(reasons: Sequence[_Reason], what: str) -> str:
    """SQL for what the first reason that holds says."""
    cases = " ".join(f"WHEN {reason.condition} THEN {getattr(reason, what)}" for reason in reasons)
    return f"CASE {cases} END"
