"""What a model's judgement comes to: a number, its reason, and what is wrong with the answer. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reelmill.curation.captions.contract import Answer
from reelmill.curation.text_cleaning import clean_text
from reelmill.isolation.untrusted import Flag, Integer, Maybe, Nonsense, Record, Text, load_json

SCORES = (1, 5)
_ANSWER = Text(1 << 20, repair=True)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^\s*```\w*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_REASON = Maybe(Text(20_000, repair=True))
_SCORE = Record({"score": Integer(*SCORES), "reason": _REASON})
_FORMS = {
    "speech": _SCORE,
    "frames": _SCORE,
    "talking_head": Record({"talking_head": Flag(), "reason": _REASON}),
}
_VALUES = {"speech": "score", "frames": "score", "talking_head": "talking_head"}


@dataclass(frozen=True)
class Judgement:
    """What a judge says: `value` is a score, or 1 for yes and 0 for no; `problem` says why there is none."""

    value: float | None
    text: str | None = None
    problem: str | None = None


def judgement(judge: str, answer: Answer) -> Judgement:
    """The judgement in an answer; one with a problem where it has not the form that was asked for."""
    said = _THOUGHT.sub("", _ANSWER.check(answer.text, "the answer"))
    fenced = _FENCE.match(said)
    try:
        found = _FORMS[judge].check(load_json((fenced[1] if fenced else said).encode()), "the answer")
    except Nonsense as error:
        reason = "cut_off" if answer.cut_off else "not_json" if " is no JSON" in str(error) else "wrong_schema"
        return Judgement(None, clean_text(said), reason)
    return Judgement(float(found[_VALUES[judge]]), clean_text(found["reason"] or ""))
