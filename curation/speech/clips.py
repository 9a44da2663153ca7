"""Clips for a recogniser: an item's speech in pieces of at most 28 s, cut where nobody speaks, or least loudly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reelmill.curation.speech.contract import Clip
from reelmill.isolation.wire import Message
from reelmill.media.audio import RATE, Samples

MOST_S = 28.0
"""Whisper hears 30 s at a time."""
LONGEST_GAP_S = 2.0
"""A longer pause ends a clip: what is heard in it would be invented."""
_SEARCH_S = 8.0
_HOP = RATE // 20


def collect(messages: Iterator[Message]) -> Samples:
    """All samples of a child's messages (`reelmill/media/audio.py`), int16 [N]."""
    pieces = [arrays["samples"] for body, arrays in messages if body["type"] == "sound"]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def speech_clips(samples: Samples, speech: Sequence[tuple[float, float]]) -> list[Clip]:
    """Clips of a track, given its spans of speech in seconds."""
    spans = [piece for start, end in speech for piece in _divided(samples, start, end)]
    joined: list[tuple[float, float]] = []
    for start, end in spans:
        if joined and start - joined[-1][1] <= LONGEST_GAP_S and end - joined[-1][0] <= MOST_S:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [Clip(start, samples[round(start * RATE) : round(end * RATE)]) for start, end in joined]


def _divided(samples: Samples, start: float, end: float) -> Iterator[tuple[float, float]]:
    """A span in pieces of at most MOST_S, cut at the quietest twentieth of a second in the last 8 s of each."""
    while end - start > MOST_S:
        first = round((start + MOST_S - _SEARCH_S) * RATE)
        searched = samples[first : round((start + MOST_S) * RATE)].astype(np.float32)
        hops = searched[: len(searched) // _HOP * _HOP].reshape(-1, _HOP)
        cut = (
            (first + (int(np.square(hops).mean(axis=1).argmin()) + 0.5) * _HOP) / RATE if len(hops) else start + MOST_S
        )
        yield start, cut
        start = cut
    yield start, end
