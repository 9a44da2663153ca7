"""The caption stage: which captions are missing, and the worker for sources that need no model.

A caption is a row of (sample, source, model); a sample without one is left to do. Junk is a row too, with its problem;
a model that could not be asked leaves none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelmill.config import from_dict
from reelmill.curation.captions import checks
from reelmill.curation.captions.config import CaptionConfig
from reelmill.curation.captions.contract import Captioner, Row
from reelmill.curation.captions.measures import measures
from reelmill.curation.ledger import CAPTIONS
from reelmill.isolation.failures import failure_of
from reelmill.isolation.untrusted import Maybe, Text
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, content_tag

WORKER = "reelmill.orchestration.caption:CaptionWorker"
_CAPTION = Maybe(Text(1 << 20))

_LACKING = """
FROM samples s, (SELECT unnest($2) AS wanted_source, unnest($3) AS wanted_model) w
WHERE s.kind IN ('video', 'image')
AND sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
AND NOT EXISTS (SELECT 1 FROM captions c WHERE c.sample_id = s.sample_id
    AND c.caption_source = w.wanted_source AND coalesce(c.model, '') = w.wanted_model)"""


def caption_tasks(folder: RunFolder, selection: str, sources: Sequence[str]) -> list[Task]:
    """One task per unit: kept videos and images of `selection` without a row of these sources, which ask no model."""
    wanted = _lacking(folder, selection, [(source, "") for source in sources])
    return [{"unit": unit, "items": len(group), "wanted": group} for unit, group in group_by(wanted, "unit")]


def model_tasks(folder: RunFolder, selection: str, source: str, config: CaptionConfig) -> list[Task]:
    """Tasks of at most `config.batch` samples of a unit that lack a row of this source and its model."""
    wanted = _lacking(folder, selection, [(source, config.model_of(source))])
    return [
        {"unit": unit, "items": len(batch), "wanted": batch}
        for unit, group in group_by(wanted, "unit")
        for batch in (group[n : n + config.batch] for n in range(0, len(group), config.batch))
    ]


def count_waiting(folder: RunFolder, selection: str, requested: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Kept samples that lack a row of a (source, model), by source; sources that lack none are left out."""
    if not requested:
        return {}
    with LedgerQueries(folder.root) as ledger:
        query = f"SELECT w.wanted_source, count(*) AS samples {_LACKING} GROUP BY ALL ORDER BY ALL"
        found = ledger.rows(query, [selection, *_columns(requested)])
    return {row["wanted_source"]: row["samples"] for row in found}


class CaptionWorker:
    """Captions a unit's samples by the sources that ask no model."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = RunFolder(Path(settings["out"]), settings["epoch"])
        config = from_dict(CaptionConfig, settings["captions"])
        self._captioners = {name: config.source(name) for name in settings["caption_sources"]}

    def close(self) -> None:
        """Nothing is held."""

    def __call__(self, task: Task) -> Receipt:
        """Caption and commit one unit's samples."""
        return commit_captions(self._folder, task, [self._caption(wanted) for wanted in task["wanted"]])

    def _caption(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The row of an entry of the task's `wanted`; where the captioner fails its problem names the exception."""
        captioner = self._captioners[wanted["source"]]
        assert isinstance(captioner, Captioner)
        try:
            text = captioner.caption(wanted["sample"])
            return caption_row(wanted, text, checks.problem(text))
        except Exception as error:
            return caption_row(wanted, None, failure_of(error).reason)


def caption_row(wanted: Mapping[str, Any], text: str | None, problem: str | None, parts: int = 1) -> dict[str, Any]:
    """The row of `captions` for an entry of a task's `wanted`. Raises Nonsense for what is no text."""
    text = _CAPTION.check(text or None, "the caption")
    return {
        "unit": wanted["unit"],
        "sample_id": wanted["sample"]["sample_id"],
        "caption": text,
        "caption_source": wanted["source"],
        "model": wanted["model"] or None,
        "language": checks.language(text),
        "problem": problem,
        "parts": parts,
        "created": datetime.now(UTC),
        **measures(text, wanted["sample"]["alt"]),
    }


def commit_captions(folder: RunFolder, task: Task, rows: Sequence[Mapping[str, Any]]) -> Receipt:
    """Write a task's captions as one file, named by what the task asks for; returns the counts."""
    if rows:
        tag = content_tag(f"{w['sample']['sample_id']}|{w['source']}|{w['model']}" for w in task["wanted"])
        path = folder.unit_path("captions", task["unit"], tag)
        folder.commit(path, pa.Table.from_pylist([dict(row) for row in rows], schema=CAPTIONS))
    empty = sum(row["problem"] == "empty" for row in rows)
    junk = sum(row["problem"] is not None for row in rows) - empty
    counts = {"captions": len(rows) - junk - empty, "empty": empty, "junk": junk}
    return {"unit": task["unit"], "items": len(task["wanted"]), **counts}


def _lacking(folder: RunFolder, selection: str, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Captions to make: the row of `samples`, and the source and model that it lacks ("" for a source without one)."""
    if not pairs:
        return []
    query = f"SELECT s.*, w.* {_LACKING} ORDER BY s.unit, s.item_id, start_s, w.wanted_source"
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(query, [selection, *_columns(pairs)])
    return [_wanted(row) for row in rows]


def _wanted(row: dict[str, Any]) -> dict[str, Any]:
    source, model = row.pop("wanted_source"), row.pop("wanted_model")
    sample: Row = row
    return {"unit": row["unit"], "source": source, "model": model, "sample": sample}


def _columns(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [list(column) for column in zip(*pairs, strict=True)]
