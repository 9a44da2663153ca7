"""The transcribe stage: which items lack words, and the worker that gets them from one source.

A transcript is rows of (item, source, model). Junk is a row too, with its problem, and an item of which a source has
nothing has a row that says so; a model that could not be asked leaves none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from reelmill.config import from_dict
from reelmill.curation.ledger import TIMINGS, TRANSCRIPTS
from reelmill.curation.speech import subtitles
from reelmill.curation.speech.checks import segment_problem
from reelmill.curation.speech.clips import collect, speech_clips
from reelmill.curation.speech.config import TranscriptConfig
from reelmill.curation.speech.contract import SUBTITLES, Segment, TranscriptionFailed, transcriber
from reelmill.isolation.failures import failure_of
from reelmill.isolation.messages import CUES, SOUND
from reelmill.isolation.untrusted import Maybe, Number, Text
from reelmill.media import audio, cues
from reelmill.media.source import Place
from reelmill.orchestration.decoding_worker import DecodingWorker
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, content_tag

WORKER = "reelmill.orchestration.transcribe:TranscribeWorker"
_SAID, _LANGUAGE, _SECONDS = Text(1 << 16, repair=True), Maybe(Text(16)), Number(-60.0, 1e7)
_SURE = Maybe(Number())

_LACKING = """
FROM items i LEFT JOIN audio a ON a.item_id = i.item_id
WHERE i.status = 'done' AND i.kind IN ('video', 'audio') AND ($2 = 'subtitles' OR len(a.speech) > 0)
AND EXISTS (SELECT 1 FROM verdicts v JOIN scored s USING (sample_id)
    WHERE s.item_id = i.item_id AND v.selection = $1 AND v.status <> 'rejected')
AND NOT EXISTS (SELECT 1 FROM transcripts t WHERE t.item_id = i.item_id AND t.sha256 = i.sha256
    AND t.source = $2 AND coalesce(t.model, '') = $3)
