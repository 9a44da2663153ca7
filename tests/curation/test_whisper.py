"""Whisper-base on speech of espeak-ng: words and their times, against what was synthesised."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from reelmill.curation.speech.config import WhisperConfig
from reelmill.curation.speech.whisper import WhisperTranscriber
from reelmill.errors import WeightsError

BENCH = Path(__file__).resolve().parent.parent.parent / "bench" / "transcripts.py"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_words_and_times_of_synthesised_speech():
    transcriber = WhisperTranscriber(WhisperConfig())
    try:
        transcriber.require()
    except WeightsError as error:
        pytest.skip(f"not a default weight: {error}")
    transcriber.setup()
    spec = importlib.util.spec_from_file_location("transcripts_bench", BENCH)
    bench = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = bench
    spec.loader.exec_module(bench)
    found = bench.synthetic(transcriber)
    assert found["sentences_found"] == found["sentences"]
    assert found["word_error_rate"] <= 0.12  # measured 0.065 of 93 words
    assert found["mean_time_error_s"] <= 0.25  # measured 0.14
