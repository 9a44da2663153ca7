"""One clock: when each frame is on the screen, out of timestamps that may slip, jump, stand still or be missing."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Protocol, TypeVar

LONGEST_STEP_S = 10.0
"""A longer step between two frames is a jump of the clock, unless the file also says that the frame stays so long.
FFmpeg's command takes the same bound for discontinuities (dts_delta_threshold)."""
LONGEST_STAY_S = 60.0
"""The longest that a frame stays on the screen because the file says so."""
FAR = 4.0
"""Steps of more than this many usual ones are looked at: a pause, a slip of one frame, or a jump."""
STILL = 2
"""More frames than this with the timestamp of the one before are a clock that stands still."""
REMEMBERED = 4
"""Earlier offsets that the clock may return to."""


class Timed(Protocol):
    """A decoded frame: `pts` and `duration` in ticks of the stream; a duration of 0 is unknown."""

    @property
    def pts(self) -> int | None:
        """Presentation timestamp."""

    @property
    def duration(self) -> int:
        """How long it is to stay."""


T = TypeVar("T", bound=Timed)


class Clock:
    """Gives each frame its time in seconds from the first frame.

    Times never go back. A step back, or forward beyond what is plausible, is a step of the file's clock and not of
    what is shown: the frame follows its predecessor by a usual step, and what comes after it likewise; `steps` counts
    them. A single frame out of line does not move the frames that follow.
    """

    def __init__(self, tick: Fraction, usual_s: float) -> None:
        """`tick`: seconds of a tick of timestamps; `usual_s`: seconds from one frame to the next, as a rule."""
        self._tick, self._tick_s, self._usual_s = tick, float(tick), usual_s
        self.steps = 0
        self.raw_end_s: float | None = None
        """Where the furthest frame ends by the file's own clock."""
        self._raw_s = 0.0  # the file's clock at the last frame
        self._time_s = -1.0  # of the last frame; negative before the first one
        self._stays_s: float | None = None  # what the file says of the last frame
        self._declared_end_s = 0.0  # by what the file says of its frames
        self._offsets: deque[int] = deque([0], maxlen=REMEMBERED)  # ticks; the last one counts
        self._agreed = self._differed = self._still = 0
        self._resumed = False

    @property
    def end_s(self) -> float:
        """End of the last frame so far: its time and its own duration; a usual step where the file gives none."""
        if self._time_s < 0:
            return 0.0
        if self._stays_s is None or not self._is_trusted:
            return self._time_s + self._usual_s
        return self._declared_end_s

    @property
    def offset_s(self) -> float:
        """What is added to the file's clock now."""
        return self._offsets[-1] * self._tick_s

    def resume(self) -> None:
        """Frames are left out before the next one: its step says nothing."""
        self._resumed = True

    def times(self, frames: Iterable[T]) -> Iterator[tuple[T, float]]:
        """The frames, in the order in which they are shown, each with its time."""
        held: T | None = None  # far ahead of its predecessor: the next frame says what that means
        for frame in frames:
            resumed, self._resumed = self._resumed, False  # while this frame was fetched
            if held is not None:
                is_slip = not resumed and _is_behind(frame, held)
                yield held, self._slip(held) if is_slip else self._next(held)
                held = None
            if resumed:
                yield frame, self._restart(frame)
            elif self._is_far_ahead(frame):
                held = frame
            else:
                yield frame, self._next(frame)
        if held is not None:
            yield held, self._next(held)

    def _is_far_ahead(self, frame: Timed) -> bool:
        if frame.pts is None or self._time_s < 0:
            return False
        step_s = frame.pts * self._tick_s - self._raw_s
        return step_s > FAR * self._usual_s and not self._is_declared(step_s)

    def _next(self, frame: Timed) -> float:
        """The time of the frame that follows the last one."""
        stays_s = self._declared_stay(frame)
        if self._time_s < 0:
            if frame.pts is not None:
                self._raw_s, self._offsets[0] = frame.pts * self._tick_s, -frame.pts
            return self._shown(0.0, stays_s)
        if frame.pts is None:
            step_s = self._usual_s if self._stays_s is None or not self._is_trusted else self._stays_s
            self._raw_s += step_s
            return self._shown(self._time_s + step_s, stays_s)
        raw_s = frame.pts * self._tick_s
        step_s, self._raw_s = raw_s - self._raw_s, raw_s
        self._still = self._still + 1 if step_s == 0 else 0
        if not self._is_plausible(step_s) or self._still > STILL:
            return self._rebase(frame.pts, stays_s)
        if self._stays_s is not None:
            agrees = self._agrees(self._stays_s, step_s)
            self._agreed, self._differed = self._agreed + agrees, self._differed + (not agrees)
        return self._shown(max(self._seconds(frame.pts), self._time_s), stays_s)

    def _slip(self, frame: Timed) -> float:
        """The time of a single frame whose timestamp is wrong; the file's clock goes on as if it had been right."""
        self.steps += 1
        self._reach((frame.pts or 0) * self._tick_s + self._usual_s)
        self._raw_s += self._usual_s
        return self._shown(self._time_s + self._usual_s, None)

    def _restart(self, frame: Timed) -> float:
        """The time of a frame before which others were left out: the file's clock did not step on the way."""
        if frame.pts is None or self._time_s < 0:
            return self._next(frame)
        self._raw_s = frame.pts * self._tick_s
        return self._shown(max(self._seconds(frame.pts), self._time_s), self._declared_stay(frame))

    def _rebase(self, pts: int, stays_s: float | None) -> float:
        """Go on after a step of the file's clock: by an earlier offset where that fits, else by a usual step."""
        for offset in self._offsets:
            time_s = self._seconds(pts, offset)
            if self._time_s < time_s <= self._time_s + FAR * self._usual_s:
                self._offsets.remove(offset)
                self._offsets.append(offset)
                return self._shown(time_s, stays_s)
        self.steps += 1
        self._offsets.append(round((self._time_s + self._usual_s) / self._tick_s) - pts)
        return self._shown(self._seconds(pts), stays_s)

    def _shown(self, time_s: float, stays_s: float | None) -> float:
        self._time_s, self._stays_s = time_s, stays_s
        lasts_s = self._usual_s if stays_s is None else stays_s
        self._declared_end_s = max(self._declared_end_s, time_s + lasts_s)
        self._reach(self._raw_s + lasts_s)
        return time_s

    def _reach(self, raw_s: float) -> None:
        self.raw_end_s = raw_s if self.raw_end_s is None else max(self.raw_end_s, raw_s)

    def _seconds(self, pts: int, offset: int | None = None) -> float:
        """The time of a timestamp, from whole numbers: 1 s after the start is 1.0 s."""
        ticks = pts + (self._offsets[-1] if offset is None else offset)
        return ticks * self._tick.numerator / self._tick.denominator

    def _is_plausible(self, step_s: float) -> bool:
        if step_s < 0:
            return step_s > -self._usual_s / 2  # two neighbors in the wrong order
        longest_s = LONGEST_STAY_S if self._is_declared(step_s) else LONGEST_STEP_S
        return step_s <= max(longest_s, FAR * self._usual_s)

    def _is_declared(self, step_s: float) -> bool:
        return self._stays_s is not None and self._is_trusted and self._agrees(self._stays_s, step_s)

    @property
    def _is_trusted(self) -> bool:
        """Whether the durations that the file gives its frames agree with their timestamps."""
        return self._agreed >= self._differed

    def _agrees(self, stays_s: float, step_s: float) -> bool:
        return abs(stays_s - step_s) <= min(max(0.2 * step_s, 2 * self._tick_s), 0.45 * step_s)

    def _declared_stay(self, frame: Timed) -> float | None:
        stays_s = frame.duration * self._tick.numerator / self._tick.denominator
        return stays_s if 0 < stays_s <= max(LONGEST_STAY_S, FAR * self._usual_s) else None


def _is_behind(frame: Timed, held: Timed) -> bool:
    return frame.pts is not None and held.pts is not None and frame.pts < held.pts


def measured_rate(frames: Sequence[Timed], tick_s: float) -> float | None:
    """Frames a second by the timestamps of some neighboring frames, or by their durations where they have none.

    Pauses are left out. None where they say nothing.
    """
    pts = sorted(frame.pts for frame in frames if frame.pts is not None)
    steps = [later - earlier for earlier, later in pairwise(pts)] if pts else [frame.duration for frame in frames]
    positive = [step for step in steps if step > 0]
    if len(positive) < 2:
        return None
    usual = [step for step in steps if step <= 1.5 * statistics.median(positive)]
    return len(usual) / (sum(usual) * tick_s)
