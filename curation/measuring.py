"""Measuring a batch of samples: scorers in the recipe's order, what they may skip, what they look at again."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from reelmill.curation.interfaces import VECTOR, Sample, Scorer
from reelmill.curation.ledger import ARROW_TYPES
from reelmill.curation.rules import RuleFilter
from reelmill.errors import brief

log = logging.getLogger(__name__)

NamedScorer = tuple[str, str, Scorer]
"""Name, `skip_if` and scorer."""
Measure = Callable[[Sequence[Sample]], list[dict[str, Any]]]


class Measurer:
    """The scorers of a recipe, set up, and the rules that they are skipped by."""

    def __init__(self, scorers: Sequence[NamedScorer], rules: RuleFilter) -> None:
        self._scorers = scorers
        self._rules = rules
        self._shared = _shared_columns([scorer for _, _, scorer in scorers])
        self._approximate = approximate_columns(scorers)
        for _, _, scorer in scorers:
            scorer.setup()
        self.cpu_s: dict[str, float] = defaultdict(float)

    def measure(self, batch: list[Sample]) -> list[dict[str, Any]]:
        """Rows of a batch of samples: their facts, and what the scorers that are not skipped give."""
        rows = [_sample_row(sample) for sample in batch]
        for name, skip_if, scorer in self._scorers:
            wanted = [i for i, s in enumerate(batch) if s.kind in scorer.kinds and _is_measured(s)]
            if skip_if and wanted:
                skipped = self._rules.skipped([rows[i] for i in wanted], skip_if)
                for i in (i for i, skip in zip(wanted, skipped, strict=True) if skip):
                    rows[i]["skipped"] = " ".join(filter(None, [rows[i]["skipped"], name]))
                wanted = [i for i, skip in zip(wanted, skipped, strict=True) if not skip]
            if wanted:
                began = time.process_time()
                self._take(name, scorer.score, scorer, wanted, batch, rows)
                if scorer.approximate:
                    self._refine(name, scorer, wanted, batch, rows)
                self.cpu_s[name] += time.process_time() - began
        for row in rows:
            self._fill_shared(row)
        return rows

    def keep_known(self, rows: Sequence[dict[str, Any]], before: Mapping[str, Mapping[str, Any]]) -> None:
        """Put back what a scorer measured before, and better than now: a score is never lost.

        Under other rules a scorer may skip a sample or look at it roughly, and it may fail.

        `before` maps sample ids to rows of the same score fingerprint.
        """
        for row in rows:
            known = before.get(row["sample_id"], {})
            lost = {
                name: {column: known.get(column) for column in scorer.columns}
                for name, _, scorer in self._scorers
                if not _has_none(known, scorer) and _is_worse(row, known, scorer)
            }
            for scores in lost.values():
                row.update(scores)
            skipped, failed = (row["skipped"] or "").split(), (row["score_error"] or "").split("; ")
            row["skipped"] = " ".join(name for name in skipped if name not in lost) or None
            row["score_error"] = "; ".join(error for error in failed if error.partition(":")[0] not in lost) or None
            self._fill_shared(row)

    def _refine(
        self, name: str, scorer: Scorer, wanted: list[int], batch: Sequence[Sample], rows: Sequence[dict[str, Any]]
    ) -> None:
        """Look again, and nearer, at those of the wanted samples whose verdict is open."""
        while open_ := self._unsettled(wanted, rows):
            before = {i: _errors(rows[i], scorer) for i in open_}
            self._take(name, scorer.refine, scorer, open_, batch, rows)
            wanted = [i for i in open_ if _errors(rows[i], scorer) < before[i]]

    def _take(
        self,
        name: str,
        measure: Measure,
        scorer: Scorer,
        wanted: Sequence[int],
        batch: Sequence[Sample],
        rows: Sequence[dict[str, Any]],
    ) -> None:
        """Measure the wanted samples of a batch; scores go into their rows, and to the scorers that follow."""
        found = _scores(name, measure, scorer, [batch[i] for i in wanted])
        for i, scores in zip(wanted, found, strict=True):
            errors = filter(None, [rows[i]["score_error"], scores.pop("score_error", None)])
            rows[i].update(scores, score_error="; ".join(errors) or None)
            batch[i].columns.update(scores)

    def _unsettled(self, wanted: Sequence[int], rows: Sequence[dict[str, Any]]) -> list[int]:
        """Which of the wanted rows have an approximate value too close to a bound of the rules."""
        for i in wanted:
            self._fill_shared(rows[i])
        open_ = self._rules.unsettled([rows[i] for i in wanted], self._approximate)
        return [i for i in wanted if rows[i]["sample_id"] in open_]

    def _fill_shared(self, row: dict[str, Any]) -> None:
        row.update({shared: row.get(column) for shared, column in self._shared.items()})


def approximate_columns(named: Sequence[NamedScorer]) -> dict[str, list[str]]:
    """Columns of relative errors, each with the columns that have it: scorers' approximate ones, and shared ones."""
    scorers = [scorer for _, _, scorer in named]
    shared = _shared_columns(scorers)
    errors: dict[str, list[str]] = defaultdict(list)
    for scorer in scorers:
        for column, error in scorer.approximate.items():
            errors[error] += [column, *(name for name, filled_by in shared.items() if filled_by == column)]
    return dict(errors)


