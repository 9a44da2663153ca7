"""Key frames: when they are taken, which, and what is left out; and through the child, from the pass that is made."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from videos import scene_frames, textured, write_video

from reelmill.config import to_dict
from reelmill.curation.keyframe_picker import Candidate, KeyframePicker, wanted_times
from reelmill.curation.keyframes import KeyframesConfig, Problem
from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import NARRATED, ItemScorer, ScoreConfig, score_fingerprint


@given(st.floats(0, 1e4), st.floats(0.05, 500), st.floats(0.5, 10))
def test_wanted_times_lie_within_the_scene_and_are_as_many_as_fit(start, length, every):
    times = wanted_times(start, start + length, every)
    assert len(times) == max(int(length / every + 1e-6), 1)
    assert all(start < time < start + length for time in times)
    assert len(times) == 1 or min(np.diff(times)) >= every - 1e-3


def test_a_short_scene_gives_its_middle_and_a_long_one_a_frame_every_t():
    assert wanted_times(10.0, 13.0, 4.0) == [11.5]
    assert wanted_times(0.0, 12.5, 4.0) == pytest.approx([2.0833, 6.25, 10.4167], abs=1e-3)


def at(time_s, image):
    return Candidate(time_s, image)


def test_the_sharpest_of_the_window_is_taken_and_none_at_a_cut():
    sharp, blurred = textured(1), cv2.GaussianBlur(textured(1), (0, 0), 6)
    picker = KeyframePicker(KeyframesConfig())
    candidates = [at(0.05, sharp), at(1.25, blurred), at(1.5, blurred), at(1.75, sharp), at(2.95, sharp)]
    (found,) = picker.scene(0.0, 3.0, candidates)
    assert found.candidate.time_s == 1.75 and found.problem is Problem.NONE
    (only,) = KeyframePicker(KeyframesConfig()).scene(0.0, 0.2, [at(0.0, sharp)])  # no other frame is there
    assert only.candidate.time_s == 0.0


def test_black_and_what_repeats_the_last_are_left_out_with_a_reason():
    picker = KeyframePicker(KeyframesConfig())
    scenes = [textured(1), np.zeros((120, 160, 3), np.uint8), textured(1), textured(2), textured(1)]
    found = [picker.scene(4.0 * n, 4.0 * n + 3, [at(4.0 * n + 1.5, image)])[0] for n, image in enumerate(scenes)]
    problems = [keyframe.problem for keyframe in found]
    assert problems == [Problem.NONE, Problem.BLACK, Problem.REPEATS, Problem.NONE, Problem.NONE]


def scored(path, **keyframes):
    config = ScoreConfig(scorers={"colourfulness": {}})
    config.expanders["video"], config.decode.sample_fps = NARRATED, 4.0
    config.keyframes = KeyframesConfig(**keyframes)
    scorer = ItemScorer(config, {})
    item = {**dict.fromkeys(PLAN.names), "unit": 0, "item_id": "a", "uri": "a", "kind": "video", "path": str(path)}
    try:
        return scorer.score({**item, "offset": 0, "size": path.stat().st_size})
    finally:
        scorer.close()


def test_a_video_becomes_one_sample_of_key_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", scene_frames([(1, 60), (2, 240), (1, 36)]), fps=24)
    row, (sample,) = scored(path)
    assert (row["status"], row["n_samples"]) == ("done", 1)
    assert (sample["start_s"], sample["end_s"]) == (0.0, 14.0)
    scenes = [(k["scene_start_s"], k["scene_end_s"]) for k in sample["keyframes"]]
    assert scenes == [(0.0, 2.5), (2.5, 12.5), (2.5, 12.5), (12.5, 14.0)]
    for keyframe, wanted in zip(sample["keyframes"], [1.25, 5.0, 10.0, 13.25], strict=True):
        assert abs(keyframe["time_s"] - wanted) <= 0.5 + 1e-6
        assert keyframe["problem"] is None
    assert sample["n_frames"] == 4 and sample["colourfulness"] > 0


def test_a_long_video_is_several_samples_that_end_with_scenes(tmp_path):
    path = write_video(tmp_path / "a.mp4", scene_frames([(seed, 48) for seed in range(5)]), fps=24)
    _, samples = scored(path, span_s=3.0)
    assert [(s["start_s"], s["end_s"]) for s in samples] == [(0.0, 4.0), (4.0, 8.0), (8.0, 10.0)]
    assert [len(s["keyframes"]) for s in samples] == [2, 2, 1]


def test_key_frames_are_part_of_the_fingerprint_only_where_they_are_taken():
    plain, other = ScoreConfig(), ScoreConfig(keyframes=KeyframesConfig(every_s=9.0))
    assert score_fingerprint(plain) == score_fingerprint(other)
    for config in (plain, other):
        config.expanders["video"] = NARRATED
    assert score_fingerprint(plain) != score_fingerprint(other)
    assert "keyframes" in to_dict(plain)
