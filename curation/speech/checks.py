"""Hallucinations: what recognisers say on silence and music. Pure functions over a segment."""

from __future__ import annotations

import re
import unicodedata
import zlib

from reelmill.curation.speech.config import HallucinationConfig
from reelmill.curation.speech.contract import Segment
from reelmill.curation.speech.words import split_words

_LONGEST_GRAM = 4
_PHRASES = """thank you for watching|thanks for watching|thank you so much for watching|thank you very much for watching
please subscribe|please subscribe to my channel|like and subscribe|dont forget to subscribe|see you next time
see you in the next video|you|music|applause|subtitles by the amaraorg community|transcription by castingwords
subtitles created by the amaraorg community|amaraorg|transcribed by ottersai|copyright wdr 2020
untertitel der amaraorg community|untertitel im auftrag des zdf|untertitel von stephanie geiges
sous titres réalisés par la communauté damaraorg|sous titrage société radio canada
subtítulos realizados por la comunidad de amaraorg|продолжение следует|субтитры сделал dimatorzok
редактор субтитров асемкин корректор аегорова|谢谢观看|谢谢大家|感谢观看|字幕由amaraorg社区提供|字幕志愿者李宗盛
请不吝点赞订阅转发打赏支持明镜与点点栏目|中文字幕志愿者李宗盛|ご視聴ありがとうございました|시청해주셔서 감사합니다"""
PHRASES = frozenset(phrase for line in _PHRASES.splitlines() for phrase in line.split("|"))
"""What Whisper is known to say where nobody speaks: credits of its training subtitles. Compared without punctuation."""


def segment_problem(segment: Segment, config: HallucinationConfig) -> str | None:
    """Why a segment is no speech; None for one that seems to be."""
    words = split_words(segment.text)
    if not any(character.isalnum() for character in segment.text):
        return "empty"
    if config.drop_phrases and plain(segment.text) in PHRASES:
        return "stock_phrase"
    unsure = segment.logprob is not None and segment.logprob < config.logprob
    if unsure and segment.no_speech is not None and segment.no_speech > config.no_speech:
        return "no_speech"
    if compression(segment.text) > config.compression or _repeats(words) >= config.repeats:
        return "repeats"
    seconds = segment.end_s - segment.start_s
    if len(words) > config.words_per_s * max(seconds, 1.0):
        return "too_fast"
    return None


def compression(text: str) -> float:
    """Bytes of a text over its compressed bytes, as Whisper counts it."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def plain(text: str) -> str:
    """A text in lower case without punctuation, for comparison."""
    kept = "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum() or c.isspace() or c == "-")
    return " ".join(re.sub("-", " ", kept).split())


def _repeats(words: list[str]) -> int:
    """How often the same one to four words follow one another, at most."""
    said = [plain(word) for word in words]
    most = 1
    for length in range(1, _LONGEST_GRAM + 1):
        for at in range(len(said) - length):
            times = 1
            while said[at + times * length : at + (times + 1) * length] == said[at : at + length]:
                times += 1
            most = max(most, times)
    return most
