"""What a stage says while it works: never silent for long, and where it is."""

import io
import threading

from rich.console import Console

from reelmill.curation.ledger import item_id
from reelmill.orchestration import progress
from reelmill.orchestration.attempts import Attempts, in_progress
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


def test_what_is_in_progress_is_what_workers_of_this_run_have_noted(tmp_path):
    folder = RunFolder(tmp_path, 3)
    assert in_progress(folder) == []
    notes = {unit: Attempts(folder, unit) for unit in (0, 1, 2)}
    for unit, note in notes.items():
        note.begin(item_id(f"{unit}.mp4"))
    notes[1].end()
    Attempts(RunFolder(tmp_path, 2), 7).begin(item_id("earlier.mp4"))
    (tmp_path / "running/unit-000009.json").write_text('{"epoch": 3, "cur')
    assert in_progress(folder) == [item_id("0.mp4"), item_id("2.mp4")]
