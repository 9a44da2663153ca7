"""Where the scores lie, and what moving each bound would keep, the other rules as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.curation.rules import Rule, quoted
from reelmill.orchestration.views import LedgerQueries

BINS = 48
STEPS = 161
FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RuleFigure:
    """One rule's histogram and its movable bounds.

    `edges` [BINS + 1] and `counts` {"kept", "here", "elsewhere"} [BINS] each: kept samples, those that this rule fails,
    those that something else rejects. `steps` are bounds to try; at the first no value lies below, at the last none
    above. `sure` counts the samples that every other rule passes, `open` those that wait for a score of another rule
    (it was skipped); for each, `below` (value < step) and `upto` (value <= step) are exact counts over all samples,
    `total` and `missing` (no value, and that passes).
    """

    name: str
    rule: Rule
    scored: int
    missing: int
    log: bool
    edges: list[float]
    counts: dict[str, list[int]]
    steps: list[float]
    sure: dict[str, Any]
    open: dict[str, Any]
    moved: list[dict[str, Any]]

    def position(self, value: float) -> float:
        """Place of a value on the axis, 0 to 1."""
        low, high = self.edges[0], self.edges[-1]
        if self.log:
            low, high, value = np.log(low), np.log(high), np.log(max(value, low))
        return float(min(max((value - low) / (high - low), 0.0), 1.0))


def figures(ledger: LedgerQueries, rules: Mapping[str, Rule]) -> list[RuleFigure]:
    """A figure for each rule under which at least one sample has a value."""
    names = ", ".join(map(quoted, rules)) or "''"
    columns = [f"coalesce(status = 'rejected' AND rule NOT IN ({names}), false) AS lost"]
    columns.append("coalesce(status = 'kept', false) AS kept")
    for n, rule in enumerate(rules.values()):
        columns.append(f"{rule.value_sql()} AS v{n}, {rule.applies_sql()} AS a{n}")
        columns.append(f"{rule.failed_sql()} AS f{n}, {rule.undecided_sql()} AS u{n}")
    table = ledger.table(f"SELECT {', '.join(columns)} FROM samples")
    found = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    found = {name: column if name.startswith("v") else column.astype(bool) for name, column in found.items()}
    made = (_figure(name, rule, n, len(rules), found) for n, (name, rule) in enumerate(rules.items()))
    return [figure for figure in made if figure is not None]


def _figure(name: str, rule: Rule, n: int, rules: int, found: Mapping[str, Any]) -> RuleFigure | None:
    applies: Flags = found[f"a{n}"]
    values: Values = found[f"v{n}"].astype(np.float64)
    known = applies & np.isfinite(values)
    if not known.any():
        return None
    others = [j for j in range(rules) if j != n]
    lost = np.logical_or.reduce([found["lost"], *(found[f"f{j}"] for j in others)])
    waiting = np.logical_or.reduce([np.zeros_like(lost), *(found[f"u{j}"] for j in others)])
    edges, log = _edges(values[known], rule)
    ends = [values[known].min(), values[known].max()]  # at these, or beyond, a bound rejects nothing
    steps = np.unique(np.concatenate([_spaced(edges[0], edges[-1], STEPS, log), _bounds(rule), ends]))
    missing = applies & ~known if rule.null == "keep" else np.zeros_like(applies)
    sure, open_ = ~lost & ~waiting, ~lost & waiting
    parts = {"kept": found["kept"], "here": found[f"f{n}"], "elsewhere": ~found["kept"] & ~found[f"f{n}"]}
    clipped = np.clip(values, edges[0], edges[-1])
    return RuleFigure(
        name=name,
        rule=rule,
        scored=int(known.sum()),
        missing=int((applies & ~known).sum()),
        log=log,
        edges=edges.tolist(),
        counts={part: np.histogram(clipped[known & chosen], edges)[0].tolist() for part, chosen in parts.items()},
        steps=steps.tolist(),
        sure=_cumulative(values[known & sure], steps, int((missing & sure).sum())),
        open=_cumulative(values[known & open_], steps, int((missing & open_).sum())),
        moved=_moved(rule, values[known & sure], int((missing & sure).sum()), values[known & open_]),
    )


def _cumulative(values: Values, steps: Values, missing: int) -> dict[str, Any]:
    ordered = np.sort(values)
    below, upto = np.searchsorted(ordered, steps, "left"), np.searchsorted(ordered, steps, "right")
    return {"below": below.tolist(), "upto": upto.tolist(), "total": len(values), "missing": missing}


def _moved(rule: Rule, sure: Values, missing: int, waiting: Values) -> list[dict[str, Any]]:
    """For readers without a slider: each bound times some factors."""
    rows = []
    for side in ("min", "max"):
        bound = getattr(rule, side)
        for factor in FACTORS if bound is not None else ():
            low, high = (bound * factor, rule.max) if side == "min" else (rule.min, bound * factor)
            kept = int(_within(sure, low, high).sum()) + missing
            waits = int(_within(waiting, low, high).sum())
            rows.append({"side": side, "factor": factor, "bound": bound * factor, "kept": kept, "waits": waits})
    return rows


def _within(values: Values, low: float | None, high: float | None) -> Flags:
    inside: Flags = np.ones(len(values), dtype=bool)
    if low is not None:
        inside &= values >= low
    if high is not None:
        inside &= values <= high
    return inside


def _bounds(rule: Rule) -> Values:
    return np.array([bound for bound in (rule.min, rule.max) if bound is not None], dtype=np.float64)


def _edges(values: Values, rule: Rule) -> tuple[Values, bool]:
    """Bin edges over nearly all values and the bounds; far outliers fall into the outermost bins."""
    low, high = np.quantile(values, [0.002, 0.998])
    bounds = _bounds(rule)
    low, high = float(min(low, bounds.min())), float(max(high, bounds.max()))
    if low > 0 and high / low > 100:
        return _spaced(low / 1.2, high * 1.2, BINS + 1, log=True), True
    margin = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
    floor = 0.0 if low >= 0 and low - margin < 0 else low - margin
    return _spaced(floor, high + margin, BINS + 1, log=False), False


def _spaced(low: float, high: float, count: int, log: bool) -> Values:
    return np.geomspace(low, high, count) if log else np.linspace(low, high, count)