AND NOT EXISTS (SELECT 1 FROM transcripts t WHERE t.item_id = i.item_id AND t.sha256 = i.sha256
    AND t.problem IS NULL AND list_contains($4::VARCHAR[], concat(t.source, '=', t.model)))"""


def transcript_tasks(folder: RunFolder, selection: str, source: str, config: TranscriptConfig) -> list[Task]:
    """Tasks of items of a unit with at most `config.batch_s` of speech that lack words of this source and its model.

    Items are those with a sample that `selection` does not reject, of which no source that is preferred has good words.
    """
    query = f"SELECT i.unit, i.item_id, i.sha256, i.duration_s, a.speech {_LACKING} ORDER BY i.unit, i.item_id"
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(query, _parameters(selection, source, config))
    return [
        {"unit": unit, "items": len(batch), "rows": batch}
        for unit, group in group_by(rows, "unit")
        for batch in _batches(group, config.batch_s)
    ]


def count_waiting(folder: RunFolder, selection: str, source: str, config: TranscriptConfig) -> int:
    """Items that lack words of this source."""
    with LedgerQueries(folder.root) as ledger:
        (row,) = ledger.rows(f"SELECT count(*) AS n {_LACKING}", _parameters(selection, source, config))
    return int(row["n"])


class TranscribeWorker(DecodingWorker):
    """Transcribes a task's items by one source and commits them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._config = config = from_dict(TranscriptConfig, settings["transcripts"])
        self._source: str = settings["transcript_source"]
        self._model = config.model_of(self._source)
        self._transcriber = None if self._source == SUBTITLES else transcriber(self._source, config)
        if self._transcriber is not None:
            self._transcriber.setup()
        self._beside = self._folder.subtitles() if self._source == SUBTITLES else {}

    def __call__(self, task: Task) -> Receipt:
        """Transcribe and commit a task's items; those that could not be transcribed have no rows."""
        began, decoding = time.process_time(), self._child.cpu_s
        rows: list[dict[str, Any]] = []
        failures: list[str] = []
        for item in task["rows"]:
            try:
                rows += self._rows(task["unit"], item)
            except TranscriptionFailed as failure:
                failures.append(str(failure))
            except Exception as error:
                found = failure_of(error)
                if found.reason_class == "item":
                    rows += [self._row(task["unit"], item, problem=found.reason)]
                else:
                    failures.append(found.reason)
        seconds = {"decode": self._child.cpu_s - decoding, self._source: time.process_time() - began}
        self._commit(task, rows, seconds)
        good = sum(row["problem"] is None for row in rows)
        counts: Receipt = {"segments": good, "dropped": len(rows) - good}
        failed: Receipt = {"failed": len(failures), "failure": failures[0]} if failures else {}
        return {"unit": task["unit"], "items": len(task["rows"]), **counts, **failed}

    def _rows(self, unit: int, item: dict[str, Any]) -> list[dict[str, Any]]:
        found = self._segments(item)
        if not found:
            return [self._row(unit, item, problem="no_subtitles" if self._transcriber is None else "nothing_said")]
        checks = self._config.checks
        return [
            self._row(unit, item, number, segment, segment_problem(segment, checks))
            for number, segment in enumerate(found)
        ]

    def _segments(self, item: dict[str, Any]) -> list[Segment]:
        source = self._sources[item["item_id"]]
        if self._transcriber is None:
            beside = self._beside.get(item["item_id"])
            found = self._cues(cues.FILE_JOB, beside) if beside else None
            return found or self._cues(cues.TRACK_JOB, source) or []
        samples = self._child.run_all(audio.JOB, source, self._options, SOUND, collect)
        spans = [(span["start_s"], span["end_s"]) for span in item["speech"]]
        return sorted(self._transcriber.transcribe(speech_clips(samples, spans)), key=lambda found: found.start_s)

    def _cues(self, job: str, source: Place) -> list[Segment] | None:
        return self._child.run_all(job, source, self._options, CUES, subtitles.segments)

    def _row(
        self,
        unit: int,
        item: dict[str, Any],
        number: int = 0,
        segment: Segment | None = None,
        problem: str | None = None,
    ) -> dict[str, Any]:
        """A row of `transcripts`. Raises Nonsense for a segment that is none."""
        row: dict[str, Any] = dict.fromkeys(TRANSCRIPTS.names)
        row.update(unit=unit, item_id=item["item_id"], sha256=item["sha256"], segment=number)
        row.update(source=self._source, model=self._model or None, problem=problem, created=datetime.now(UTC))
        if segment is not None:
            row.update(start_s=_SECONDS.check(segment.start_s, "start_s"), end_s=_SECONDS.check(segment.end_s, "end_s"))
            row.update(
                text=_SAID.check(segment.text, "the text"), language=_LANGUAGE.check(segment.language, "language")
            )
            row.update(no_speech=_SURE.check(segment.no_speech, "no_speech"))
            row.update(logprob=_SURE.check(segment.logprob, "logprob"))
            row.update(words=[_word(word) for word in segment.words])
        return row

    def _commit(self, task: Task, rows: Sequence[dict[str, Any]], seconds: dict[str, float]) -> None:
        folder, unit = self._folder, task["unit"]
        tag = content_tag(f"{item['item_id']}|{self._source}|{self._model}" for item in task["rows"])
        media_s = sum(item["duration_s"] or 0.0 for item in task["rows"])
        known = {"unit": unit, "move": "transcribe", "items": len(task["rows"]), "media_s": media_s}
        timings = [{**known, "stage": part, "cpu_s": cpu_s} for part, cpu_s in seconds.items()]
        folder.commit(folder.unit_path("timings", unit, tag), pa.Table.from_pylist(timings, schema=TIMINGS))
        if rows:
            table = pa.Table.from_pylist(list(rows), schema=TRANSCRIPTS)
            folder.commit(folder.unit_path("transcripts", unit, tag), table)


def _word(word: Any) -> dict[str, Any]:
    return {
        "text": _SAID.check(word.text, "a word"),
        "start_s": _SECONDS.check(word.start_s, "a word's start_s"),
        "end_s": _SECONDS.check(word.end_s, "a word's end_s"),
        "probability": _SURE.check(word.probability, "a word's probability"),
    }


def _parameters(selection: str, source: str, config: TranscriptConfig) -> list[Any]:
    earlier = config.sources[: config.sources.index(source)]
    return [selection, source, config.model_of(source), [f"{name}={config.model_of(name)}" for name in earlier]]


def _batches(rows: list[dict[str, Any]], most_s: float) -> Iterator[list[dict[str, Any]]]:
    """Consecutive items with at most so much speech together; one with more is alone."""
    batch: list[dict[str, Any]] = []
    held_s = 0.0
    for row in rows:
        seconds = sum(span["end_s"] - span["start_s"] for span in row["speech"] or ()) or row["duration_s"] or 0.0
        if batch and held_s + seconds > most_s:
            yield batch
            batch, held_s = [], 0.0
        batch.append(row)
        held_s += seconds
    if batch:
        yield batch
