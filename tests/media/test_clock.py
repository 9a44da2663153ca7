"""Time is what a person would see: clocks that slip, jump, stand still, begin anywhere or say nothing."""

import numpy as np
import pytest
from media_reading import read, source
from odd_media import FPS, cut, film, picture, pictures

from reelmill.errors import Refused
from reelmill.media.limits import Limits
from reelmill.media.moving import Renderer
from reelmill.media.opening import open_moving
from reelmill.media.shown import Shown


class Moved:
    """Moves the timestamps of some packets: of `count` from `first` on (all, for None) by `seconds`."""

    def __init__(self, first, seconds, count=None, dts=True):
        self.first, self.seconds, self.count, self.dts = first, seconds, count, dts
        self.number = -1

    def __call__(self, packet):
        self.number += 1
        if self.number >= self.first and (self.count is None or self.number < self.first + self.count):
            ticks = round(self.seconds / packet.time_base)
            packet.pts += ticks
            packet.dts += ticks if self.dts else 0
        return packet


def regular(count):
    return pytest.approx([n / FPS for n in range(count)], abs=0.002)


@pytest.mark.parametrize("kind", ["mkv", "ts", "flv", "mp4"])
@pytest.mark.parametrize(("seconds", "count"), [(5, 1), (300, 1), (300, 3)])
def test_frames_whose_clock_slipped_stay_in_line(tmp_path, kind, seconds, count):
    path = film(tmp_path / f"v.{kind}", move=Moved(9, seconds, count, dts=False))
    facts, times = read(path)
    assert times == regular(20)
    assert (facts.frames, facts.clock_steps) == (20, 1)
    assert facts.duration_s == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("kind", ["mkv", "ts", "flv", "mp4"])
def test_a_clock_that_jumps_ten_minutes_is_rebased(tmp_path, kind):
    facts, times = read(film(tmp_path / f"v.{kind}", move=Moved(9, 600)))
    assert times == regular(20)
    assert facts.clock_steps == 1


def test_two_files_in_one_follow_each_other(tmp_path):
    one, two = film(tmp_path / "1.ts"), film(tmp_path / "2.ts")
    (tmp_path / "both.ts").write_bytes(one.read_bytes() + two.read_bytes() + one.read_bytes())
    facts, times = read(tmp_path / "both.ts")
    assert times == regular(60)
    assert facts.clock_steps == 2


@pytest.mark.parametrize("kind", ["mkv", "ts", "flv", "mp4"])
def test_a_pause_is_time(tmp_path, kind):
    facts, times = read(film(tmp_path / f"v.{kind}", move=Moved(9, 3)))
    assert times == pytest.approx([n / FPS + 3 * (n >= 9) for n in range(20)], abs=0.002)
    assert facts.duration_s == pytest.approx(5.0, abs=0.01)
    assert (facts.clock_steps, facts.fps) == (0, FPS)


def test_slides_and_long_stays_are_time_where_the_file_says_so(tmp_path):
    facts, times = read(film(tmp_path / "slides.mp4", pictures(4), fps=1 / 30))
    assert (times, facts.duration_s, facts.clock_steps) == ([0, 30, 60, 90], 120, 0)
    ticks = [*range(0, 1000, 100), *range(30_900, 31_900, 100)]
    facts, times = read(film(tmp_path / "stays.mp4", ticks=1000, pts=ticks))
    assert (times, facts.clock_steps) == ([tick / 1000 for tick in ticks], 0)


class LastStays:
    """Gives the last of `count` packets a duration."""

    def __init__(self, count, seconds):
        self.left, self.seconds = count, seconds

    def __call__(self, packet):
        self.left -= 1
        if not self.left:
            packet.duration = round(self.seconds / packet.time_base)
        return packet


def test_the_end_is_the_last_frame_and_its_own_duration(tmp_path):
    facts, _ = read(film(tmp_path / "still.mp4", move=LastStays(20, 3)))
    assert facts.duration_s == pytest.approx(1.9 + 3.0, abs=0.001)
    assert facts.fps == FPS
    one, _ = read(film(tmp_path / "one.mp4", pictures(1), move=LastStays(1, 5)))
    assert one.duration_s == pytest.approx(5.0, abs=0.001)


@pytest.mark.parametrize("kind", ["mkv", "mp4", "flv", "mov", "avi"])
def test_sound_that_outlasts_the_picture_is_no_truncation(tmp_path, kind):
    sound = "mp3" if kind == "flv" else "aac"
    facts, _ = read(film(tmp_path / f"v.{kind}", codec="libx264", sound=sound, sound_s=6))
    assert facts.duration_s == pytest.approx(2.0, abs=0.11)  # FLV and Matroska begin with the sound's delay


class Dropped:
    """Leaves the first packets out."""

    def __init__(self, count):
        self.left = count

    def __call__(self, packet):
        self.left -= 1
        return None if self.left >= 0 else packet


