"""The caption stage: which captions are missing, and the worker for sources that need no model.

A caption is a row of (sample, source, model); what lacks one is left to do. Junk is a row too, with its problem; a
model that could not be asked leaves none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelmill.config import from_dict
from reelmill.curation.captions import checks as caption_checks
from reelmill.curation.captions import plain as captioners
from reelmill.curation.captions.config import MODEL_SOURCES, CaptionConfig
from reelmill.curation.ledger import CAPTIONS
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, content_tag

WORKER = "reelmill.orchestration.caption:CaptionWorker"
MODEL_WORKERS = {
    "endpoint": "reelmill.orchestration.endpoint_captions:EndpointWorker",
    "vllm": "reelmill.orchestration.vllm_captions:VllmWorker",
}
_FACTS = "s.unit, sample_id, s.item_id, s.kind, start_s, end_s, s.width, s.height, s.fps"
_ROW = f"{_FACTS}, motion_score, colourfulness, quality_score, i.alt, i.uri"

_LACKING = """
FROM scored s JOIN items i USING (item_id), (SELECT unnest($2) AS caption_source, unnest($3) AS model) w
WHERE s.kind <> 'text' AND sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
AND NOT EXISTS (SELECT 1 FROM captions c WHERE c.sample_id = s.sample_id
    AND c.caption_source = w.caption_source AND coalesce(c.model, '') = w.model)"""


def caption_tasks(folder: RunFolder, selection: str, config: CaptionConfig) -> list[Task]:
    """One task a unit: the kept videos and images of `selection` without a row of a source that needs no model."""
    sources = [(source, "") for source in config.sources if source not in MODEL_SOURCES]
    rows = _lacking(folder, selection, sources)
    return [{"unit": unit, "items": len(group), "rows": group} for unit, group in group_by(rows, "unit")]


def model_tasks(folder: RunFolder, selection: str, source: str, config: CaptionConfig) -> list[Task]:
    """Tasks of at most `config.batch` samples of a unit that lack a row of this model source and its model."""
    rows = _lacking(folder, selection, [(source, config.model_of(source) or "")])
    return [
        {"unit": unit, "items": len(batch), "rows": batch}
        for unit, group in group_by(rows, "unit")
        for batch in (group[n : n + config.batch] for n in range(0, len(group), config.batch))
    ]


def count_waiting(folder: RunFolder, selection: str, asked: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Kept samples that lack a row of a (source, model), by source; sources that lack none are left out."""
    if not asked:
        return {}
    with LedgerQueries(folder.root) as ledger:
        query = f"SELECT w.caption_source, count(*) AS samples {_LACKING} GROUP BY ALL ORDER BY ALL"
        found = ledger.rows(query, [selection, *_columns(asked)])
    return {row["caption_source"]: row["samples"] for row in found}


class CaptionWorker:
    """Writes what the sidecar and the measured facts say of a unit's samples."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = RunFolder(Path(settings["out"]), settings["epoch"])
        config = from_dict(CaptionConfig, settings["captions"])
        names = [source for source in config.sources if source not in MODEL_SOURCES]
        self._captioners = {captioner.name: captioner for captioner in captioners.create(names)}

    def close(self) -> None:
        """Nothing is held."""

    def __call__(self, task: Task) -> Receipt:
        """Caption and commit one unit's samples."""
        rows = []
        for row in task["rows"]:
            text = self._captioners[row["caption_source"]].caption(row)
            rows.append(caption_row(row, text, caption_checks.problem(text)))
        return commit_captions(self._folder, task, rows)


def caption_row(row: Mapping[str, Any], text: str | None, problem: str | None, parts: int = 1) -> dict[str, Any]:
    """A row of `captions` for a row that a task asks for."""
    return {
        "unit": row["unit"],
        "sample_id": row["sample_id"],
        "caption": text or None,
        "caption_source": row["caption_source"],
        "model": row["model"] or None,
        "language": caption_checks.language(text),
        "problem": problem,
        "parts": parts,
        "created": datetime.now(UTC),
    }


def commit_captions(folder: RunFolder, task: Task, rows: Sequence[Mapping[str, Any]]) -> Receipt:
    """Write a task's captions as one file, named by what the task asks for; returns the counts."""
    if rows:
        tag = content_tag(f"{row['sample_id']}|{row['caption_source']}|{row['model']}" for row in task["rows"])
        path = folder.unit_path("captions", task["unit"], tag)
        folder.commit(path, pa.Table.from_pylist([dict(row) for row in rows], schema=CAPTIONS))
    empty = sum(row["problem"] == "empty" for row in rows)
    junk = sum(row["problem"] is not None for row in rows) - empty
    counts = {"captions": len(rows) - junk - empty, "empty": empty, "junk": junk}
    return {"unit": task["unit"], "items": len(task["rows"]), **counts}


def _lacking(folder: RunFolder, selection: str, wanted: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Rows to caption, each with the `caption_source` and `model` that it lacks ("" for a source without a model)."""
    if not wanted:
        return []
    query = f"SELECT {_ROW}, w.caption_source, w.model {_LACKING} ORDER BY s.unit, s.item_id, start_s, w.caption_source"
    with LedgerQueries(folder.root) as ledger:
        return ledger.rows(query, [selection, *_columns(wanted)])


def _columns(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [list(column) for column in zip(*pairs, strict=True)]
