"""Rules: SQL over columns, with bounds. The first rule that fails is the reason; NULL means not yet scored.

The same SQL decides over the whole ledger (`curation.decide`) and, within a worker, which samples dear scorers skip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb
import pyarrow as pa

from reelmill.errors import ConfigError


@dataclass
class Rule:
    """Keep a sample when `min <= expr <= max`.

    `expr` is SQL over the columns of `samples`; `kinds` says which samples the rule looks at; `stage` names the stage
    whose measure it judges (for the funnel); `null` says what a missing value means: "undecided" or "keep".
    """

    expr: str
    min: float | None = None
    max: float | None = None
    stage: str = "rules"
    kinds: list[str] = field(default_factory=lambda: ["video", "image"])
    null: Literal["undecided", "keep"] = "undecided"

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ConfigError(f"the rule on {self.expr!r} has no bound: give min, max or both")

    def applies_sql(self) -> str:
        """True for the samples the rule looks at."""
        return f"kind IN ({', '.join(map(_quoted, self.kinds))})"

    def failed_sql(self) -> str:
        """True when the value is known and out of bounds, false otherwise; never NULL."""
        bounds = []
        if self.min is not None:
            bounds.append(f"({self.expr}) < {self.min!r}")
        if self.max is not None:
            bounds.append(f"({self.expr}) > {self.max!r}")
        return f"({self.applies_sql()} AND coalesce({' OR '.join(bounds)}, false))"

    def undecided_sql(self) -> str:
        """True when the rule waits for a value."""
        return f"({self.applies_sql()} AND ({self.expr}) IS NULL)" if self.null == "undecided" else "false"

    def threshold_sql(self) -> str:
        """The bound that a failing value broke."""
        if self.min is None or self.max is None:
            return repr(self.max if self.min is None else self.min)
        return f"CASE WHEN ({self.expr}) < {self.min!r} THEN {self.min!r} ELSE {self.max!r} END"


def any_failed_sql(rules: Mapping[str, Rule]) -> str:
    """True when at least one rule fails over the values known so far."""
    return " OR ".join(rule.failed_sql() for rule in rules.values()) or "false"


class SkipFilter:
    """Says which rows of a small batch a scorer skips: its `skip_if` SQL, in which `failed` stands for the rules."""

    def __init__(self, rules: Mapping[str, Rule], schema: pa.Schema) -> None:
        self._failed = any_failed_sql(rules)
        self._schema = schema
        self._connection = duckdb.connect(":memory:", config={"enable_external_access": "false", "threads": "1"})

    def skipped(self, rows: Sequence[Mapping[str, Any]], skip_if: str) -> list[bool]:
        """One flag a row; rows are dicts with any of the schema's columns."""
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=self._schema)
        self._connection.register("batch", table)
        query = f"SELECT coalesce(({skip_if}), false) FROM (SELECT *, ({self._failed}) AS failed FROM batch)"
        try:
            return [bool(flag) for (flag,) in self._connection.execute(query).fetchall()]
        except duckdb.Error as error:
            raise ConfigError(f"a rule or skip_if is not valid SQL over samples: {error}") from None
        finally:
            self._connection.unregister("batch")


def check(rules: Mapping[str, Rule], schema: pa.Schema) -> None:
    """Bind every rule against the samples' columns; ConfigError names the rule that is no valid SQL."""
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        connection.register("samples", schema.empty_table())
        for name, rule in rules.items():
            try:
                connection.execute(f"SELECT CAST(({rule.expr}) AS DOUBLE), {rule.failed_sql()} FROM samples")
            except duckdb.Error as error:
                raise ConfigError(f"rules.{name}.expr = {rule.expr!r}: {error}") from None


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
