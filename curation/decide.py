"""Decide: one query over all samples gives a verdict for each. Seconds, re-runnable, any number of named selections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb
import pyarrow as pa

from reelmill.curation.ledger import VERDICTS
from reelmill.curation.rules import Rule, any_failed_sql, quoted
from reelmill.errors import ConfigError


def decide(connection: duckdb.DuckDBPyConnection, rules: Mapping[str, Rule]) -> pa.Table:
    """Verdicts (schema VERDICTS) for every committed sample.

    `connection` must see `scored` (samples of committed units) and `items`. Exact duplicates come first: of the items
    with one SHA-256 the smallest uri stays, the others' samples point at it. Then the rules in their order: the first
    that fails is the reason; with none failing but one waiting for a value the sample is undecided. Raises ConfigError
    when a rule's SQL fails over these samples.
    """
    try:
        verdicts: pa.Table = connection.sql(decide_sql(rules)).to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(f"a rule cannot be computed over these samples: {error}") from None
    return verdicts.cast(VERDICTS)


def decide_sql(rules: Mapping[str, Rule]) -> str:
    """The query of `decide`, to show or to run by hand."""
    failed = [(name, rule, rule.failed_sql()) for name, rule in rules.items()]
    undecided = " OR ".join(rule.undecided_sql() for rule in rules.values()) or "false"
    return f"""
WITH firsts AS (
    SELECT item_id, first_value(item_id) OVER same AS first_id FROM items WHERE status = 'done'
    WINDOW same AS (PARTITION BY coalesce(sha256, item_id) ORDER BY uri)
), judged AS (
    SELECT s.*, CASE WHEN f.first_id <> s.item_id THEN f.first_id END AS duplicate_of
    FROM scored s JOIN firsts f USING (item_id)
)
SELECT sample_id,
    CASE WHEN duplicate_of IS NOT NULL OR {any_failed_sql(rules)} THEN 'rejected'
         WHEN {undecided} THEN 'undecided' ELSE 'kept' END AS status,
    {_first(failed, "'duplicates'", lambda _, rule: quoted(rule.stage))} AS stage,
    {_first(failed, "'exact_duplicate'", lambda name, _: quoted(name))} AS rule,
    {_first(failed, "NULL", lambda _, rule: rule.value_sql())} AS value,
    {_first(failed, "NULL", lambda _, rule: rule.threshold_sql())} AS threshold,
    duplicate_of
FROM judged ORDER BY sample_id"""


def _first(failed: list[tuple[str, Rule, str]], duplicate: str, then: Callable[[str, Rule], str]) -> str:
    """SQL for the first reason that holds, duplicates before rules."""
    cases = " ".join(f"WHEN {sql} THEN {then(name, rule)}" for name, rule, sql in failed)
    return f"CASE WHEN duplicate_of IS NOT NULL THEN {duplicate} {cases} END"
