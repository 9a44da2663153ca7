"""What all workers share that show a sample to a model: frames, prompts, checks, and what counts as done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelmill.config import from_dict, to_dict
from reelmill.curation.captions import checks as caption_checks
from reelmill.curation.captions.chat_client import Answer
from reelmill.curation.captions.config import CaptionConfig, load_prompts, prompt_language
from reelmill.curation.captions.frames import JOBS, chat_message, see
from reelmill.curation.scoring import ScoreConfig
from reelmill.curation.text_cleaning import clean_text
from reelmill.isolation.parent import Child, ItemFailed
from reelmill.media.source import Source
from reelmill.orchestration.caption import caption_row, commit_captions
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.runfolder import RunFolder


@dataclass(frozen=True)
class Question:
    """A sample to ask about: its row, the words, and the JPEG files of each part."""

    row: Mapping[str, Any]
    words: str
    pictures: list[list[bytes]]

    @property
    def parts(self) -> list[list[dict[str, Any]]]:
        """One conversation a part, as OpenAI's chat API has them."""
        return [[chat_message(part, self.words)] for part in self.pictures]


@dataclass
class Outcome:
    """What a task came to: rows to commit, and the messages of failures, whose samples a rerun asks about again."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class ModelCaptionWorker(ABC):
    """Shows a task's samples to a model and commits its captions; subclasses ask the model."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = RunFolder(Path(settings["out"]), settings["epoch"])
        self._config = from_dict(CaptionConfig, settings["captions"])
        self._prompts = load_prompts(self._config.prompts)
        score = from_dict(ScoreConfig, settings["score"])
        self._options = to_dict(score.decode)
        self._child = Child(score.isolation, preload=tuple(JOBS.values()))
        plan = self._folder.read(self._folder.plan_path).select(["item_id", "path", "offset", "size"]).to_pylist()
        self._sources = {row["item_id"]: Source(row["path"], row["offset"], row["size"]) for row in plan}

    def close(self) -> None:
        """Stop the decoding child."""
        self._child.close()

    def __call__(self, task: Task) -> Receipt:
        """Caption and commit a task's samples."""
        outcome = self._ask(task["rows"])
        receipt = commit_captions(self._folder, task, outcome.rows)
        failed: Receipt = {"failed": len(outcome.failures), "failure": outcome.failures[0]} if outcome.failures else {}
        return {**receipt, **failed}

    @abstractmethod
    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> Outcome:
        """Ask the model about the samples `rows`, those of an item next to one another."""

    def _items(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
        for _, group in group_by((dict(row) for row in rows), "item_id"):
            yield list(group)

    def _questions(self, rows: Sequence[Mapping[str, Any]], outcome: Outcome) -> list[Question]:
        """Questions about the samples of one item. What cannot be decoded is junk; a failing machine is a failure."""
        config = self._config
        try:
            seen = see(self._child, self._sources[rows[0]["item_id"]], rows, config.frames, self._options)
        except ItemFailed as failure:
            if failure.reason_class == "item":
                outcome.rows.extend(caption_row(row, None, "undecodable") for row in rows)
            else:
                outcome.failures.extend(failure.reason for _ in rows)
            return []
        questions = []
        for row, pictures in zip(rows, seen, strict=True):
            words = self._prompts[prompt_language(row["sample_id"], config.prompt_languages)].words(row["kind"])
            questions.append(Question(row, words, pictures.parts))
        return questions


def answered(question: Question, answers: Sequence[Answer]) -> dict[str, Any]:
    """The caption row of a sample whose parts were all answered; the first part that is junk makes the whole junk."""
    texts: list[str] = []
    problems: list[str] = []
    for answer in answers:
        text = clean_text(caption_checks.whole_sentences(answer.text) if answer.cut_off else answer.text) or ""
        problem = caption_checks.problem(text, [question.words])
        problems.extend([problem] if problem else [])
        if text and text not in texts[-1:]:  # a clip that does not change is described once
            texts.append(text)
    return caption_row(question.row, " ".join(texts), problems[0] if problems else None, len(answers))
