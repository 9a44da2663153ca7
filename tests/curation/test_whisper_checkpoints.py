"""A Whisper that Transformers saved: converted once, the same tokens, and heard by the transcriber."""

import numpy as np
import pytest
import torch
from tiny_whisper import PROMPT, tiny_whisper
from voices import babble

from reelmill.curation.speech.checkpoints import whisper_folder
from reelmill.curation.speech.config import WhisperConfig
from reelmill.curation.speech.contract import Clip
from reelmill.curation.speech.whisper import WhisperTranscriber
from reelmill.errors import ConfigError

TOKENS = 24


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    return folder, *tiny_whisper(folder)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "whisper"


def greedy(model, features, prompt):
    """The likeliest token after each, by Transformers' model, without its rules of what may follow what."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(TOKENS):
            logits = model(input_features=features, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
            tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]


def test_a_checkpoint_of_transformers_says_the_same_tokens(checkpoint, cache):
    import ctranslate2
    from transformers import WhisperFeatureExtractor

    folder, model, vocabulary = checkpoint
    made = whisper_folder(str(folder))
    assert whisper_folder(str(folder)) == made == next(cache.iterdir()) and len(list(cache.iterdir())) == 1
    assert whisper_folder(str(made)) == made
    sound = babble(3.0).astype(np.float32) / 32768
    features = WhisperFeatureExtractor()(sound, sampling_rate=16_000, return_tensors="np")["input_features"]
    prompt = [vocabulary[name] for name in PROMPT]
    theirs = greedy(model, torch.from_numpy(features), prompt)
    assert len(set(theirs)) > 2  # it does not only say one thing
    whisper = ctranslate2.models.Whisper(str(made), compute_type="float32", intra_threads=1)
    half = 2 * TOKENS  # Whisper says at most half of it
    settings = {"beam_size": 1, "max_length": half, "suppress_tokens": [], "suppress_blank": False}
    found = whisper.generate(ctranslate2.StorageView.from_array(features), [prompt], **settings)
    said = found[0].sequences_ids[0]
    ends = theirs.index(vocabulary["<|endoftext|>"]) if vocabulary["<|endoftext|>"] in theirs else len(theirs)
    assert said == theirs[:ends] and len(said) > 10


def test_the_transcriber_hears_by_it(checkpoint, cache):
    transcriber = WhisperTranscriber(WhisperConfig(model=str(checkpoint[0]), language="en", beam=1))
    transcriber.require()
    assert len(list(cache.iterdir())) == 1
    transcriber.setup()
    found = transcriber.transcribe([Clip(7.0, babble(2.0))])
    assert all(7.0 <= segment.start_s <= segment.end_s for segment in found)


def test_what_is_no_whisper_is_named(tmp_path, cache):
    with pytest.raises(ConfigError, match=r"neither model\.bin"):
        whisper_folder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match=r"nor a Whisper of Transformers"):
        whisper_folder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ConfigError, match="cannot be converted"):
        whisper_folder(str(tmp_path))
    assert whisper_folder("large-v2") is None
    assert not any(cache.iterdir())
