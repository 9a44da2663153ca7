"""Transcripts by an endpoint that speaks OpenAI's transcription API; its answers are not trusted."""

from __future__ import annotations

import io
import os
import time
import wave
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import httpx2

from reelmill.curation.captions.chat_client import MISCONFIGURED, TRY_AGAIN
from reelmill.curation.speech.config import TranscriptionEndpointConfig
from reelmill.curation.speech.contract import Clip, Segment, Transcriber, TranscriptionFailed, Word
from reelmill.curation.speech.words import spread_words
from reelmill.errors import ConfigError, brief
from reelmill.isolation.untrusted import List, Maybe, Nonsense, Number, Record, Text, load_json
from reelmill.media.audio import RATE, Samples

MAX_WAIT_S = 60.0
_SECONDS = Number(-1.0, 1e5)
_ANSWER = Record(
    {
        "text": Maybe(Text(1 << 20, repair=True)),
        "language": Maybe(Text(40, repair=True)),
        "words": Maybe(List(100_000)),
        "segments": Maybe(List(10_000)),
    }
)
_WORD = Record({"word": Text(1000, repair=True), "start": _SECONDS, "end": _SECONDS})
_SEGMENT = Record(
    {
        "text": Text(1 << 16, repair=True),
        "start": _SECONDS,
        "end": _SECONDS,
        "no_speech_prob": Maybe(Number(0.0, 1.0)),
        "avg_logprob": Maybe(Number()),
    }
)
_LANGUAGES = {"english": "en", "chinese": "zh", "german": "de", "french": "fr", "spanish": "es", "japanese": "ja"}
"""OpenAI's service names languages in English; codes are passed on."""


class EndpointTranscriber(Transcriber):
    """Sends a WAV file for each clip and asks for segments and words with their times."""

    Config: ClassVar[type[Any]] = TranscriptionEndpointConfig

    def check(self, table: str) -> None:
        """An address and a model are named."""
        for key in ("url", "model"):
            if not getattr(self.config, key):
                raise ConfigError(f"{table}.{key} is empty; give the endpoint's address and the model to ask")
        if not self.config.url.startswith(("http://", "https://")):
            raise ConfigError(f"{table}.url is {self.config.url!r}; it begins with http:// or https://")

    def address(self) -> str:
        """The endpoint's."""
        return str(self.config.url)

    def setup(self) -> None:
        """Open the client."""
        key = os.environ.get(self.config.api_key_env, "") if self.config.api_key_env else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(headers=headers, timeout=httpx2.Timeout(self.config.request_s, connect=5.0))

    def transcribe(self, clips: Sequence[Clip]) -> list[Segment]:
        """Segments clip by clip."""
        return [segment for clip in clips for segment in _segments(self._ask(clip), clip)]

    def _ask(self, clip: Clip) -> dict[str, Any]:
        wait_s = self.config.backoff_s
        for attempt in range(1, self.config.tries + 1):
            try:
                return self._once(clip)
            except (httpx2.TransportError, httpx2.DecodingError, _Again) as error:
                if attempt == self.config.tries:
                    words = brief(str(error)) or type(error).__name__
                    raise TranscriptionFailed(f"the endpoint gave no transcript: {words} ({attempt} tries)") from None
                time.sleep(min(wait_s, MAX_WAIT_S))
                wait_s *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    def _once(self, clip: Clip) -> dict[str, Any]:
        config = self.config
        fields = {
            "model": config.model,
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["segment", "word"],
        }
        sound = {"file": ("speech.wav", _wav(clip.samples), "audio/wav")}
        url = f"{config.url.rstrip('/')}/audio/transcriptions"
        data = bytearray()
        with self._client.stream("POST", url, data=fields, files=sound) as response:
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > config.max_response_bytes:
                    raise _Again(f"too_large: the answer has more than {config.max_response_bytes} bytes")
        if response.status_code != 200:
            message = f"status {response.status_code}: {brief(data.decode('utf-8', 'replace')) or 'no message'}"
            if response.status_code in MISCONFIGURED:
                raise ConfigError(
                    f"the endpoint {config.url} answered {message}. Check transcripts.endpoint.url (it ends in /v1), "
                    f".model ({config.model!r}) and the key in {config.api_key_env or '(no variable)'}."
                )
            if response.status_code in TRY_AGAIN or response.status_code >= 500:
                raise _Again(message)
            raise TranscriptionFailed(f"the endpoint refused: {message}")
        try:
            answer: dict[str, Any] = _ANSWER.check(load_json(bytes(data), "the answer"), "the answer")
            answer["words"] = [_WORD.check(word, "a word") for word in answer["words"] or ()]
            answer["segments"] = [_SEGMENT.check(segment, "a segment") for segment in answer["segments"] or ()]
        except Nonsense as error:
            raise _Again(f"nonsense: no transcript: {error}") from None
        return answer


class _Again(Exception):
    """A failure that may be gone in a moment."""


def _segments(answer: dict[str, Any], clip: Clip) -> Iterator[Segment]:
    """The answer's segments; where it has none, the whole text as one. Times are held within the clip."""
    seconds = len(clip.samples) / RATE
    language = (answer["language"] or "").lower()
    language = _LANGUAGES.get(language, language if len(language) <= 3 else "") or None
    parts = answer["segments"] or [{"text": answer["text"] or "", "start": 0.0, "end": seconds}]
    for index, part in enumerate(parts):
        text = " ".join(part["text"].split())
        start, end = _within(part["start"], seconds), _within(part["end"], seconds)
        if not text or end <= start:
            continue
        last = index == len(parts) - 1
        inside = [w for w in answer["words"] if start <= (w["start"] + w["end"]) / 2 and (w["start"] < end or last)]
        answer["words"] = [word for word in answer["words"] if word not in inside] if inside else answer["words"]
        words = [
            Word(
                " ".join(word["word"].split()),
                clip.start_s + _within(word["start"], seconds),
                clip.start_s + _within(word["end"], seconds),
            )
            for word in inside
            if word["word"].strip() and word["end"] >= word["start"]
        ] or spread_words(text, clip.start_s + start, clip.start_s + end)
        sure = (part.get("no_speech_prob"), part.get("avg_logprob"))
        yield Segment(clip.start_s + start, clip.start_s + end, text, words, language, *sure)


def _within(time_s: float, seconds: float) -> float:
    return min(max(time_s, 0.0), seconds)


def _wav(samples: Samples) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
