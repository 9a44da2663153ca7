"""The caption move: kept samples that have no caption yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from reelmill.curation import captioners
from reelmill.curation.ledger import CAPTIONS
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import chunked
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, content_tag

WORKER = "reelmill.orchestration.caption:CaptionWorker"
_FACTS = "unit, sample_id, item_id, kind, start_s, end_s, width, height, fps"
_ROW = f"{_FACTS}, motion_score, colourfulness, quality_score, alt, uri"


def caption_tasks(folder: RunFolder, selection: str) -> list[Task]:
    """One task a unit: the kept video and image samples of `selection` without a caption."""
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(
            f"""SELECT {_ROW} FROM samples WHERE kind <> 'text' AND caption IS NULL AND sample_id IN
            (SELECT sample_id FROM verdicts WHERE selection = ? AND status = 'kept') ORDER BY unit, sample_id""",
            [selection],
        )
    return [{"unit": unit, "items": len(group), "rows": group} for unit, group in chunked(rows, "unit")]


class CaptionWorker:
    """Captions a unit's samples with the first captioner that has something to say."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = RunFolder(Path(settings["out"]), settings["epoch"])
        self._captioners = captioners.create(settings["captioners"])

    def close(self) -> None:
        """Nothing is held."""

    def __call__(self, task: Task) -> Receipt:
        """Caption and commit one unit's samples."""
        rows = [caption for row in task["rows"] if (caption := self._caption(row))]
        tag = content_tag(row["sample_id"] for row in task["rows"])
        path = self._folder.unit_path("captions", task["unit"], tag)
        self._folder.commit(path, pa.Table.from_pylist(rows, schema=CAPTIONS))
        return {"unit": task["unit"], "items": len(task["rows"]), "captions": len(rows)}

    def _caption(self, row: dict[str, Any]) -> dict[str, Any] | None:
        for captioner in self._captioners:
            caption = captioner.caption(row)
            if caption:
                known = {"unit": row["unit"], "sample_id": row["sample_id"]}
                return {**known, "caption": caption, "caption_source": captioner.name}
        return None
