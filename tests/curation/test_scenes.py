"""Cuts equal PySceneDetect's own command within two frames; settled early; of changes that lie close the strongest is
the cut; long scenes divided evenly."""

import csv
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
from videos import scene_frames, textured, write_video

from reelmill.curation.cut_finder import CutFinder
from reelmill.curation.scenes import ScenesConfig, detect_size, divide
from reelmill.media.limits import Limits
from reelmill.media.moving import Renderer
from reelmill.media.source import Source
from reelmill.media.video import Video


def found_cuts(path, config):
    """Cuts as the expander asks for them, and how late each was known (frames)."""
    video = Video(Source(str(path), 0, path.stat().st_size), Limits())
    finder = CutFinder(config, video.facts.fps)
    renderer = Renderer()
    cuts, late, start = [], [], 0
    for decoded in video.frames():
        size = detect_size(decoded.frame.width, decoded.frame.height)
        finder.feed(renderer.small(decoded, *size))
        for cut in finder.settled(after=start):
            cuts.append(cut)
            late.append(decoded.index - cut)
            start = cut
    finder.finish()
    cuts += finder.settled(after=start)
    video.close()
    return cuts, late


def command_cuts(path, folder, *detectors):
    """Cut frames by the `scenedetect` command."""
    command = [sys.executable, "-m", "scenedetect", "-q", "-i", str(path), "-o", str(folder), *detectors]
    subprocess.run([*command, "list-scenes", "-q"], check=True, capture_output=True)
    (report,) = folder.glob("*.csv")
    with report.open() as stream:
        rows = list(csv.reader(stream))
    first = next(i for i, row in enumerate(rows) if row[0] == "Scene Number") + 1
    return [int(row[1]) - 1 for row in rows[first:]][1:]


@pytest.fixture(scope="module")
def cut_video(tmp_path_factory):
    scenes = [(1, 40), (2, 31), (3, 50), (4, 19), (5, 60)]
    return write_video(tmp_path_factory.mktemp("v") / "cuts.mp4", scene_frames(scenes, 240, 320))


def test_cuts_equal_the_command(cut_video, tmp_path):
    cuts, late = found_cuts(cut_video, ScenesConfig("content", fades=False))
    expected = command_cuts(cut_video, tmp_path, "detect-content")
    assert len(cuts) == len(expected) >= 3
    assert max(abs(a - b) for a, b in zip(cuts, expected, strict=True)) <= 2
    assert max(late) <= 2 * 24


def test_adaptive_equals_the_command(cut_video, tmp_path):
    cuts, _ = found_cuts(cut_video, ScenesConfig(detector="adaptive", fades=False))
    expected = command_cuts(cut_video, tmp_path, "detect-adaptive")
    assert len(cuts) == len(expected) >= 3
    assert max(abs(a - b) for a, b in zip(cuts, expected, strict=True)) <= 2


@pytest.mark.parametrize("detector", [ContentDetector, AdaptiveDetector])
def test_the_frame_score_is_pyscenedetects(detector):
    """Shots that differ by less and less: the same ones are told apart, those about the threshold too."""
    one, other = textured(1, 144, 256).astype(float), textured(2, 144, 256).astype(float)
    shares = [0, 1, 0.05, 0.9, 0.2, 0.8, 0.35, 0.7, 0.42, 0.63, 0.5, 0.58, 0.53]
    frames = [(one * (1 - share) + other * share).astype(np.uint8) for share in shares for _ in range(20)]
    finder = CutFinder(ScenesConfig("adaptive" if detector is AdaptiveDetector else "content", fades=False), 25.0)
    theirs, expected = detector(min_scene_len=0.6), []
    for index, frame in enumerate(frames):
        finder.feed(frame)
        expected += theirs.process_frame(FrameTimecode(index, fps=25.0), frame)
    finder.finish()
    assert finder.settled(after=0) == [cut.frame_num for cut in expected]
    assert 3 < len(expected) < len(shares) - 1


def blended(*parts):
    """Frames that are `share` of one picture and the rest of another, (share, frames) after (share, frames)."""
    one, other = textured(1, 144, 256).astype(float), textured(2, 144, 256).astype(float)
    return [(one * (1 - share) + other * share).astype(np.uint8) for share, count in parts for _ in range(count)]


