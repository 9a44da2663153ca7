"""Damage of a video: what decoder and container complain of, and which frames that spoils.

FFmpeg hides most damage: it conceals what is lost and gives a frame all the same. What it says on the way is gathered
here: error lines of its log, flags of packets and frames, packets that fail. An error spoils the frames from its own up
to the next key frame, since they are predicted from it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.video.frame import VideoFrame

USUAL = 0.2
"""A step between frames that differs by at most this share from the usual one is usual."""
GAP = 1.6
"""A step of more usual ones is a gap."""
EXTRA = 0.4
"""A step shorter than this share of the usual one has a frame too many."""
LONGEST_GAP_S = 0.5
"""A longer gap is a pause, as slides and screens have them; lost packets rarely follow each other for so long."""
MOST_KINDS = 100
"""Different complaints that are counted."""
MOST_WAITING = 1000
"""Packets with errors that are remembered until their frames are shown. A decoder holds back 16 frames at most."""
MOST_WORDS = 300
"""Characters of the complaints that are told."""
_NUMBERS = re.compile(r"0x[0-9A-Fa-f]+|[-+]?\d[\d.]*")


@contextmanager
def heard() -> Iterator[list[str]]:
    """What FFmpeg logs as an error inside of the block, in this thread; the list is filled when the block ends."""
    lines: list[str] = []
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logs:
            yield lines
    finally:
        av.logging.set_level(None)
    lines.extend(f"{name}: {words}" for _, name, words in logs)


class Damage:
    """What was wrong with a video so far. `errors` counts it."""

    def __init__(self) -> None:
        self.errors = 0
        self._kinds: Counter[str] = Counter()
        self._waiting: list[int | None] = []  # timestamps of packets with errors whose frames were not shown yet
        self._before: int | None = None  # timestamp of the last frame
        self._is_spoiled = False

    def note(self, complaints: list[str], pts: int | None) -> None:
        """Something is wrong with the packet of this timestamp; None: with the one whose frame comes next."""
        if not complaints:
            return
        self.errors += len(complaints)
        for complaint in complaints:
            kind = _NUMBERS.sub("#", " ".join(complaint.split()))
            if kind in self._kinds or len(self._kinds) < MOST_KINDS:
                self._kinds[kind] += 1
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(pts)

    def begin(self, pts: int | None) -> None:
        """The first key frame of a file that begins inside of a group of pictures: what came before is no damage."""
        self._waiting = [at for at in self._waiting if at is not None and pts is not None and at >= pts]
        self.errors = len(self._waiting)
        self._kinds.clear()

    def spoils(self, frame: VideoFrame, is_key: bool) -> tuple[bool, bool]:
        """(whether the frame that is shown now is damaged, or predicted from one that was; whether it follows a loss).

        After a loss frames with errors are not shown at all, and the one before stays on the screen in their place.
        """
        pts = frame.pts
        if frame.is_corrupt:
            self.note(["a frame is marked as corrupt"], pts)
        is_back = pts is None or (self._before is not None and pts < self._before)  # timestamps cannot be compared
        due = [at for at in self._waiting if at is None or is_back or at <= (pts or 0)]
        if due:
            self._waiting = [] if is_back else [at for at in self._waiting if at is not None and at > (pts or 0)]
        before, self._before = self._before, pts
        is_loss = not is_back and before is not None and any(at is not None and before < at < (pts or 0) for at in due)
        if is_key:  # heals, unless it is what the error is about
            self._is_spoiled = any(at is None or is_back or at == pts for at in due)
        elif due:
            self._is_spoiled = True
        return self._is_spoiled or bool(due), is_loss

    @property
    def unshown(self) -> int:
        """Errors in packets behind the last frame that was shown."""
        return len(self._waiting)

    def words(self) -> str | None:
        """The most frequent complaints, printable ASCII."""
        told = "; ".join(kind if count == 1 else f"{kind} ({count})" for kind, count in self._kinds.most_common())
        printable = "".join(letter if " " <= letter <= "~" else "?" for letter in told)
        return printable[:MOST_WORDS] or None


class Pace:
    """Whether frames follow each other at one rate, and how many are missing where they should."""

    def __init__(self, usual_s: float) -> None:
        self._usual_s = usual_s
        self._before_s: float | None = None
        self._steps = self._usual = 0

    def missing(self, time_s: float) -> int:
        """Frames that a steady clock would have between the last frame and the one at `time_s`; -1 for one too many.

        Where timestamps slip, a gap and a frame too many follow each other.
        """
        before_s, self._before_s = self._before_s, time_s
        if before_s is None:
            return 0
        step_s = time_s - before_s
        self._steps += 1
        self._usual += abs(step_s / self._usual_s - 1) <= USUAL
        if step_s < EXTRA * self._usual_s:
            return -1
        is_gap = GAP * self._usual_s < step_s <= max(LONGEST_GAP_S, 2 * self._usual_s)
        return round(step_s / self._usual_s) - 1 if is_gap else 0

    @property
    def steadiness(self) -> float | None:
        """Share of the steps that are usual; None without any."""
        return self._usual / self._steps if self._steps else None
