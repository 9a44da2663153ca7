"""The annotate stage: which narrated samples lack annotations, and the worker that asks models for them.

An annotation is a row of (sample, kind, part), under the fingerprint of the recipe's `[annotations]` and the `basis` of
what is said and seen. Junk is a row too, with its problem; a model that could not be asked leaves none, and is asked
about what lacks alone. The summary comes last: a sample that has one is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from reelmill.config import from_dict
from reelmill.curation.annotations import config as annotation_config
from reelmill.curation.annotations.answers import Note, notes
from reelmill.curation.annotations.config import AnnotationConfig
from reelmill.curation.annotations.prompts import load_prompts
from reelmill.curation.annotations.story import Story, scenes
from reelmill.curation.captions import checks
from reelmill.curation.captions.config import CaptionConfig
from reelmill.curation.captions.contract import AnswerSettings, ModelCaptioner, Question, Unavailable
from reelmill.curation.captions.frames import jpeg
from reelmill.curation.ledger import ANNOTATIONS
from reelmill.curation.narration import keyframe_blocks
from reelmill.isolation.failures import failure_of
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.stories import StoryWorker
from reelmill.orchestration.views import LedgerQueries, content_tag

WORKER = "reelmill.orchestration.annotate:AnnotateWorker"

_LACKING = """
FROM scored s JOIN narrations n USING (sample_id)
WHERE (s.keyframes IS NOT NULL OR s.kind = 'audio')
AND s.sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
AND NOT EXISTS (SELECT 1 FROM annotations a WHERE a.sample_id = s.sample_id AND a.kind = 'summary'
    AND a.fingerprint = $2 AND a.basis = n.basis)
