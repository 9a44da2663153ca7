"""What is measured of an item's sound, in one pass over the samples that the child decodes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from reelmill import weights
from reelmill.config import identity
from reelmill.curation.speech.config import SoundConfig
from reelmill.curation.speech.loudness import LoudnessMeter
from reelmill.curation.speech.voice import WEIGHTS, VoiceActivity, speech_spans
from reelmill.isolation.wire import Message
from reelmill.media.audio import RATE

_TENTHS = 10


def sound_fingerprint(config: SoundConfig) -> str:
    """What the measures depend on: the options and the voice model."""
    parts = [identity(config), weights.cards()[WEIGHTS].sha256]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class SoundMeter:
    """Measures tracks, one after another."""

    def __init__(self, config: SoundConfig) -> None:
        self._config = config
        self._voice = VoiceActivity(weights.path(WEIGHTS))

    def measure(self, messages: Iterator[Message]) -> dict[str, Any]:
        """The measured columns of `audio`, from a child's messages (`reelmill/media/audio.py`)."""
        track: dict[str, Any] = {"tracks": 0}
        loudness, listener = LoudnessMeter(), self._voice.listener()
        probabilities, count = [], 0
        for body, arrays in messages:
            if body["type"] == "track":
                track = body
                continue
            samples = np.divide(arrays["samples"], 32768, dtype=np.float32)
            count += len(samples)
            loudness.feed(samples)
            probabilities.append(listener.feed(samples))
        if not track["tracks"]:
            return {"tracks": 0}
        probabilities.append(listener.finish())
        speech = speech_spans(np.concatenate(probabilities), count / RATE, self._config)
        return {
            "tracks": track["tracks"],
            "stream": track["stream"],
            "codec": track["codec"],
            "sample_rate": track["rate"],
            "channels": track["channels"],
            "tagged_language": track["language"],
            "duration_s": count / RATE,
            "loudness": loudness.integrated(),
            "speech": [{"start_s": start, "end_s": end} for start, end in speech],
            **_shares(loudness, speech, self._config),
        }


def _shares(loudness: LoudnessMeter, speech: list[tuple[float, float]], config: SoundConfig) -> dict[str, float | None]:
    """Shares of the tenths of a second with speech, with silence, and with neither: music or noise."""
    silent = loudness.silent(config.silence_db)
    if not len(silent):
        return {"speech_share": None, "silence_share": None, "other_share": None}
    spoken = np.zeros(len(silent), bool)
    for start, end in speech:
        spoken[round(start * _TENTHS) : round(end * _TENTHS)] = True
    return {
        "speech_share": float(spoken.mean()),
        "silence_share": float((silent & ~spoken).mean()),
        "other_share": float((~silent & ~spoken).mean()),
    }
