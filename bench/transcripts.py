"""Transcripts against truth: speech of espeak-ng at known times, and recordings with known words.

    python bench/transcripts.py [--json] [--model whisper-base] [RECORDING.wav "its words" ...]

Needs espeak-ng on the PATH and the weights (`reelmill models pull whisper-base`, and its -config, -tokenizer and
-vocabulary). Word error rate over words in lower case without punctuation; the error of times is that of the beginning
of each sentence's first word and of the end of its last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

from reelmill import weights
from reelmill.curation.speech.checks import plain, segment_problem
from reelmill.curation.speech.clips import speech_clips
from reelmill.curation.speech.config import HallucinationConfig, SoundConfig, WhisperConfig
from reelmill.curation.speech.voice import WEIGHTS, VoiceActivity, speech_spans
from reelmill.curation.speech.whisper import WhisperTranscriber
from reelmill.media.audio import RATE

SENTENCES = (
    "First wash the rice in cold water until the water is clear.",
    "Now fold the paper in half and press the edge with your thumb.",
    "The mill stands beside the river, and its wheel turns slowly.",
    "Cut the carrots into thin slices and put them into the pan.",
    "After ten minutes take the bread out of the oven.",
    "This screw holds the handle, so do not turn it too tight.",
    "Birds fly south in autumn because they find more food there.",
    "Mix the white paint with a little blue and stir it well.",
)
PAUSE_S = 1.5


def spoken(text: str, voice: str = "en-us") -> np.ndarray:
    """Speech of espeak-ng without the silence around it, float [N] at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", str(path), text], check=True)
        return trimmed(read_wav(path))


def read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        rate, data = file.getframerate(), file.readframes(file.getnframes())
        samples = np.frombuffer(data, "<i2").reshape(-1, file.getnchannels()).mean(axis=1) / 32768
    times = np.arange(int(len(samples) * RATE / rate)) * rate / RATE
    return np.interp(times, np.arange(len(samples)), samples)


def trimmed(samples: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    return samples[loud[0] : loud[-1] + 1]


def word_errors(truth: list[str], found: list[str]) -> int:
    """Edit distance in words."""
    row = list(range(len(found) + 1))
    for i, wanted in enumerate(truth, 1):
        before, row[0] = row[0], i
        for j, word in enumerate(found, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (wanted != word))
    return row[-1]


def transcribed(sound: np.ndarray, model: WhisperTranscriber) -> tuple[list, float]:
    samples = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)
    listener = VoiceActivity(weights.path(WEIGHTS)).listener()
    speech = speech_spans(listener.feed((samples / 32768).astype(np.float32)), len(samples) / RATE, SoundConfig())
    began = time.process_time()
    found = model.transcribe(speech_clips(samples, speech))
    seconds = time.process_time() - began
    good = [segment for segment in found if segment_problem(segment, HallucinationConfig()) is None]
    return [word for segment in good for word in segment.words], seconds


def synthetic(model: WhisperTranscriber) -> dict:
    pieces, spans, at = [np.zeros(int(PAUSE_S * RATE))], [], PAUSE_S
    for sentence in SENTENCES:
        speech = spoken(sentence)
        pieces += [speech, np.zeros(int(PAUSE_S * RATE))]
        spans.append((at, at + len(speech) / RATE))
        at += len(speech) / RATE + PAUSE_S
    words, seconds = transcribed(np.concatenate(pieces), model)
    truth = plain(" ".join(SENTENCES)).split()
    errors = word_errors(truth, plain(" ".join(word.text for word in words)).split())
    off = []
    for start, end in spans:
        inside = [word for word in words if start - 0.5 <= (word.start_s + word.end_s) / 2 <= end + 0.5]
        if inside:
            off += [abs(inside[0].start_s - start), abs(inside[-1].end_s - end)]
    return {
        "words": len(truth),
        "word_error_rate": errors / len(truth),
        "mean_time_error_s": float(np.mean(off)),
        "sentences_found": len(off) // 2,
        "sentences": len(spans),
        "times_real_time": at / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="*")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = WhisperTranscriber(WhisperConfig(model=options.model))
    model.setup()
    results = {"espeak-ng": synthetic(model)}
    for path, text in zip(options.recordings[::2], options.recordings[1::2], strict=True):
        sound = read_wav(Path(path))
        words, seconds = transcribed(sound, model)
        truth = plain(text).split()
        rate = word_errors(truth, plain(" ".join(word.text for word in words)).split()) / len(truth)
        results[Path(path).name] = {
            "words": len(truth),
            "word_error_rate": rate,
            "times_real_time": len(sound) / RATE / seconds,
        }
    if options.json:
        json.dump(results, sys.stdout, indent=2)
        return
    for name, found in results.items():
        print(name, ", ".join(f"{key} {value:.3g}" for key, value in found.items()))


if __name__ == "__main__":
    main()
