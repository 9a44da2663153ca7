"""Transcripts, part by part: words, clips, hallucinations, subtitles of files and beside them."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transcription_server import TranscriptionServer
from videos import textured
from voices import RATE, silence, tone

from reelmill.curation.readers.pairing import pair
from reelmill.curation.speech import subtitles
from reelmill.curation.speech.checks import segment_problem
from reelmill.curation.speech.clips import MOST_S, speech_clips
from reelmill.curation.speech.config import HallucinationConfig, TranscriptConfig, TranscriptionEndpointConfig
from reelmill.curation.speech.contract import Clip, Segment, TranscriptionFailed, check
from reelmill.curation.speech.endpoint import EndpointTranscriber
from reelmill.curation.speech.words import split_words, spread_words
from reelmill.errors import ConfigError
from reelmill.isolation.messages import CUES
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.cues import FILE_JOB, TRACK_JOB
from reelmill.media.source import Source


@pytest.mark.parametrize(
    ("text", "seconds", "sure", "problem"),
    [
        ("Now fold the paper in half.", 2.0, {}, None),
        ("Thanks for watching!", 2.0, {}, "stock_phrase"),
        ("谢谢观看。", 2.0, {}, "stock_phrase"),
        ("...", 2.0, {}, "empty"),
        ("Mm, something.", 2.0, {"no_speech": 0.9, "logprob": -1.4}, "no_speech"),
        ("It is quite likely.", 2.0, {"no_speech": 0.9, "logprob": -0.2}, None),
        ("oh my god oh my god oh my god oh my god", 20.0, {}, "repeats"),
        ("very very very good", 2.0, {}, None),
        ("one two three four five six seven eight nine ten eleven", 0.5, {}, "too_fast"),
        ("我们今天做一个纸飞机，先把纸对折。", 4.0, {}, None),
    ],
)
def test_what_is_dropped_and_why(text, seconds, sure, problem):
    assert segment_problem(Segment(0.0, seconds, text, **sure), HallucinationConfig()) == problem


@given(st.text(max_size=200), st.floats(0, 100), st.floats(0.01, 100))
def test_spread_words_keep_the_text_in_order_and_within_its_time(text, start, length):
    words = spread_words(text, start, start + length)
    assert "".join(word.text for word in words) == "".join("".join(split_words(text)).split())
    edges = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert all(start <= edge <= start + length + 1e-9 for edge in edges)


def test_words_of_two_scripts():
    assert split_words("Fold it, then wait.") == ["Fold", "it,", "then", "wait."]
    assert split_words("先折，再等。 OK") == ["先", "折，", "再", "等。", "OK"]


def test_clips_are_cut_in_pauses_and_never_longer_than_the_model_hears():
    loud, quiet = tone(1.0, 200, 0.5), silence(0.3)
    sound = np.concatenate([silence(1.0), *[loud, quiet] * 50])
    samples = np.round(sound * 32767).astype(np.int16)
    end = len(samples) / RATE
    clips = speech_clips(samples, [(1.0, 20.0), (21.0, 22.0), (30.0, end)])
    assert [clip.start_s for clip in clips][:2] == [1.0, 30.0]
    assert len(clips[0].samples) / RATE == pytest.approx(21.0)  # a pause of a second does not end a clip
    assert all(len(clip.samples) <= MOST_S * RATE for clip in clips)
    rest = np.concatenate([clip.samples for clip in clips[1:]])
    assert np.array_equal(rest, samples[30 * RATE :])  # a long span is divided and nothing of it lost
    for clip in clips[2:]:
        assert np.abs(clip.samples[:200]).max() < 2000  # where it was quiet


def subtitled(path, codec, cues, language="eng"):
    """A video with a track of subtitles."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=24)
        picture.height, picture.width, picture.pix_fmt = 120, 160, "yuv420p"
        track = container.add_mux_stream(codec)
        track.time_base, track.metadata["language"] = Fraction(1, 1000), language
        for index in range(48):
            frame = av.VideoFrame.from_ndarray(textured(1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        for start, end, text in cues:
            data = text.encode()
            if codec == "mov_text":
                data = len(data).to_bytes(2, "big") + data
            packet = av.Packet(data if codec != "ass" else b"0,0,Default,,0,0,0,," + data)
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = round(start * 1000)
            packet.duration = round((end - start) * 1000)
            container.mux(packet)
    return path


CUES_OF = [(0.25, 0.75, "Fold the paper, please."), (1.0, 1.5, "Now <i>turn</i> it.")]


@pytest.mark.parametrize(("codec", "suffix"), [("subrip", "mkv"), ("mov_text", "mp4"), ("ass", "mkv")])
def test_subtitles_in_the_file(tmp_path, codec, suffix):
    path = subtitled(tmp_path / f"a.{suffix}", codec, CUES_OF)
    with Child(IsolationConfig()) as child:
        source = Source(str(path), 0, path.stat().st_size)
        first, second = child.run_all(TRACK_JOB, source, {}, CUES, subtitles.segments)
    assert (first.start_s, first.end_s, first.text, first.language) == (0.25, 0.75, "Fold the paper, please.", "en")
    assert second.text == "Now turn it."
    assert [word.text for word in second.words] == ["Now", "turn", "it."]
    assert second.words[0].start_s == 1.0 and second.words[-1].end_s == 1.5


def test_subtitles_beside_the_file(tmp_path):
    path = tmp_path / "a.vtt"
    path.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n把纸对折。\n")
    with Child(IsolationConfig()) as child:
        (segment,) = child.run_all(FILE_JOB, Source(str(path), 0, path.stat().st_size), {}, CUES, subtitles.segments)
        assert (segment.start_s, segment.language, len(segment.words)) == (1.0, "zh", 4)
        with pytest.raises(ItemFailed, match="too_large"):
            child.run_all(FILE_JOB, Source(str(path), 0, 60), {"max_bytes": 50}, CUES, subtitles.segments)


def test_which_subtitles_belong_to_an_item():
    names = ["a.mp4", "a.srt", "b.mkv", "b.de.vtt", "b.en.vtt", "c.wav", "c.srt", "d.jpg", "d.srt", "e.srt"]
    items, ignored = pair({name: Source(name, 0, 1) for name in names})
    found = {item.uri: item.subtitles.path if item.subtitles else None for item in items}
    assert found == {"a.mp4": "a.srt", "b.mkv": "b.de.vtt", "c.wav": "c.srt", "d.jpg": None}
    assert ignored == ["b.en.vtt", "d.srt", "e.srt"]


def test_a_recipe_that_cannot_be_heard_is_an_error():
    with pytest.raises(ConfigError, match=r"unknown 'wisper'; .*whisper"):
        check(TranscriptConfig(sources=["wisper"]))
    with pytest.raises(ConfigError, match="names a source twice"):
        check(TranscriptConfig(sources=["subtitles", "subtitles"]))
    with pytest.raises(ConfigError, match=r"transcripts\.endpoint\.url is empty"):
        check(TranscriptConfig(sources=["endpoint"]))


def endpoint(answer):
    """(what a server that answers so is made of, a transcriber that asks it)."""
    server = TranscriptionServer(lambda *_: answer)
    config = TranscriptionEndpointConfig(url=server.url, model="tiny", tries=2, backoff_s=0.01)
    asking = EndpointTranscriber(config)
    asking.setup()
    return server, asking


SPEECH = [Clip(10.0, np.zeros(2 * RATE, np.int16))]


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ((200, b"<html>"), "nonsense: no transcript"),
        ({"segments": [{"text": "x", "start": "0", "end": 1}]}, "a segment.start"),
        ({"words": [{"word": "x", "start": 0, "end": float("nan")}]}, "a word.end"),
        ((200, b" " * (1 << 23)), "too_large"),
        ((400, {"error": "bad sound"}), "refused: status 400"),
    ],
)
def test_an_endpoint_that_lies_has_said_nothing(answer, match):
    server, asking = endpoint(answer)
    with server, pytest.raises(TranscriptionFailed, match=match):
        asking.transcribe(SPEECH)
    assert len(server.requests) == (1 if "refused" in match else 2)


def test_a_wrong_address_is_an_error_that_says_where_to_look():
    server, asking = endpoint((404, {"error": "no such model"}))
    with server, pytest.raises(ConfigError, match=r"transcripts\.endpoint\.url"):
        asking.transcribe(SPEECH)


def test_times_beyond_a_clip_are_held_within_it():
    long = {"text": "a b", "segments": [{"text": "a b", "start": -1.0, "end": 900.0}], "words": []}
    server, asking = endpoint(long)
    with server:
        (segment,) = asking.transcribe(SPEECH)
    assert (segment.start_s, segment.end_s) == (10.0, 12.0)
    assert [(word.text, word.start_s) for word in segment.words] == [("a", 10.0), ("b", 11.0)]
