"""Black and frozen ends of a scene are left out of its clips, and a picture that stops is counted."""

import numpy as np
import pytest
from videos import textured, write_video

from reelmill.config import to_dict
from reelmill.curation.expanders import video
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.measuring import Measurer
from reelmill.curation.rules import RuleFilter, any_failed_sql
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig
from reelmill.media.source import Source
from reelmill.pipelines.curate import recipes

FPS = 24
BLACK = np.zeros((120, 160, 3), np.uint8)


def moving(seed, seconds):
    """A picture that passes by, a pixel a frame."""
    count = round(seconds * FPS)
    wide = textured(seed, 120, 160 + count)
    return [np.ascontiguousarray(wide[:, n : n + 160]) for n in range(count)]


def faded(frames, back=False):
    """Frames that go to black, or come from it."""
    shares = np.linspace(1, 0, len(frames) + 1)[1:]
    return [(f * s).astype(np.uint8) for f, s in zip(frames, shares[::-1] if back else shares, strict=True)]


def held(frame, seconds):
    return [frame] * round(seconds * FPS)


def card(seconds):
    """White letters on black, dark on the whole."""
    picture = BLACK.copy()
    picture[55:62, 40:120:6] = 255
    assert picture.mean() < 12
    return held(picture, seconds)


def clips(tmp_path, frames, spans=None, **scenes):
    path = write_video(tmp_path / "v.mp4", frames, options={"crf": "23", "g": "48", "threads": "1"})
    options = {**to_dict(DecodeConfig()), "scenes": to_dict(ScenesConfig(**scenes)), "spans": spans}
    source = Source(str(path), 0, path.stat().st_size)
    found = [(body, arrays) for body, arrays in video.expand(source, options) if body["type"] == "sample"]
    for body, arrays in found:
        assert all(body["start_s"] <= at < body["end_s"] for at in arrays["times"])
    return [body for body, _ in found]


def spans(bodies):
    return [(round(b["start_s"] * FPS), round(b["end_s"] * FPS)) for b in bodies]


def test_a_title_card_is_in_no_clip(tmp_path):
    """The cut lies in the card, and the clips before and after end and begin where it is no longer black."""
    first, second = moving(1, 3), moving(2, 3)
    frames = [*first[:48], *faded(first[48:]), *card(2), *faded(second[:24], back=True), *second[24:]]
    one, two = clips(tmp_path, frames, detector="content", threshold=255.0)  # the fade alone is found
    whole_one, whole_two = clips(tmp_path, frames, detector="content", threshold=255.0, trim=False)
    assert whole_one["end_s"] == whole_two["start_s"] == pytest.approx(4.0, abs=0.1)
    assert 0.95 < one["trim_end_s"] == pytest.approx(whole_one["end_s"] - one["end_s"])
    assert 0.95 < two["trim_start_s"] == pytest.approx(two["start_s"] - whole_two["start_s"])
    assert (one["scene"], two["scene"], one["trim_start_s"], two["trim_end_s"]) == (0, 1, 0.0, 0.0)
    assert whole_one["trim_end_s"] == whole_two["trim_start_s"] == 0.0
    shown = frames[spans([one])[0][1] - 1], frames[spans([two])[0][0]]
    assert all(frame.mean() > 10 for frame in shown)
    # The card's own edges may be cuts as well: then it is clips of its own, which are too short.
    lasting = [body for body in clips(tmp_path, frames) if body["end_s"] - body["start_s"] >= 2.0]
    assert len(lasting) == 2
    assert all(frames[n].mean() > 10 for first, stop in spans(lasting) for n in (first, stop - 1))


def test_what_stands_still_at_the_ends_is_left_out(tmp_path):
    """Black, then a picture that stands before it moves, and stands when it has moved; one frame of each stays."""
    moves = moving(1, 3)
    frames = [*held(BLACK, 1), *held(moves[0], 1), *moves, *held(moves[-1], 1), *held(BLACK, 1)]
    (clip,) = clips(tmp_path, frames, detector="content", threshold=255.0, fades=False)
    (start, end), moved = spans([clip])[0], 2 * FPS
    assert moved - 2 <= start <= moved
    assert moved + len(moves) <= end <= moved + len(moves) + 2
    assert clip["trim_start_s"] == pytest.approx(clip["start_s"])
    assert clip["trim_end_s"] == pytest.approx(len(frames) / FPS - clip["end_s"])