AND (s.n_words IS NOT NULL OR NOT $3)"""

_FIELDS = "unit, sample_id, item_id, kind, start_s, end_s, width, height, keyframes, language, basis"
_KINDS = ("segment", "scene", "summary")


def annotation_tasks(folder: RunFolder, selection: str, config: AnnotationConfig, *, for_words: bool) -> list[Task]:
    """Tasks of at most `config.batch` samples of a unit, kept by `selection`, that lack annotations.

    With `for_words` a sample has its turn when it is transcribed.
    """
    with LedgerQueries(folder.root) as ledger:
        query = f"SELECT {_FIELDS} {_LACKING} ORDER BY s.unit, s.item_id, s.start_s"
        rows = ledger.rows(query, [selection, annotation_config.fingerprint(config), for_words])
    return [
        {"unit": unit, "items": len(batch), "rows": batch}
        for unit, group in group_by(rows, "unit")
        for batch in (group[n : n + config.batch] for n in range(0, len(group), config.batch))
    ]


def count_waiting(folder: RunFolder, selection: str, config: AnnotationConfig) -> int:
    """Kept samples that lack annotations."""
    fingerprint = annotation_config.fingerprint(config)
    with LedgerQueries(folder.root) as ledger:
        (row,) = ledger.rows(f"SELECT count(*) AS n {_LACKING}", [selection, fingerprint, False])
    return int(row["n"])


@dataclass(frozen=True)
class _Part:
    """What one question is about."""

    story: Story
    kind: str
    part: int = 0


class AnnotateWorker(StoryWorker):
    """Asks about a task's samples: segments and scenes, then the whole; commits what was answered."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._config = config = from_dict(AnnotationConfig, settings["annotations"])
        self._fingerprint = annotation_config.fingerprint(config)
        self._prompts = load_prompts(config.prompts)
        self._models = {kind: self._model(kind) for kind in _KINDS}
        self._failures: list[str] = []

    def __call__(self, task: Task) -> Receipt:
        """Annotate and commit a task's samples; a rerun asks about what could not be answered."""
        self._failures = []
        with LedgerQueries(self._folder.root) as ledger:
            stories = [self._story(ledger, row) for row in task["rows"]]
        answered = [f"{row['sample_id']} {row['kind']} {row['part']}" for story in stories for row in story.answered]
        self._ask("segment", (_Part(s, "segment") for s in stories if s.sentences and s.lacks("segment")))
        self._ask("scene", (_Part(s, "scene", n) for s in stories for n in range(len(s.scenes)) if s.lacks("scene", n)))
        for story in stories:
            if not (story.sentences or story.scenes):
                nothing = Note(story.sample["start_s"], story.sample["end_s"], None, "nothing_to_tell")
                self._add(_Part(story, "summary"), nothing)
        self._ask("summary", (_Part(s, "summary") for s in stories if s.is_told and s.lacks("summary")))
        rows = [row for story in stories for row in story.fresh]
        if rows:
            ids = [row["sample_id"] for row in task["rows"]]
            tag = content_tag([*ids, *answered, self._fingerprint])
            path = self._folder.unit_path("annotations", task["unit"], tag)
            self._folder.commit(path, pa.Table.from_pylist(rows, schema=ANNOTATIONS))
        junk = sum(row["problem"] is not None for row in rows)
        counts: Receipt = {"annotations": len(rows) - junk, "junk": junk}
        failures = self._failures
        failed: Receipt = {"failed": len(failures), "failure": failures[0]} if failures else {}
        return {"unit": task["unit"], "items": len(task["rows"]), **counts, **failed}

    def _model(self, kind: str) -> ModelCaptioner:
        model = CaptionConfig(endpoint=self._config.endpoint_of(kind)).source("endpoint")
        assert isinstance(model, ModelCaptioner)
        model.setup(AnswerSettings(self._config.max_tokens, self._config.temperature, self._config.frames))
        return model

    def _story(self, ledger: LedgerQueries, row: dict[str, Any]) -> Story:
        answered = ledger.rows(
            "SELECT * FROM annotations WHERE sample_id = $1 AND fingerprint = $2 AND basis = $3 ORDER BY kind, part",
            [row["sample_id"], self._fingerprint, row["basis"]],
        )
        spoken = self._sentences(ledger, row)
        keyframes = row["keyframes"] or ()
        seen = scenes(keyframes, keyframe_blocks(keyframes), self._config.frames)
        language = self._config.language or ("zh" if (row["language"] or "").startswith("zh") else "en")
        return Story(row, spoken, seen, language, self._prompts[language], answered)

    def _ask(self, kind: str, parts: Iterator[_Part]) -> None:
        """Ask about the parts and add what comes back to their stories."""
        asked: dict[int, _Part] = {}
        try:
            for reply in self._models[kind].ask(self._questions(kind, parts, asked)):
                part = asked.pop(reply.question.row["number"])
                if reply.failure:
                    self._failures.append(reply.failure)
                    continue
                for note in notes(part.story, part.kind, part.part, reply.answers[0], self._config):
                    self._add(part, note)
        except Unavailable as reason:
            self._failures += [f"not asked: {reason}" for _ in (*asked, *parts)]

    def _questions(self, kind: str, parts: Iterator[_Part], asked: dict[int, _Part]) -> Iterator[Question]:
        """A question a part; a scene that cannot be decoded is junk, or a failure of the machine."""
        for number, part in enumerate(parts):
            try:
                frames = self._jpegs(part) if kind == "scene" else []
            except Exception as error:
                self._undecodable(part, failure_of(error))
                continue
            asked[number] = part
            yield Question({"number": number}, part.story.question(kind, part.part), [frames])

    def _jpegs(self, part: _Part) -> list[bytes]:
        """The key frames of a scene as JPEG files. Raises ItemFailed."""
        blocks = part.story.scenes[part.part].frames
        pictures = self._pictures(part.story.sample, blocks, self._config.short_side)
        return [jpeg(picture, self._config.jpeg_quality) for picture in pictures]

    def _undecodable(self, part: _Part, failure: ItemFailed) -> None:
        if failure.reason_class == "item":
            scene = part.story.scenes[part.part]
            self._add(part, Note(scene.start_s, scene.end_s, None, "undecodable"))
        else:
            self._failures.append(failure.reason)

    def _add(self, part: _Part, note: Note) -> None:
        """Add a row; the segments of an answer are numbered from 0."""
        story = part.story
        number = sum(row["kind"] == "segment" for row in story.fresh) if part.kind == "segment" else part.part
        known = {name: story.sample[name] for name in ("unit", "sample_id", "item_id", "basis")}
        story.fresh.append(
            {
                **known,
                "kind": part.kind,
                "part": number,
                "start_s": note.start_s,
                "end_s": note.end_s,
                "text": note.text,
                "language": checks.language(note.text),
                "model": self._config.endpoint_of(part.kind).model,
                "problem": note.problem,
                "fingerprint": self._fingerprint,
                "created": datetime.now(UTC),
            }
        )
