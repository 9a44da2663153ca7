"""Voice activity by silero-vad: a probability for each 32 ms, and the spans of speech that follow from them.

The weights are Silero's (`silero-vad` in the registry). The model takes a frame with the last 64 samples before it and
carries a state; its ONNX graph takes many frames in one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.curation.speech.config import SoundConfig
from reelmill.media.audio import RATE

WEIGHTS = "silero-vad"
FRAME = 512
FRAME_S = FRAME / RATE
_CONTEXT = 64
_BLOCK = 512  # frames of one call

Floats = npt.NDArray[np.float32]
Spans = list[tuple[float, float]]


class VoiceActivity:
    """The model. `listener` hears one track; tracks do not influence one another."""

    def __init__(self, weights: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(weights), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def listener(self) -> Listener:
        """Hears a track from its beginning."""
        return Listener(self._session)


class Listener:
    """Feeds a track, piece by piece, to the model."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._state: list[Any] = [np.zeros((1, 1, 128), np.float32)] * 2
        self._before = np.zeros(_CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: Floats) -> Floats:
        """Probabilities, float32 [frames], of the frames that `samples` (float32 [N], -1 to 1) complete."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // FRAME
        self._rest = samples[whole * FRAME :]
        frames = samples[: whole * FRAME].reshape(whole, FRAME)
        found = [self._block(frames[first : first + _BLOCK]) for first in range(0, whole, _BLOCK)]
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def finish(self) -> Floats:
        """The probability of the last frame, filled up with silence; float32 [0 or 1]."""
        return self.feed(np.zeros(FRAME - len(self._rest), np.float32)) if len(self._rest) else self._rest

    def _block(self, frames: Floats) -> Floats:
        contexts = np.concatenate([self._before[None], frames[:-1, -_CONTEXT:]])
        self._before = frames[-1, -_CONTEXT:].copy()
        inputs = {"input": np.concatenate([contexts, frames], axis=1), "h": self._state[0], "c": self._state[1]}
        probabilities, *self._state = self._session.run(None, inputs)
        return np.asarray(probabilities, np.float32)


def speech_spans(probabilities: Floats, end_s: float, config: SoundConfig) -> Spans:
    """Spans of speech in seconds, up to `end_s`: hysteresis, short pauses bridged, short speech dropped, a margin."""
    spans: Spans = []
    for start, end in _voiced(probabilities, config):
        if spans and start - spans[-1][1] < config.min_pause_s:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    long_enough = [(start, end) for start, end in spans if end - start >= config.min_speech_s]
    return _padded(long_enough, config.pad_s, end_s)


def _voiced(probabilities: Floats, config: SoundConfig) -> Iterator[tuple[float, float]]:
    start: int | None = None
    for index, probability in enumerate(probabilities.tolist()):
        if start is None and probability >= config.voice:
            start = index
        elif start is not None and probability < config.voice_ends:
            yield start * FRAME_S, index * FRAME_S
            start = None
    if start is not None:
        yield start * FRAME_S, len(probabilities) * FRAME_S


def _padded(spans: Sequence[tuple[float, float]], pad_s: float, end_s: float) -> Spans:
    padded: Spans = []
    for index, (start, end) in enumerate(spans):
        before = spans[index - 1][1] if index else -start
        after = spans[index + 1][0] if index + 1 < len(spans) else 2 * end_s - end
        early, late = start - min(pad_s, (start - before) / 2), end + min(pad_s, (after - end) / 2)
        padded.append((max(early, 0.0), min(late, end_s)))
    return padded
