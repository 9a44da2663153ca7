"""Rules: SQL over columns, with bounds. The first rule that fails is the reason; NULL means not yet scored.

The same SQL decides over the whole ledger (`curation.decide`) and, within a worker, which samples a scorer skips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import duckdb
import pyarrow as pa

from reelmill.curation.interfaces import Kind
from reelmill.errors import ConfigError, DataError


@dataclass
class Rule:
    """Keep a sample when `min <= expr <= max`."""

    expr: str
    """SQL over the columns of `samples`."""
    min: float | None = None
    """Least value that is kept; no bound where it is not set."""
    max: float | None = None
    """Greatest value that is kept; no bound where it is not set."""
    stage: str = "rules"
    """Where the funnel counts what the rule rejects."""
    kinds: list[Kind] = field(default_factory=lambda: ["video", "image"])
    """Kinds of samples that the rule judges."""
    null: Literal["undecided", "keep"] = "undecided"
    """What a missing value means: the sample waits for one, or is kept."""
    unless: str = ""
    """A second chance: SQL over the same columns; where it holds, a value out of bounds is let pass."""

    def __post_init__(self) -> None:
        if not self.expr.strip():
            raise ConfigError("a rule has an empty expr: give SQL over the columns of samples")
        if self.unless != self.unless.strip():
            raise ConfigError(f"the rule on {self.expr!r} has an `unless` with blanks around it: leave them out")
        if self.min is None and self.max is None:
            raise ConfigError(f"the rule on {self.expr!r} has no bound: give min, max or both")
        if not all(math.isfinite(bound) for bound in (self.min, self.max) if bound is not None):
            raise ConfigError(f"the rule on {self.expr!r} has a bound that is no number; leave it out instead")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConfigError(f"the rule on {self.expr!r} keeps nothing: min {self.min:g} is above max {self.max:g}")

    def value_sql(self) -> str:
        """What is measured, a DOUBLE."""
        return f"CAST(({self.expr}) AS DOUBLE)"

    def applies_sql(self) -> str:
        """True for the samples that the rule judges."""
        return f"kind IN ({', '.join(map(quoted, self.kinds))})"

    def failed_sql(self) -> str:
        """True when the value is known, out of bounds and not let pass, false otherwise; never NULL."""
        return f"({self._broken_sql()} AND NOT {self._let_pass_sql()})" if self.unless else self._broken_sql()

    def second_chance_sql(self) -> str:
        """True for the samples that a second chance saves; never NULL."""
        return f"({self._broken_sql()} AND {self._let_pass_sql()})" if self.unless else "false"

    def _let_pass_sql(self) -> str:
        return f"coalesce(CAST(({self.unless}) AS BOOLEAN), false)"

    def _broken_sql(self) -> str:
        bounds = []
        if self.min is not None:
            bounds.append(f"{self.value_sql()} < {_double(self.min)}")
        if self.max is not None:
            bounds.append(f"{self.value_sql()} > {_double(self.max)}")
        return f"({self.applies_sql()} AND coalesce({' OR '.join(bounds)}, false))"

    def undecided_sql(self) -> str:
        """True when the rule waits for a value."""
        return f"({self.applies_sql()} AND {self.value_sql()} IS NULL)" if self.null == "undecided" else "false"

    def threshold_sql(self) -> str:
        """The bound that a failing value broke."""
        if self.min is None:
            return _double(self.max)
        if self.max is None:
            return _double(self.min)
        low, high = _double(self.min), _double(self.max)
        return f"CASE WHEN {self.value_sql()} < {low} THEN {low} ELSE {high} END"


def is_read(column: str, rules: Mapping[str, Rule]) -> bool:
    """Whether some rule reads a column."""
    return any(column in rule.expr for rule in rules.values())


def any_failed_sql(rules: Mapping[str, Rule]) -> str:
    """True when at least one rule fails over the values known so far."""
    return " OR ".join(rule.failed_sql() for rule in rules.values()) or "false"


def skipped_sql(skip_if: str) -> str:
    """True when a scorer's `skip_if` holds, false otherwise; never NULL. Wants a column `failed`."""
    return f"coalesce(CAST(({skip_if}) AS BOOLEAN), false)"


