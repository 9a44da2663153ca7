"""Subtitle files as they are found, good and broken: which cues come out."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from reelmill.media.subtitles import MAX_CUE_CHARACTERS, Cue, decode_subtitles, parse_subtitles, spoken_between

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>The mill</i> turns.

2
00:00:03,000 --> 00:00:04,000
{\\an8}Wind &amp; water
and grain.
"""
VTT = """WEBVTT - made by hand
Kind: captions

NOTE 00:00 --> is no timing in a comment

STYLE
::cue { color: lime }

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Ann>The mill</v> <00:00:01.800><c>turns.</c>

01:00:03.000 --> 01:00:04.000
Wind
"""


def test_subrip() -> None:
    assert parse_subtitles(SRT) == [Cue(1.0, 2.5, "The mill turns."), Cue(3.0, 4.0, "Wind & water\nand grain.")]
    assert parse_subtitles(SRT.replace("\n", "\r\n")) == parse_subtitles(SRT)


def test_webvtt() -> None:
    assert parse_subtitles(VTT) == [Cue(1.0, 2.5, "The mill turns."), Cue(3603.0, 3604.0, "Wind")]


def test_lines_that_scroll_are_kept_once() -> None:
    rolling = (
        "WEBVTT\n\n00:00.000 --> 00:02.000\nthe mill\n\n00:02.000 --> 00:02.010\nthe mill\n\n"
        "00:02.010 --> 00:04.000\nthe mill\nturns in the wind\n\n00:04.000 --> 00:06.000\nturns in the wind\nall day\n"
    )
    assert [cue.text for cue in parse_subtitles(rolling)] == ["the mill", "turns in the wind", "all day"]


def test_broken_files_give_what_can_be_read() -> None:
    assert parse_subtitles("") == parse_subtitles("1\n00:00:01 --> whenever\nwords\n") == []
    assert parse_subtitles("00:00:05,000 --> 00:00:04,000\nit ends before it begins\n") == []
    glued = "1\n00:00:01,000 --> 00:00:02,000\none\n2\n00:00:02,000 --> 00:00:03,000\ntwo"
    assert [cue.text for cue in parse_subtitles(glued)] == ["one", "two"]
    (long,) = parse_subtitles("00:00:01,000 --> 00:00:02,000\n" + "x" * 10_000_000)
    assert len(long.text) == MAX_CUE_CHARACTERS


def test_hostile_text_takes_no_time() -> None:
    began = time.process_time()
    for text in ("<" * 1_000_000, "{\\" * 500_000, "0" * 1_000_000, "-->\n" * 200_000, "1:" * 500_000):
        assert parse_subtitles(f"00:01.000 --> 00:02.000\n{text}\n{text} --> ") is not None
    assert time.process_time() - began < 20  # quadratic in any of these would take hours


def test_encodings() -> None:
    assert decode_subtitles("mühle".encode("utf-16")) == decode_subtitles("mühle".encode("utf-8-sig")) == "mühle"
    assert decode_subtitles("mühle".encode("cp1252")) == "mühle"


def test_what_is_said_in_a_clip() -> None:
    cues = [Cue(0.0, 2.0, "one"), Cue(2.0, 4.0, "two\nthree"), Cue(4.0, 6.0, "four")]
    assert spoken_between(cues, 0.0, 3.0) == "one two three"
    assert spoken_between(cues, 3.5, 10.0) == "four"
    assert spoken_between(cues, 10.0, 20.0) == ""


@given(st.text(alphabet=st.sampled_from("0123456789:.,-> \n\r<>{}\\&;aé"), max_size=300))
def test_any_text_gives_cues_in_order(text: str) -> None:
    cues = parse_subtitles("00:00.000 --> 00:01.000\nfirst\n\n" + text)
    assert all(cue.start_s < cue.end_s and cue.text for cue in cues)
    assert cues == sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))
