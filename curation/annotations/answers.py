"""What a model's answer comes to: texts with their spans, and what is wrong with them. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reelmill.curation.annotations.config import AnnotationConfig
from reelmill.curation.annotations.story import Story
from reelmill.curation.captions import checks
from reelmill.curation.captions.contract import Answer
from reelmill.curation.narration import Block
from reelmill.curation.text_cleaning import clean_text
from reelmill.isolation.untrusted import Integer, List, Nonsense, Record, Text, load_json

_ANSWER = Text(1 << 20, repair=True)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^\s*```\w*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_COPIED_FROM = 8
"""Words from which on a summary that stands in the transcript word for word is a copy of it."""


@dataclass(frozen=True)
class Note:
    """An annotation: its span in seconds, its text, and why it is junk or None."""

    start_s: float
    end_s: float
    text: str | None
    problem: str | None


def notes(story: Story, kind: str, part: int, answer: Answer, config: AnnotationConfig) -> list[Note]:
    """The annotations in an answer: several of `segment`, one of the other kinds. Junk is one too, with its problem."""
    said = _THOUGHT.sub("", _ANSWER.check(answer.text, "the answer"))
    if kind == "segment":
        return _segments(story, said, answer.cut_off, config)
    span = story.scenes[part] if kind == "scene" else None
    start_s, end_s = (span.start_s, span.end_s) if span else (story.sample["start_s"], story.sample["end_s"])
    text = clean_text(checks.whole_sentences(said) if answer.cut_off else said)
    return [Note(start_s, end_s, text, problem(story, kind, text, config))]


def problem(story: Story, kind: str, text: str | None, config: AnnotationConfig) -> str | None:
    """Why an annotation is junk, or None: the checks of captions, then language, length, copies of the words."""
    if found := checks.problem(text, story.prompts.own_words(kind)):
        return found
    assert text is not None
    if checks.language(text) != story.language:
        return "wrong_language"
    if checks.n_words(text) > (config.summary_words if kind == "summary" else config.most_words):
        return "too_long"
    is_copied = checks.n_words(text) >= _COPIED_FROM and _folded(text) in _folded(story.transcript)
    return "copied_transcript" if is_copied else None


def _segments(story: Story, said: str, cut_off: bool, config: AnnotationConfig) -> list[Note]:
    """A note a segment; one note with a problem where the answer does not divide the sentences."""
    start_s, end_s = story.sentences[0].start_s, story.sentences[-1].end_s
    try:
        fenced = _FENCE.match(said)
        parts = _parts(load_json((fenced[1] if fenced else said).encode()), len(story.sentences))
    except Nonsense as error:
        reason = "cut_off" if cut_off else "not_json" if " is no JSON" in str(error) else "wrong_schema"
        return [Note(start_s, end_s, clean_text(said), reason)]
    firsts, lasts = [first for first, _, _ in parts], [last for _, last, _ in parts]
    is_division = firsts == [1, *(last + 1 for last in lasts[:-1])] and lasts[-1:] == [len(story.sentences)]
    if not is_division or any(first > last for first, last, _ in parts):
        return [Note(start_s, end_s, clean_text(said), "wrong_division")]
    return [_segment(story, story.sentences[first - 1 : last], text, config) for first, last, text in parts]


def _segment(story: Story, sentences: Sequence[Block], said: str, config: AnnotationConfig) -> Note:
    text = clean_text(said)
    return Note(sentences[0].start_s, sentences[-1].end_s, text, problem(story, "segment", text, config))


def _parts(answer: object, sentences: int) -> list[tuple[int, int, str]]:
    """First and last sentence and summary of each segment. Raises Nonsense for another form."""
    number = Integer(1, sentences)
    part = Record({"first": number, "last": number, "summary": Text(20_000, repair=True)})
    listed = Record({"segments": List(sentences)}).check(answer, "the answer")["segments"]
    checked = [part.check(entry, f"segments[{n}]") for n, entry in enumerate(listed)]
    return [(entry["first"], entry["last"], entry["summary"]) for entry in checked]


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