@pytest.mark.parametrize("frames", [held(BLACK, 2), held(textured(1), 2)])
def test_a_scene_that_is_black_or_still_throughout_stays_whole(tmp_path, frames):
    (clip,) = clips(tmp_path, frames)
    assert spans([clip]) == [(0, 48)]
    assert (clip["trim_start_s"], clip["trim_end_s"], clip["frozen_share"]) == (0.0, 0.0, 1.0)


def test_short_holds_stay(tmp_path):
    """A third of a second at an end is no frozen end; nor is what moves slowly."""
    moves = moving(1, 2)
    (clip,) = clips(tmp_path, [*held(moves[0], 0.33), *moves, *held(moves[-1], 0.33)])
    assert spans([clip]) == [(0, 64)]
    assert clip["frozen_share"] == 0
    slow = [frame for frame in moving(1, 1) for _ in range(3)]
    (clip,) = clips(tmp_path, slow)
    assert (spans([clip]), clip["frozen_share"]) == ([(0, 72)], 0)


def test_a_long_scene_is_trimmed_before_it_is_divided(tmp_path):
    bodies = clips(
        tmp_path, [*held(BLACK, 1), *moving(1, 4)], detector="content", threshold=255.0, fades=False, max_s=2.5
    )
    assert spans(bodies) == [(24, 72), (72, 120)]
    assert [b["scene"] for b in bodies] == [0, 0]
    assert [(b["trim_start_s"], b["trim_end_s"]) for b in bodies] == [(1.0, 0.0), (0.0, 0.0)]


def smeared(frame):
    """What a decoder shows when it has lost the rest: the picture drawn out along its columns."""
    picture = frame.copy()
    picture[40:] = picture[40]
    return picture


def test_frames_that_freeze_are_counted_and_not_kept(tmp_path):
    """2 s of 6 in which a smeared picture stands still; a clip that moves all the time passes, and one of 12 frames a
    second, each shown twice."""
    moves = moving(1, 4)
    frozen = [*moves[:48], *held(smeared(moves[47]), 2), *moves[48:]]
    twice = [frame for frame in moving(2, 3) for _ in range(2)]
    bodies = [clips(tmp_path, f, detector="content", threshold=255.0) for f in (frozen, moving(1, 6), twice)]
    shares = [round(body["frozen_share"], 2) for (body,) in bodies]
    assert shares == [pytest.approx(1 / 3, abs=0.03), 0, 0]
    assert verdicts([body for (body,) in bodies]) == [True, False, False]


def test_given_spans_are_not_trimmed_and_are_counted(tmp_path):
    frames = [*moving(1, 2), *held(BLACK, 2), *moving(2, 2)]
    one, two = clips(tmp_path, frames, spans=[[0.0, 3.0], [1.0, 6.0]])
    assert spans([one, two]) == [(0, 72), (24, 144)]
    assert [one["frozen_share"], two["frozen_share"]] == pytest.approx([1 / 3, 2 / 5], abs=0.02)
    assert one.get("trim_end_s") is None


def verdicts(bodies):
    """Whether the rule `frozen` of recipe `video` rejects them."""
    rule = recipes.video().rules["frozen"]
    empty = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0), np.zeros((0, 3, 1, 1), np.uint8))
    samples = [
        Sample(str(n), "i", "video", b["start_s"], b["end_s"], 1, 1, 1.0, empty, {"frozen_share": b["frozen_share"]})
        for n, b in enumerate(bodies)
    ]
    filter_ = RuleFilter({"frozen": rule}, recipes.judged_schema({}))
    rows = Measurer([], filter_).measure(samples)
    assert any_failed_sql({"frozen": rule}) != "false"
    return filter_.skipped(rows, "failed")