def unsettled_sql(rules: Mapping[str, Rule], errors: Mapping[str, Sequence[str]], table: str) -> str:
    """SQL for the `sample_id`s of `table` whose approximate values leave open whether a rule fails.

    `errors` maps the column of a relative error to the columns that have it (`Scorer.approximate`).
    """
    moved = [
        f"t.{identifier(column)} * pow(1 + t.{identifier(error)}, ways.way) AS {identifier(column)}"
        for error, columns in errors.items()
        for column in columns
    ]
    if not moved:
        return f"SELECT sample_id FROM {table} WHERE false"
    open_ = " OR ".join(f"t.{identifier(error)} > 0" for error in errors)
    return f"""SELECT sample_id FROM (
        SELECT sample_id, ({any_failed_sql(rules)}) AS failed FROM (
            SELECT t.* REPLACE ({", ".join(moved)})
            FROM {table} AS t, (VALUES (-1), (0), (1)) AS ways(way) WHERE {open_}))
    GROUP BY sample_id HAVING count(DISTINCT failed) > 1"""


class RuleFilter:
    """The recipe's rules over the rows of a small batch, for the worker that scores it."""

    def __init__(self, rules: Mapping[str, Rule], schema: pa.Schema) -> None:
        self._rules = rules
        self._schema = schema
        self._connection = duckdb.connect(":memory:", config={"enable_external_access": "false", "threads": "1"})

    def skipped(self, rows: Sequence[Mapping[str, Any]], skip_if: str) -> list[bool]:
        """One flag per row: whether a scorer's `skip_if`, in which `failed` stands for the rules, holds.

        Rows are dicts with any of the schema's columns. DataError where the SQL fails on one.
        """
        query = f"SELECT {skipped_sql(skip_if)} FROM (SELECT *, ({any_failed_sql(self._rules)}) AS failed FROM batch)"
        return [bool(flag) for flag in self._values(rows, query)]

    def unsettled(self, rows: Sequence[Mapping[str, Any]], errors: Mapping[str, Sequence[str]]) -> set[str]:
        """The `sample_id`s of rows whose approximate values leave their verdict open, see `unsettled_sql`."""
        return set(self._values(rows, unsettled_sql(self._rules, errors, "batch")))

    def _values(self, rows: Sequence[Mapping[str, Any]], query: str) -> list[Any]:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=self._schema)
        self._connection.register("batch", table)
        try:
            return [value for (value,) in self._connection.execute(query).fetchall()]
        except (duckdb.DataError, duckdb.InvalidInputException) as error:
            raise DataError(f"a rule or skip_if fails on a value: {error}") from None
        except duckdb.Error as error:
            raise ConfigError(f"a rule or skip_if is not valid SQL over samples: {error}") from None
        finally:
            self._connection.unregister("batch")


def check(rules: Mapping[str, Rule], schema: pa.Schema, skips: Mapping[str, str] | None = None) -> None:
    """Bind every rule, and the `skip_if` of each scorer, against the samples' columns.

    ConfigError names the one that is no valid SQL.
    """
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        connection.register("samples", schema.empty_table())
        for name, rule in rules.items():
            plain = replace(rule, unless="")
            _bind(connection, f"rules.{name}.expr = {rule.expr!r}", f"{rule.value_sql()}, {plain.failed_sql()}")
            _bind(connection, f"rules.{name}.unless = {rule.unless!r}", rule.second_chance_sql())
        for name, skip_if in (skips or {}).items():
            where = f"(SELECT *, ({any_failed_sql(rules)}) AS failed FROM samples)"
            _bind(connection, f"score.scorers.{name}.skip_if = {skip_if!r}", skipped_sql(skip_if), where)


def _bind(connection: duckdb.DuckDBPyConnection, what: str, columns: str, table: str = "samples") -> None:
    try:
        connection.execute(f"SELECT {columns} FROM {table}")
    except duckdb.Error as error:
        raise ConfigError(f"{what}: {error}") from None


def _double(bound: float | None) -> str:
    """A bound as SQL; a bare literal would be a DECIMAL, which is rounded."""
    return f"CAST('{bound!r}' AS DOUBLE)"


def quoted(text: str) -> str:
    """An SQL string literal."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def identifier(name: str) -> str:
    """An SQL name."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