@pytest.mark.parametrize(
    ("name", "codec"),
    [("h264.ts", "libx264"), ("mpeg2.ts", "mpeg2video"), ("mpeg4.avi", "mpeg4"), ("vp8.webm", "libvpx")],
)
def test_a_file_that_begins_inside_a_group_is_measured_from_its_first_picture(tmp_path, name, codec):
    fps = 25 if codec == "mpeg2video" else FPS
    options = {} if codec == "libx264" else {"g": "10"}
    path = film(tmp_path / name, pictures(30), codec=codec, fps=fps, options=options, move=Dropped(5))
    video = open_moving(source(path), Limits())
    first, *others = list(video.frames())
    assert (first.time_s, len(others)) == (0.0, 19)
    assert video.facts.duration_s == pytest.approx(20 / fps, abs=0.01)
    shown = Renderer().upright(first, 128, 96, "bicubic")
    assert np.abs(shown.astype(int) - picture(10)).mean() < 12
    video.check_length()
    video.close()


def test_a_rate_that_cannot_be_is_measured(tmp_path):
    path = film(tmp_path / "v.mkv", pictures(20), fps=2000, ticks=1000, pts=list(range(0, 2000, 100)))
    facts, times = read(path)
    assert (facts.fps, times) == (pytest.approx(FPS, rel=0.01), regular(20))
    fast, times = read(film(tmp_path / "fast.mp4", pictures(20), fps=2000))
    assert (fast.fps, fast.duration_s) == (2000, pytest.approx(0.01))
    slow, _ = read(film(tmp_path / "slow.mp4", pictures(3), fps=1 / 40))
    assert slow.fps == pytest.approx(1 / 40)


def test_streams_without_timestamps_count_frames(tmp_path):
    for name, codec in (("v.h264", "libx264"), ("v.m2v", "mpeg2video"), ("b.avi", "mpeg4")):
        options = {"bf": "2"} if codec == "mpeg4" else {}
        facts, times = read(film(tmp_path / name, pictures(20), codec=codec, fps=25, options=options))
        assert times == pytest.approx([n / 25 for n in range(20)], abs=0.001), name
        assert facts.duration_s == pytest.approx(0.8, abs=0.001), name


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts", "avi"])
def test_frames_that_are_left_out_change_no_time(tmp_path, kind):
    """What is shown at 21 s is the same picture at the same time, whether all before it was decoded or left out."""
    images = pictures(260, 64, 48)
    path = film(tmp_path / f"v.{kind}", images, codec="mpeg4" if kind == "avi" else "libx264", options={"g": "20"})
    shown, whole = (Shown(open_moving(source(path), Limits())) for _ in range(2))
    for time_s in (0.0, 21.04, 25.5):
        later = shown.at(time_s)
        for number in range(260):
            if number / FPS <= time_s:
                decoded = whole.at(number / FPS)
        assert later.time_s == decoded.time_s == pytest.approx(int(time_s * 10) / 10)
        assert np.array_equal(later.frame.to_ndarray(format="rgb24"), decoded.frame.to_ndarray(format="rgb24"))
    assert later.index < 200  # most were left out


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_frames_between_those_that_are_wanted_every_few_seconds_are_left_out(tmp_path, kind):
    images = pictures(200, 64, 48)
    path = film(tmp_path / f"v.{kind}", images, codec="libx264", options={"g": "15", "bf": "3", "keyint_min": "1"})
    shown, whole = (Shown(open_moving(source(path), Limits())) for _ in range(2))
    number = 0
    for wanted in range(5, 200, 25):  # every 2.5 s, a key frame every 1.5 s
        later = shown.at(wanted / FPS)
        while number <= wanted:
            decoded = whole.at(number / FPS)
            number += 1
        assert later.time_s == decoded.time_s == pytest.approx(wanted / FPS)
        assert np.array_equal(later.frame.to_ndarray(format="rgb24"), decoded.frame.to_ndarray(format="rgb24"))
    assert later.index < 150 or kind != "mp4"  # of a file with an index many were left out


def test_a_step_of_the_clock_is_seen_though_frames_are_left_out(tmp_path):
    images = pictures(300, 64, 48)
    path = film(tmp_path / "v.mkv", images, move=Moved(150, 700))
    shown = Shown(open_moving(source(path), Limits()))
    assert shown.at(0.0).time_s == 0.0
    at = shown.at(28.04)
    assert at.time_s == pytest.approx(28.0)
    pixels = Renderer().upright(at, 64, 48, "bicubic").astype(int)
    assert np.abs(pixels - images[280]).mean() < np.abs(pixels - images[285]).mean()


CUT = {
    "mp4": {"muxing": {"movflags": "faststart"}},
    "mov": {"muxing": {"movflags": "faststart"}},
    "mkv": {},
    "webm": {"codec": "libvpx"},
    "avi": {"codec": "mpeg4"},
    "flv": {"codec": "flv"},
    "wmv": {"codec": "wmv2"},
}


@pytest.mark.parametrize("kind", CUT)
def test_what_is_cut_is_truncated(tmp_path, kind):
    how = CUT[kind]
    whole = film(tmp_path / f"whole.{kind}", **how)
    read(whole)
    for name, share, end in (("half", 0.5, None), ("packet", None, -200)):
        path = tmp_path / f"{name}.{kind}"
        path.write_bytes(whole.read_bytes())
        with pytest.raises(Refused, match="truncated"):
            read(cut(path, share, end))


def test_a_file_whose_end_is_blank_is_truncated(tmp_path):
    """A download that was broken off may have its full size, and zeros where bytes are missing."""
    path = film(tmp_path / "v.mkv", pictures(40))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(Refused, match=r"truncated|corrupt"):
        read(path)
