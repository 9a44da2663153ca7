"""What a stage says while it works: never silent for long, and where it is."""

import io
import math
import threading
from dataclasses import replace

import pytest
from rich.console import Console
from videos import scene_frames, write_video

from reelmill.config import to_dict
from reelmill.curation.clips import VIDEO_JOB
from reelmill.curation.expanders import video
from reelmill.curation.ledger import item_id
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig
from reelmill.isolation import wire
from reelmill.isolation.messages import CLIPS
from reelmill.isolation.parent import Child, IsolationConfig
from reelmill.media.source import Source
from reelmill.orchestration import positions as noted
from reelmill.orchestration import progress
from reelmill.orchestration.positions import Positions, positions
from reelmill.orchestration.progress import follow
from reelmill.orchestration.runfolder import RunFolder

TASKS = [{"unit": 0, "items": 9}, {"unit": 1, "items": 4}]


class Lines(io.StringIO):
    """Text that can be waited for."""

    def __init__(self):
        super().__init__()
        self.changed = threading.Condition()

    def write(self, text):
        with self.changed:
            super().write(text)
            self.changed.notify_all()

    def wait_for(self, *words):
        with self.changed:
            assert self.changed.wait_for(lambda: all(word in self.getvalue() for word in words), timeout=60)


def test_a_long_first_unit_is_not_silent_and_says_where_it_is(monkeypatch):
    monkeypatch.setattr(progress, "SHOWN_EVERY_S", 0.02)
    lines, at = Lines(), ["at first.mp4"]

    def receipts():
        lines.wait_for("score 0/13: ", "s so far, at first.mp4")  # before anything is done
        at[0] = "at [bold]second\x1b.mp4"
        yield {"unit": 0, "items": 9, "samples": 20}
        lines.wait_for("score 9/13: 9 items, 20 samples", "s left, at [bold]second\\x1b.mp4")
        yield {"unit": 1, "items": 4, "samples": 5}

    sums = follow("score", TASKS, receipts(), Console(file=lines, width=200), lambda: at[0])
    assert sums == {"items": 13, "samples": 25}
    assert lines.getvalue().splitlines()[-1].startswith("score 13 items, 25 samples in ")
    assert lines.getvalue().count("at first.mp4") == 1, "a line that says nothing new is not repeated at once"


def test_a_bar_moves_between_units(monkeypatch):
    monkeypatch.setattr(progress, "SHOWN_EVERY_S", 0.02)
    lines = Lines()

    def receipts():
        lines.wait_for("at [first].mp4")
        yield {"unit": 0, "items": 9}

    console = Console(file=lines, width=200, force_terminal=True)
    follow("score", TASKS, receipts(), console, lambda: "at [first].mp4")


def test_where_workers_are_is_what_those_of_this_run_have_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(noted, "NOTED_EVERY_S", 0.0)
    folder = RunFolder(tmp_path, 3)
    assert positions(folder) == []
    notes = {unit: Positions(folder, unit) for unit in (0, 1, 2)}
    for unit, note in notes.items():
        note.begin(item_id(f"{unit}.mp4"), f"{unit}.mp4")
    notes[1].end()
    notes[2].at(200.4, 720.0)
    Positions(RunFolder(tmp_path, 2), 7).begin(item_id("earlier.mp4"), "earlier.mp4")
    (tmp_path / "running/unit-000009.at").write_text('{"epoch": 3, "item')
    first, second = positions(folder)
    assert (first.item_id, first.uri, first.words) == (item_id("0.mp4"), "0.mp4", "")
    assert (second.item_id, second.words) == (item_id("2.mp4"), "(decoding 3:20 of 12:00)")
    assert replace(second, at_s=3_725.0, of_s=None).words == "(decoding 1:02:05)"


def test_a_position_that_cannot_be_noted_stops_nothing(tmp_path):
    (tmp_path / "running").write_text("no folder")
    note = Positions(RunFolder(tmp_path, 1), 0)
    note.begin(item_id("a.mp4"), "a.mp4")
    note.at(1.0, 2.0)
    note.end()


def test_a_decoding_child_says_how_far_in_the_video_it_is(tmp_path):
    film = write_video(tmp_path / "a.mp4", scene_frames([(1, 72)], 48, 64), fps=24)
    clip = {"key": "a", "start_s": 0.0, "fps": 24.0, "frames": 72, "width": 64, "height": 48}
    heard = []
    options = {**to_dict(DecodeConfig()), "clips": [clip]}
    with Child(IsolationConfig(), lambda *position: heard.append(position)) as child:
        assert [
            body["key"] for body, _ in child.run(VIDEO_JOB, Source(str(film), 0, film.stat().st_size), options, CLIPS)
        ] == ["a"]
    assert len(heard) > 1
    assert heard == sorted(heard)
    assert {of_s for _, of_s in heard} == {3.0}


def test_cutting_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "TICK_S", 0.0)
    film = write_video(tmp_path / "a.mp4", scene_frames([(1, 24)], 48, 64), fps=24)
    options = {**to_dict(DecodeConfig()), "scenes": to_dict(ScenesConfig())}
    said = [body for body, _ in video.expand(Source(str(film), 0, film.stat().st_size), options)]
    ticks = [body for body in said if body["type"] == "tick"]
    assert [tick["at_s"] for tick in ticks] == pytest.approx([n / 24 for n in range(24)])
    assert {tick["of_s"] for tick in ticks} == {1.0}


@pytest.mark.parametrize("of_s", [None, -1.0, math.nan, math.inf, 1e12])
def test_a_length_that_cannot_be_is_not_said(of_s):
    assert wire.tick(2.0, of_s) == ({"type": "tick", "at_s": 2.0}, {})