def _shared_columns(scorers: Sequence[Scorer]) -> dict[str, str]:
    """Each shared column, and the column that stands for it: that of the scorer with the highest precedence."""
    return {
        shared: column
        for scorer in sorted(scorers, key=lambda scorer: scorer.precedence)
        for shared, column in scorer.shares.items()
    }


def _is_measured(sample: Sample) -> bool:
    """Whether there is anything to look at: pictures, or words."""
    return len(sample.frames.images) > 0 or sample.text is not None


def _sample_row(sample: Sample) -> dict[str, Any]:
    names = ("sample_id", "item_id", "kind", "start_s", "end_s", "width", "height", "fps")
    row = {name: getattr(sample, name) for name in names}
    row.update(sample.columns, n_frames=len(sample.frames.images), skipped=None, score_error=None)
    return row


def _scores(name: str, measure: Measure, scorer: Scorer, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Scores of a batch; where the batch fails, sample by sample, so that an error costs one sample."""
    try:
        return _checked(scorer, samples, measure(samples))
    except Exception as error:  # a scorer's failure is recorded in the row, which then stays undecided
        if len(samples) > 1:
            return [scores for sample in samples for scores in _scores(name, measure, scorer, [sample])]
        text = brief(error).replace("; ", ", ")  # "; " separates the messages of two scorers
        message = f"{name}: {type(error).__name__}: {text}"
        log.warning("%s: %s", samples[0].sample_id, message)
        return [{**dict.fromkeys(scorer.columns), "score_error": message}]


def _checked(scorer: Scorer, samples: Sequence[Sample], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a scorer gave, as plain values of its columns' types; NaN is no score. Raises for anything else."""
    if len(found) != len(samples):
        raise ValueError(f"{len(found)} results for {len(samples)} samples")
    vectors = [scores.pop(VECTOR, None) for scores in found] if scorer.embeds else []
    if wrong := [scores for scores in found if scores.keys() != scorer.columns.keys()]:
        raise ValueError(f"gave {sorted(wrong[0])}, its columns are {sorted(scorer.columns)}")
    schema = pa.schema([(column, ARROW_TYPES[kind]) for column, kind in scorer.columns.items()])
    plain: list[dict[str, Any]] = pa.Table.from_pylist(found, schema=schema).to_pylist()
    checked = [{column: None if _is_nan(value) else value for column, value in scores.items()} for scores in plain]
    for scores, vector in zip(checked, vectors, strict=bool(vectors)):
        scores[VECTOR] = vector
    return checked


def _has_none(row: Mapping[str, Any], scorer: Scorer) -> bool:
    """Whether a row has no score of a scorer."""
    return all(row.get(column) is None for column in scorer.columns)


def _is_worse(row: Mapping[str, Any], known: Mapping[str, Any], scorer: Scorer) -> bool:
    """Whether a row has no score of a scorer, or a less exact one than is known."""
    errors = scorer.approximate.values()
    return _has_none(row, scorer) or any((row[error] or 0.0) > (known.get(error) or 0.0) for error in errors)


def _errors(row: Mapping[str, Any], scorer: Scorer) -> float:
    """The sum of the relative errors that a scorer states in a row."""
    return sum(row[error] or 0.0 for error in scorer.approximate.values())


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
