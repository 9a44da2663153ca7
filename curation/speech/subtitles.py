"""Subtitles as a transcript: cues of a file or beside it become segments with the times of their words."""

from __future__ import annotations

from collections.abc import Iterator

from reelmill.curation.captions.checks import language as language_of
from reelmill.curation.speech.contract import Segment
from reelmill.curation.speech.words import spread_words
from reelmill.isolation.wire import Message

_CODES = {"eng": "en", "zho": "zh", "chi": "zh", "cmn": "zh", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr"}
_CODES |= {"spa": "es", "jpn": "ja", "rus": "ru", "ita": "it", "por": "pt", "kor": "ko", "nld": "nl", "dut": "nl"}
"""ISO 639-2, as containers tag tracks, to 639-1, as recognisers name languages."""


def segments(messages: Iterator[Message]) -> list[Segment] | None:
    """Segments of a child's messages (`reelmill/media/cues.py`), one a cue; None where there are no subtitles.

    Words are timed by their share of a cue's characters. Where the track names no language, the text's script says
    whether it is English or Chinese.
    """
    tag, found, is_there = None, [], False
    for body, _ in messages:
        if body["type"] == "language":
            tag, is_there = body["language"], True
            continue
        text, span = " ".join(body["text"].split()), (body["start_s"], body["end_s"])
        found.append(Segment(*span, text, spread_words(text, *span)))
    if not is_there:
        return None
    language = _CODES.get(tag.lower(), tag.lower()) if tag else language_of(" ".join(s.text for s in found)[:4000])
    return [Segment(s.start_s, s.end_s, s.text, s.words, language) for s in found]
