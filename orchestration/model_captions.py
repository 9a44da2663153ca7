"""The caption stage's worker for sources that show samples to a model: frames, prompts, checks of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reelmill.config import from_dict
from reelmill.curation.captions import checks
from reelmill.curation.captions.config import CaptionConfig
from reelmill.curation.captions.contract import AnswerSettings, ModelCaptioner, Question, Reply, Unavailable
from reelmill.curation.captions.frames import decode_frames
from reelmill.curation.captions.prompts import load_prompts, prompt_language
from reelmill.curation.text_cleaning import clean_text
from reelmill.isolation.failures import failure_of
from reelmill.isolation.parent import ItemFailed
from reelmill.isolation.untrusted import Text
from reelmill.media.source import reading_order
from reelmill.orchestration.caption import caption_row, commit_captions
from reelmill.orchestration.decoding_worker import DecodingWorker
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by

WORKER = "reelmill.orchestration.model_captions:ModelCaptionWorker"

_ANSWER = Text(1 << 20, repair=True)
Wanted = Mapping[str, Any]
"""An entry of a task: a row of `samples`, and the source and model whose caption it lacks."""


@dataclass
class Outcome:
    """What a task came to: rows to commit, and the messages of failures, whose samples a rerun asks about again."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class ModelCaptionWorker(DecodingWorker):
    """Shows a task's samples to the model of one source and commits its captions."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._config = config = from_dict(CaptionConfig, settings["captions"])
        (name,) = settings["caption_sources"]
        captioner = config.source(name)
        assert isinstance(captioner, ModelCaptioner)
        captioner.setup(AnswerSettings(config.max_tokens, config.temperature, config.frames.frames))
        self._captioner = captioner
        self._prompts = load_prompts(config.prompts)

    def __call__(self, task: Task) -> Receipt:
        """Caption and commit a task's samples."""
        outcome = self._ask(task["wanted"])
        receipt = commit_captions(self._folder, task, outcome.rows)
        failed: Receipt = {"failed": len(outcome.failures), "failure": outcome.failures[0]} if outcome.failures else {}
        return {**receipt, **failed}

    def _ask(self, wanted: Sequence[Wanted]) -> Outcome:
        """What became of each entry. Where the model fails at several together, they are asked about one by one."""
        outcome = Outcome()
        left = {entry["sample"]["sample_id"]: entry for entry in wanted}
        try:
            for reply in self._captioner.ask(self._questions(wanted, left, outcome)):
                entry = left.pop(reply.question.row["sample_id"])
                if reply.failure:
                    outcome.failures.append(reply.failure)
                else:
                    _add_answer(entry, reply, outcome)
            outcome.failures.extend("the source gave no reply" for _ in left)
        except Unavailable as reason:
            outcome.failures.extend(f"not asked: {reason}" for _ in left)
        except Exception as error:
            failure = failure_of(error)
            for entry in left.values():
                if len(wanted) == 1:
                    _add_failure(entry, failure, outcome)
                else:
                    alone = self._ask([entry])
                    outcome.rows.extend(alone.rows)
                    outcome.failures.extend(alone.failures)
        return outcome

    def _questions(self, wanted: Sequence[Wanted], left: dict[str, Wanted], outcome: Outcome) -> Iterator[Question]:
        """Questions, item by item. What cannot be decoded is junk, or a failure of the machine; it leaves `left`."""
        config = self._config
        keyed = ({"item_id": entry["sample"]["item_id"], "entry": entry} for entry in wanted)
        items = sorted(group_by(keyed, "item_id"), key=lambda item: reading_order(self._sources[item[0]]))
        for item_id, group in items:
            entries = [row["entry"] for row in group]
            rows = [entry["sample"] for entry in entries]
            try:
                decoded = decode_frames(self._child, self._sources[item_id], rows, config.frames, self._options)
            except Exception as error:
                failure = failure_of(error)
                if failure.reason_class == "item":
                    outcome.rows.extend(caption_row(entry, None, "undecodable") for entry in entries)
                else:
                    outcome.failures.extend(failure.reason for _ in entries)
                for row in rows:
                    del left[row["sample_id"]]
                continue
            for row, frames in zip(rows, decoded, strict=True):
                prompts = self._prompts[prompt_language(row["sample_id"], config.prompt_languages)]
                yield Question(row, prompts.prompt(row["kind"]), frames.parts)


def _add_answer(wanted: Wanted, reply: Reply, outcome: Outcome) -> None:
    try:
        outcome.rows.append(answered(wanted, reply))
    except Exception as error:
        _add_failure(wanted, failure_of(error), outcome)


def _add_failure(wanted: Wanted, failure: ItemFailed, outcome: Outcome) -> None:
    """What was said wrongly is junk, with a row that says so; after any other failure a rerun asks again."""
    if failure.reason_class == "item":
        outcome.rows.append(caption_row(wanted, None, failure.reason))
    else:
        outcome.failures.append(f"sample {wanted['sample']['sample_id']}: {failure.reason}")


def answered(wanted: Wanted, reply: Reply) -> dict[str, Any]:
    """The caption row of a sample whose parts were all answered; the first part that is junk makes the whole junk.

    Raises Nonsense for an answer that is no text.
    """
    texts: list[str] = []
    problems: list[str] = []
    for answer in reply.answers:
        said = _ANSWER.check(answer.text, "the answer")
        text = clean_text(checks.whole_sentences(said) if answer.cut_off else said) or ""
        problem = checks.problem(text, [reply.question.prompt])
        problems.extend([problem] if problem else [])
        if text and text not in texts[-1:]:  # a clip that does not change is described once
            texts.append(text)
    return caption_row(wanted, " ".join(texts), problems[0] if problems else None, len(reply.answers))
