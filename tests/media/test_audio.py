"""Sound as the child decodes it: one clock with the pictures, gaps, tracks, hostile files; loudness and voices."""

import numpy as np
import pytest
from videos import scene_frames, write_video
from voices import RATE, babble, silence, tone, write_spoken_video, write_wav

from reelmill import weights
from reelmill.curation.speech.config import SoundConfig
from reelmill.curation.speech.loudness import LoudnessMeter
from reelmill.curation.speech.measure import SoundMeter
from reelmill.curation.speech.voice import WEIGHTS, VoiceActivity, speech_spans
from reelmill.isolation.messages import SOUND
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.audio import JOB
from reelmill.media.source import Source


@pytest.fixture(scope="module")
def child():
    with Child(IsolationConfig()) as child:
        yield child


def heard(child, path, **options):
    """(what the child says of the track, int16 samples)."""
    track, pieces = None, [np.zeros(0, np.int16)]
    for body, arrays in child.run(JOB, Source(str(path), 0, path.stat().st_size), options, SOUND):
        if body["type"] == "track":
            track = body
        else:
            pieces.append(arrays["samples"])
    return track, np.concatenate(pieces)


def onset_s(samples):
    return float(np.argmax(np.abs(samples.astype(float)) > 2000)) / RATE


def test_any_rate_and_any_channels_become_16_khz_mono(child, tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(1.0, 440, 0.5, 44_100), 44_100, channels=2)
    track, samples = heard(child, path)
    assert (track["tracks"], track["rate"], track["channels"]) == (1, 44_100, 2)
    assert abs(len(samples) - RATE) <= 16
    spectrum = np.abs(np.fft.rfft(samples[:RATE].astype(float)))
    assert spectrum.argmax() == 440
    assert np.abs(samples).max() == pytest.approx(0.5 * 32767, rel=0.02)


@pytest.mark.parametrize("begins_s", [0.0, 0.7])
def test_second_0_is_that_of_the_pictures(child, tmp_path, begins_s):
    sound = np.concatenate([silence(1.0), tone(1.0, 440, 0.5)])
    path = write_spoken_video(tmp_path / "a.mkv", scene_frames([(1, 72)]), sound, begins_s=begins_s, language="deu")
    track, samples = heard(child, path)
    assert track["language"] == "deu"
    assert onset_s(samples) == pytest.approx(1.0 + begins_s, abs=0.03)  # AAC smears an onset over a frame at most


def test_a_file_without_sound_has_no_track(child, tmp_path):
    track, samples = heard(child, write_video(tmp_path / "a.mp4", scene_frames([(1, 24)])))
    assert track["tracks"] == 0 and not len(samples)


def test_sound_is_bounded_and_what_is_no_sound_is_refused(child, tmp_path):
    path = write_wav(tmp_path / "a.wav", silence(3.0))
    with pytest.raises(ItemFailed, match=r"too_long: .*max_duration_s"):
        heard(child, path, max_duration_s=2.0)
    playlist = tmp_path / "b.mp3"
    playlist.write_text("#EXTM3U\nfile:///etc/passwd\n")
    with pytest.raises(ItemFailed, match="not_a_sound"):
        heard(child, playlist)


def test_loudness_is_that_of_the_standard():
    """ITU-R BS.1770-4: a sine of 997 Hz at full scale on one channel reads -3.01 LKFS; half the level 6.02 less."""
    for peak, expected in ((1.0, -3.01), (0.5, -9.03)):
        meter = LoudnessMeter()
        for piece in np.array_split(tone(5.0, 997, peak), 7):
            meter.feed(piece)
        assert meter.integrated() == pytest.approx(expected, abs=0.05)
    gated = LoudnessMeter()  # what is far below the rest does not count
    gated.feed(np.concatenate([tone(5.0, 997, 0.5), silence(20.0), tone(5.0, 997, 0.001)]))
    edge_blocks = 10 * np.log10((47 + 0.75 + 0.5 + 0.25) / 50)  # of 50 blocks that pass the gate 3 reach into silence
    assert gated.integrated() == pytest.approx(-9.03 + edge_blocks, abs=0.05)
    quiet = LoudnessMeter()
    quiet.feed(silence(5.0))
    assert quiet.integrated() is None
    assert quiet.silent(-50.0).tolist() == [True] * 50


def test_a_voice_is_found_where_it_is():
    sound = np.concatenate([silence(1.0), babble(2.0), silence(1.5), tone(2.0, 440, 0.5), silence(0.5)])
    whole = VoiceActivity(weights.path(WEIGHTS)).listener().feed(sound)
    ((start, end),) = speech_spans(whole, len(sound) / RATE, SoundConfig())
    assert start == pytest.approx(1.0, abs=0.2) and end == pytest.approx(3.0, abs=0.3)
    listener = VoiceActivity(weights.path(WEIGHTS)).listener()
    pieces = np.concatenate([listener.feed(piece) for piece in np.array_split(sound, 23)])
    assert np.allclose(pieces, whole, atol=1e-4)  # the pieces in which it comes change nothing


def test_short_pauses_do_not_end_speech_and_short_sounds_are_none():
    config = SoundConfig(min_pause_s=0.3, min_speech_s=0.25, pad_s=0.1)
    frames = np.zeros(100, np.float32)
    frames[10:30] = frames[35:50] = 1.0  # 0.32 s to 0.96 s, and, after 0.16 s, to 1.6 s
    frames[70:74] = 1.0  # 0.128 s
    ((start, end),) = speech_spans(frames, 3.2, config)
    assert (start, end) == (pytest.approx(0.22), pytest.approx(1.7))


def test_measures_of_a_track(child, tmp_path):
    sound = np.concatenate([silence(1.0), babble(2.0), silence(1.0), tone(1.0, 440, 0.5)])
    path = write_wav(tmp_path / "a.wav", sound)
    meter = SoundMeter(SoundConfig())
    found = child.run_all(JOB, Source(str(path), 0, path.stat().st_size), {}, SOUND, meter.measure)
    assert found["duration_s"] == 5.0
    assert found["speech_share"] == pytest.approx(0.4, abs=0.06)
    assert found["silence_share"] == pytest.approx(0.4, abs=0.06)
    assert found["speech_share"] + found["silence_share"] + found["other_share"] == pytest.approx(1.0)
