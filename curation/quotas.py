"""Quotas: at most so many kept samples of a host, a language, a cluster or whatever SQL can name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from reelmill.curation.interfaces import Kind
from reelmill.curation.ledger import ITEMS, VERDICTS
from reelmill.curation.rules import quoted
from reelmill.errors import ConfigError

STAGE = "quotas"
_OF_THE_ITEM = ("uri", "source", "licence", "url", "page_url", "crawled", "alt")
_HOST = "lower(regexp_extract(coalesce(i.page_url, i.url), '^[a-zA-Z][a-zA-Z0-9+.-]*://([^/?#]*@)?([^/?#:]+)', 2))"


@dataclass
class Quota:
    """Of the kept samples for which `per` gives the same, keep at most `most`, or a `share` of all kept ones."""

    per: str
    """SQL over the columns of `samples`, those of its item, `host` (of page_url, else url) and `duplicate_cluster`;
    where it is NULL or empty there is no quota."""
    most: int = 0
    """Samples that are kept of each; 0 where `share` says how many."""
    share: float = 0.0
    """Share of all kept samples of `kinds` that those of each may have, once those beyond it are gone; at least one
    stays. Where all samples have the same `per` there is nothing to balance, and all stay."""
    by: str = ""
    """SQL: the greater the sooner a sample is kept. Where it is empty or equal a draw by sample_id decides, which a
    rerun repeats."""
    kinds: list[Kind] = field(default_factory=lambda: ["video", "image", "text", "audio"])
    """Kinds of samples that the quota counts."""

    def __post_init__(self) -> None:
        if not self.per.strip():
            raise ConfigError("a quota has an empty per: give SQL over the columns of samples, such as host")
        if self.share and (self.most or not 0 < self.share < 1):
            raise ConfigError(
                f"the quota per {self.per!r} keeps a share of {self.share:g}; give one from 0 to 1, or most"
            )
        if not self.share and self.most < 1:
            raise ConfigError(f"the quota per {self.per!r} keeps {self.most}; most must be at least 1")

    def order_sql(self) -> str:
        """In which order the samples of a group are kept."""
        return f"({self.by}) DESC NULLS LAST, sample_id" if self.by.strip() else "sample_id"

    def most_sql(self) -> str:
        """How many are kept of a group of `size` samples, of `all_` that count."""
        if not self.share:
            return str(self.most)
        others = f"floor((all_ - size) * {self.share!r} / {1 - self.share!r} + 1e-9)"
        return f"CASE WHEN size = all_ THEN all_ ELSE greatest({others}, 1) END"


def keep_within(connection: duckdb.DuckDBPyConnection, decided: pa.Table, quotas: Mapping[str, Quota]) -> pa.Table:
    """Verdicts where kept samples beyond a quota are rejected by its name: `value` is the place in the group,
    `threshold` the last place that is kept. Quotas count one after another what those before them left.

    `connection` must see `scored` and `items`. Raises ConfigError when a quota's SQL fails over these samples.
    """
    for name, quota in quotas.items():
        connection.register("decided", decided)
        try:
            decided = connection.sql(_query(name, quota)).to_arrow_table()
        except duckdb.Error as error:
            raise ConfigError(f"quotas.{name} cannot be computed over these samples: {error}") from None
        finally:
            connection.unregister("decided")
    return decided


def check(quotas: Mapping[str, Quota], samples: pa.Schema) -> None:
    """Bind every quota against the samples' columns. ConfigError names the one that is no valid SQL."""
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        for name, schema in (("scored", samples), ("items", ITEMS), ("decided", VERDICTS)):
            connection.register(name, schema.empty_table())
        for name, quota in quotas.items():
            try:
                connection.execute(_query(name, quota))
            except duckdb.Error as error:
                raise ConfigError(f"quotas.{name}: {error}") from None


def shares_sql(quota: Quota, decided: str) -> str:
    """SQL for the samples of each `per`: `name` (empty where there is no quota), `before`, those that came to the
    quotas, and `after`, those that all quotas left, the most first. `decided` is a query of verdicts."""
    came = f"(d.status = 'kept' OR d.stage = {quoted(STAGE)})"
    return f"""
WITH candidates AS ({_candidates(quota, f"({decided})", came)})
SELECT name, count(*) AS before, count(*) FILTER (verdict = 'kept') AS after
FROM (SELECT coalesce(CAST(({quota.per}) AS VARCHAR), '') AS name, verdict FROM candidates)
GROUP BY name ORDER BY before DESC, name"""


def _candidates(quota: Quota, decided: str, condition: str) -> str:
    columns = ", ".join(f"i.{column}" for column in _OF_THE_ITEM)
    return f"""
    SELECT s.*, {columns}, {_HOST} AS host, d.duplicate_cluster, d.status AS verdict
    FROM {decided} d JOIN scored s USING (sample_id) JOIN items i ON i.item_id = s.item_id
    WHERE {condition} AND s.kind IN ({", ".join(map(quoted, quota.kinds))})"""


def _query(name: str, quota: Quota) -> str:
    return f"""
WITH candidates AS ({_candidates(quota, "decided", "d.status = 'kept'")}
), places AS (
    SELECT sample_id, per, row_number() OVER (PARTITION BY per ORDER BY {quota.order_sql()}) AS place,
        count(*) OVER (PARTITION BY per) AS size, count(*) OVER () AS all_
    FROM (SELECT *, coalesce(CAST(({quota.per}) AS VARCHAR), '') AS per FROM candidates)
), beyond AS (SELECT sample_id, place, {quota.most_sql()} AS most FROM places WHERE per <> '' AND place > most)
SELECT d.* REPLACE (
    CASE WHEN b.place IS NULL THEN d.status ELSE 'rejected' END AS status,
    CASE WHEN b.place IS NULL THEN d.stage ELSE {quoted(STAGE)} END AS stage,
    CASE WHEN b.place IS NULL THEN d.rule ELSE {quoted(name)} END AS rule,
    CASE WHEN b.place IS NULL THEN d.value ELSE b.place END AS value,
    CASE WHEN b.place IS NULL THEN d.threshold ELSE b.most END AS threshold)
FROM decided d LEFT JOIN beyond b USING (sample_id) ORDER BY d.sample_id"""