def cuts_of(frames, fps=25.0, detector="content"):
    finder = CutFinder(ScenesConfig(detector, fades=False), fps)
    for frame in frames:
        finder.feed(frame)
    finder.finish()
    return finder.settled(after=0)


@pytest.mark.parametrize("detector", ["content", "adaptive"])
@pytest.mark.parametrize("shares", [(0, 1, 0.4), (0, 0.6, -0.4), (0, 0.5, 1.5, 0.9)])
def test_of_changes_within_the_minimum_scene_the_strongest_is_the_cut(detector, shares):
    """Eight frames, 0.32 s, lie between the changes: the command takes the first or the last."""
    lengths = [40, *([8] * (len(shares) - 2)), 60]
    steps = [abs(after - before) for before, after in itertools.pairwise(shares)]
    strongest = 40 + 8 * steps.index(max(steps))
    assert cuts_of(blended(*zip(shares, lengths, strict=True)), detector=detector) == [strongest]


def test_changes_a_minimum_scene_apart_are_cuts_each():
    """15 frames, 0.6 s, are enough; and a weak change between two strong ones gives way to both."""
    assert cuts_of(blended((0, 40), (1, 15), (0, 40))) == [40, 55]
    assert cuts_of(blended((0, 40), (1, 8), (0.5, 8), (1.6, 40))) == [40, 56]


def test_flicker_is_settled_when_it_ends():
    """What flickers for seconds is divided at least every other minimum scene, and holds nothing back afterwards."""
    frames = blended((0, 40), *(((1, 2), (0, 2)) * 30), (1, 60))
    finder = CutFinder(ScenesConfig("content", fades=False), 25.0)
    known = {}
    for index, frame in enumerate(frames):
        finder.feed(frame)
        known |= dict.fromkeys(finder.settled(after=max(known, default=0)), index)
    assert all(15 <= after - before < 30 for before, after in itertools.pairwise(known))
    assert max(known.values()) <= 40 + 120 + 15


def faded(seconds_black, fps=24):
    """A scene that fades to black, stays black, and another that fades in; the middle of the black is frame `cut`."""
    ramp, black = 24, round(seconds_black * fps)
    first, second = textured(1), textured(2)
    frames = [first] * 48
    frames += [(first * (1 - i / ramp)).astype(np.uint8) for i in range(1, ramp + 1)]
    frames += [np.zeros_like(first)] * black
    frames += [(second * (i / ramp)).astype(np.uint8) for i in range(1, ramp + 1)]
    frames += [second] * 48
    return frames, 48 + ramp + black // 2


@pytest.mark.parametrize("seconds_black", [0.5, 3.0])
def test_a_fade_is_cut_in_the_black(tmp_path, seconds_black):
    frames, middle = faded(seconds_black)
    path = write_video(tmp_path / "fade.mp4", frames)
    cuts, _ = found_cuts(path, ScenesConfig())
    expected = command_cuts(path, tmp_path, "detect-content", "detect-threshold")
    assert len(cuts) == len(expected)
    assert max(abs(a - b) for a, b in zip(cuts, expected, strict=True)) <= 2
    assert min(abs(cut - middle) for cut in cuts) <= 2
    assert min(abs(cut - middle) for cut in found_cuts(path, ScenesConfig(fades=False))[0]) > 2


def test_a_cut_and_a_fade_at_one_place_are_one_event(tmp_path):
    black = np.zeros_like(textured(1))
    frames = [textured(1)] * 48 + [black] * 2 + [textured(2)] * 48
    path = write_video(tmp_path / "blink.mp4", frames)
    assert len(found_cuts(path, ScenesConfig())[0]) == 1


@given(st.floats(0, 1e4), st.floats(0.01, 1e4), st.floats(0.5, 60))
def test_divided_scenes_are_even_cover_and_keep_the_bound(start, length, most):
    parts = divide(start, start + length, most)
    assert parts[0][0] == start
    assert parts[-1][1] == start + length
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    sizes = [end - begin for begin, end in parts]
    assert max(sizes) <= most + 1e-3
    assert max(sizes) - min(sizes) < 1e-6 * max(start + length, 1)
    assert len(parts) == 1 or length / (len(parts) - 1) > most - 1e-3
