"""The judge stage: which narrated samples a judge has not judged yet, and the worker that asks it.

A judgement is a row of (sample, judge), under the judge's fingerprint and the `basis` of what is said and seen. An
answer that says nothing is a row too, with its problem; a model that could not be asked leaves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from reelmill.config import from_dict
from reelmill.curation.captions.config import CaptionConfig
from reelmill.curation.captions.contract import AnswerSettings, ModelCaptioner, Question, Unavailable
from reelmill.curation.captions.frames import jpeg
from reelmill.curation.judging import config as judging_config
from reelmill.curation.judging.agreement import Agreement, said_near, spread
from reelmill.curation.judging.answers import Judgement, judgement
from reelmill.curation.judging.config import JUDGES, JudgingConfig
from reelmill.curation.judging.perplexity import Perplexity
from reelmill.curation.judging.prompts import load_prompts
from reelmill.curation.ledger import JUDGEMENTS
from reelmill.curation.narration import Block, joined, keyframe_blocks
from reelmill.curation.speech.words import split_words
from reelmill.isolation.failures import failure_of
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.stories import Row, StoryWorker
from reelmill.orchestration.views import LedgerQueries, content_tag

WORKER = "reelmill.orchestration.judge:JudgeWorker"

_LACKING = """
FROM scored s JOIN narrations n USING (sample_id)
WHERE (s.keyframes IS NOT NULL OR ($2 IN ('speech', 'perplexity') AND s.kind = 'audio')) AND s.n_words IS NOT NULL
AND s.sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
AND NOT EXISTS (SELECT 1 FROM judgements j WHERE j.sample_id = s.sample_id AND j.judge = $2
    AND j.fingerprint = $3 AND j.basis = n.basis)"""
_FIELDS = "unit, sample_id, item_id, start_s, end_s, width, height, keyframes, language, basis"


def judge_tasks(folder: RunFolder, selection: str, judge: str, config: JudgingConfig) -> list[Task]:
    """Tasks of at most `config.batch` narrated samples of a unit, kept by `selection` and transcribed, that a judge has
    not judged yet. Recordings without pictures are for those that read."""
    query = f"SELECT {_FIELDS} {_LACKING} ORDER BY s.unit, s.item_id, s.start_s"
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(query, [selection, judge, judging_config.fingerprint(config, judge)])
    return [
        {"unit": unit, "items": len(batch), "rows": batch}
        for unit, group in group_by(rows, "unit")
        for batch in (group[n : n + config.batch] for n in range(0, len(group), config.batch))
    ]


def count_waiting(folder: RunFolder, selection: str, judge: str, config: JudgingConfig) -> int:
    """Kept narrated samples that a judge has not judged yet."""
    with LedgerQueries(folder.root) as ledger:
        parameters = [selection, judge, judging_config.fingerprint(config, judge)]
        (row,) = ledger.rows(f"SELECT count(*) AS n {_LACKING}", parameters)
    return int(row["n"])


@dataclass(frozen=True)
class _Case:
    """A sample with what it says and the key frames that are looked at."""

    sample: Row
    sentences: list[Block]
    words: list[Row]
    frames: list[Block]


class JudgeWorker(StoryWorker):
    """Asks one judge about a task's samples and commits what it says."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._config = config = from_dict(JudgingConfig, settings["judging"])
        self._judge: str = settings["judge"]
        self._fingerprint = judging_config.fingerprint(config, self._judge)
        self._rows: list[dict[str, Any]] = []
        self._failures: list[str] = []
        if self._judge == "agreement":
            self._agreement = Agreement(config.clip)
        elif self._judge == "perplexity":
            self._perplexity = Perplexity(config.lm.model)
        else:
            self._prompts = load_prompts(config.prompts)
            self._model = self._endpoint()

    def __call__(self, task: Task) -> Receipt:
        """Judge and commit a task's samples; a rerun asks about what could not be asked."""
        self._rows, self._failures = [], []
        with LedgerQueries(self._folder.root) as ledger:
            cases = [self._case(ledger, row) for row in task["rows"]]
        if self._judge == "agreement":
            for case in cases:
                self._compare(case)
        elif self._judge == "perplexity":
            for case in cases:
                self._add(case, self._perplexity.judge(self._said(case)))
        else:
            self._ask(cases)
        if self._rows:
            tag = content_tag([*(row["sample_id"] for row in self._rows), self._judge, self._fingerprint])
            path = self._folder.unit_path("judgements", task["unit"], tag)
            self._folder.commit(path, pa.Table.from_pylist(self._rows, schema=JUDGEMENTS))
        good = sum(row["problem"] is None for row in self._rows)
        counts: Receipt = {"judged": good, "junk": len(self._rows) - good}
        failures = self._failures
        failed: Receipt = {"failed": len(failures), "failure": failures[0]} if failures else {}
        return {"unit": task["unit"], "items": len(task["rows"]), **counts, **failed}

    def _case(self, ledger: LedgerQueries, sample: Row) -> _Case:
        words = [word for segment in self._segments(ledger, sample) for word in segment["words"] or ()]
        frames = spread(keyframe_blocks(sample["keyframes"] or ()), self._config.frames)
        return _Case(sample, self._sentences(ledger, sample), words, frames)

    def _endpoint(self) -> ModelCaptioner:
        model = CaptionConfig(endpoint=getattr(self._config, JUDGES[self._judge])).source("endpoint")
        assert isinstance(model, ModelCaptioner)
        model.setup(AnswerSettings(self._config.max_tokens, self._config.temperature, self._config.frames))
        return model

    def _compare(self, case: _Case) -> None:
        """Pictures and words, by CLIP."""
        try:
            pictures = self._pictures(case.sample, case.frames, self._config.short_side)
        except Exception as error:
            self._undecodable(case, error)
            return
        said = [said_near(case.words, block.start_s, self._config.near_s) for block in case.frames]
        self._add(case, self._agreement.judge(pictures, said))

    def _ask(self, cases: list[_Case]) -> None:
        """Ask the endpoint about all that has something to be judged."""
        asked: dict[int, _Case] = {}
        numbered = enumerate(cases)
        try:
            for reply in self._model.ask(self._questions(numbered, asked)):
                case = asked.pop(reply.question.row["number"])
                if reply.failure:
                    self._failures.append(reply.failure)
                else:
                    self._add(case, judgement(self._judge, reply.answers[0]))
        except Unavailable as reason:
            self._failures += [f"not asked: {reason}" for _ in (*asked, *numbered)]

    def _questions(self, cases: Iterator[tuple[int, _Case]], asked: dict[int, _Case]) -> Iterator[Question]:
        for number, case in cases:
            language = "zh" if (case.sample["language"] or "").startswith("zh") else "en"
            frames: list[bytes] = []
            if self._judge == "speech" and not case.sentences:
                self._add(case, Judgement(None, problem="nothing_said"))
                continue
            if JUDGES[self._judge] == "vision":
                try:
                    pictures = self._pictures(case.sample, case.frames, self._config.short_side)
                except Exception as error:
                    self._undecodable(case, error)
                    continue
                frames = [jpeg(picture, self._config.jpeg_quality) for picture in pictures]
            asked[number] = case
            yield Question(
                {"number": number}, self._prompts[language].question(self._judge, self._said(case)), [frames]
            )

    def _said(self, case: _Case) -> str:
        """The transcript, or the middle of a long one."""
        words = [word for sentence in case.sentences for word in split_words(sentence.text)]
        over = max(len(words) - self._config.words, 0)
        return joined(words[over // 2 : len(words) - (over - over // 2)])

    def _undecodable(self, case: _Case, error: Exception) -> None:
        failure = failure_of(error)
        if failure.reason_class == "item":
            self._add(case, Judgement(None, problem="undecodable"))
        else:
            self._failures.append(failure.reason)

    def _add(self, case: _Case, found: Judgement) -> None:
        known = {name: case.sample[name] for name in ("unit", "sample_id", "item_id", "basis")}
        self._rows.append(
            {
                **known,
                "judge": self._judge,
                "value": found.value,
                "text": found.text,
                "model": self._config.model_of(self._judge),
                "problem": found.problem,
                "fingerprint": self._fingerprint,
                "created": datetime.now(UTC),
            }
        )
