"""The audio stage: whose sound is not measured yet, and the worker that measures a unit's items.

A row of `audio` belongs to an item's bytes and to the options it was measured with; an item without one is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from reelmill.config import from_dict
from reelmill.curation.ledger import AUDIO, TIMINGS
from reelmill.curation.speech.config import SoundConfig
from reelmill.curation.speech.measure import SoundMeter, sound_fingerprint
from reelmill.isolation.failures import failure_of
from reelmill.isolation.messages import SOUND
from reelmill.media.audio import JOB
from reelmill.orchestration.decoding_worker import DecodingWorker
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

WORKER = "reelmill.orchestration.audio:AudioWorker"


def audio_tasks(folder: RunFolder, fingerprint: str, *, retry: bool = False) -> list[Task]:
    """One task per unit that holds a video or recording without a row under this fingerprint.

    With `retry` also those whose sound the machine failed to decode.
    """
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(
            """SELECT unit, item_id, sha256, duration_s FROM items WHERE unit IN (
                SELECT i.unit FROM items i WHERE status = 'done' AND kind IN ('video', 'audio') AND NOT EXISTS (
                    SELECT 1 FROM audio a WHERE a.item_id = i.item_id AND a.sha256 = i.sha256 AND a.fingerprint = $1
                    AND NOT ($2 AND a.problem_class IS NOT DISTINCT FROM 'machine')))
            AND status = 'done' AND kind IN ('video', 'audio') ORDER BY unit, item_id""",
            [fingerprint, retry],
        )
    return [{"unit": unit, "items": len(group), "rows": group} for unit, group in group_by(rows, "unit")]


class AudioWorker(DecodingWorker):
    """Measures the sound of a unit's items; commits `audio/`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        config = from_dict(SoundConfig, settings["sound"])
        self._fingerprint = sound_fingerprint(config)
        self._meter = SoundMeter(config)

    def __call__(self, task: Task) -> Receipt:
        """Measure and commit one unit."""
        began, decoding = time.process_time(), self._child.cpu_s
        rows = [self._row(task["unit"], item) for item in task["rows"]]
        seconds = {"decode": self._child.cpu_s - decoding, "measure": time.process_time() - began}
        folder, unit = self._folder, task["unit"]
        media_s = sum(item["duration_s"] or 0.0 for item in task["rows"])
        known = {"unit": unit, "move": "audio", "items": len(rows), "media_s": media_s}
        timings = [{**known, "stage": part, "cpu_s": cpu_s} for part, cpu_s in seconds.items()]
        folder.commit(folder.unit_path("timings", unit, "audio"), pa.Table.from_pylist(timings, schema=TIMINGS))
        folder.commit(folder.unit_path("audio", unit), pa.Table.from_pylist(rows, schema=AUDIO))
        counts = {
            "with sound": sum(bool(row["tracks"]) for row in rows),
            "failed": sum(bool(r["problem"]) for r in rows),
        }
        return {"unit": unit, "items": len(rows), **counts}

    def _row(self, unit: int, item: Mapping[str, Any]) -> dict[str, Any]:
        """The row of an item; one whose sound cannot be decoded has a problem and no measures."""
        row: dict[str, Any] = dict.fromkeys(AUDIO.names)
        row.update(unit=unit, item_id=item["item_id"], sha256=item["sha256"], fingerprint=self._fingerprint)
        try:
            source = self._sources[item["item_id"]]
            row.update(self._child.run_all(JOB, source, self._options, SOUND, self._meter.measure))
        except Exception as error:
            failure = failure_of(error)
            row.update(problem=failure.reason, problem_class=failure.reason_class)
        return row
