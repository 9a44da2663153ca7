"""The meta text between BOI and IMG: `H*W` for an image, `H*W 24fps 5s` for a video (sizes in codes, not pixels).

Emu3's paper (section 2.4) puts resolution, frame rate and duration there as plain text and discloses the string for
images only; the video form is ours. Numbers have exactly one spelling, Python's `:g`, so that text, grid and ids
determine one another.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from reelmill.errors import DataError

PIXEL_FRAMES_PER_LATENT = 4
MAX_SIDE = 9_999
_DIGITS = 6  # significant digits that `:g` writes
_SMALLEST = 1e-4  # below it `:g` switches to exponents
_LARGEST = 999_999
_UNITS = ("*", " ", "fps ", "s")


@dataclass(frozen=True)
class Header:
    """The contents of the meta text. `fps` and `seconds` are None for an image, which has t = 1."""

    h: int
    w: int
    fps: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.h <= MAX_SIDE and 1 <= self.w <= MAX_SIDE):
            raise DataError(f"a grid is 1 to {MAX_SIDE:,} codes high and wide, not {self.h} by {self.w}")
        if (self.fps is None) != (self.seconds is None):
            raise DataError("a video has both a frame rate and a duration, an image neither")
        for name, value in (("frame rate", self.fps), ("duration", self.seconds)):
            if value is not None and not (_SMALLEST <= value <= _LARGEST and _is_number(f"{value:g}")):
                raise DataError(f"a {name} lies between {_SMALLEST:g} and {_LARGEST:,}, not {value!r}")
        if self.t < 1:
            raise DataError(
                f"{self.fps:g} frames/s for {self.seconds:g} s is less than one latent frame "
                f"({PIXEL_FRAMES_PER_LATENT} frames)"
            )

    @property
    def t(self) -> int:
        """Latent frames: round(fps x seconds / 4), half to even, from the numbers as written."""
        if self.fps is None or self.seconds is None:
            return 1
        return latent_frames(self.fps, self.seconds)

    @property
    def is_video(self) -> bool:
        """Whether it states a frame rate and a duration."""
        return self.fps is not None

    @property
    def text(self) -> str:
        """The meta text."""
        size = f"{self.h}*{self.w}"
        return size if self.fps is None else f"{size} {self.fps:g}fps {self.seconds:g}s"


def latent_frames(fps: float, seconds: float) -> int:
    """Latent frames that a header with these numbers states, from the numbers as `:g` writes them."""
    return round(float(f"{fps:g}") * float(f"{seconds:g}") / PIXEL_FRAMES_PER_LATENT)


@lru_cache(maxsize=4096)  # a run has few distinct headers and many documents
def read_header(text: str) -> Header | None:
    """The header written as `text`, or None if there is none."""
    match = re.fullmatch(r"([0-9]{1,4})\*([0-9]{1,4})(?: ([0-9.]+)fps ([0-9.]+)s)?", text)
    if match is None:
        return None
    h, w, fps, seconds = match.groups()
    if not (_is_side(h) and _is_side(w)):
        return None
    if fps is None:
        return Header(int(h), int(w))
    if not (_is_number(fps) and _is_number(seconds) and latent_frames(float(fps), float(seconds)) >= 1):
        return None
    return Header(int(h), int(w), float(fps), float(seconds))


@lru_cache(maxsize=4096)
def is_header_prefix(text: str) -> bool:
    """Whether `text` can be continued to a header."""
    numbers: list[str] = []
    for unit in _UNITS:
        number = re.match(r"[0-9.]*", text)[0]  # type: ignore[index]  # it matches the empty string too
        text = text[len(number) :]
        complete, beginning = (_is_side, _is_side_prefix) if len(numbers) < 2 else (_is_number, _is_number_prefix)
        numbers.append(number)
        if not (complete(number) if text else beginning(number)):
            return False
        if len(numbers) == 4:
            longest = float(number if text else _largest_with_prefix(number))
            if latent_frames(float(numbers[2]), longest) < 1:
                return False
        if len(text) < len(unit):
            return unit.startswith(text)
        if not text.startswith(unit):
            return False
        text = text[len(unit) :]
    return not text


def _is_side(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,3}", text) is not None


def _is_side_prefix(text: str) -> bool:
    return not text or _is_side(text)


def _is_number(text: str) -> bool:
    """Whether `:g` writes some positive number like this, without an exponent."""
    return _is_number_prefix(text) and text[-1:] not in ("", ".") and f"{float(text):g}" == text and float(text) > 0


def _is_number_prefix(text: str) -> bool:
    """Whether digits can be appended until `_is_number`."""
    if not text:
        return True
    if re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]*)?", text) is None:
        return False
    significant = text.replace(".", "").lstrip("0")
    if "." not in text:
        return len(significant) <= _DIGITS
    if not significant:
        return len(text) <= len("0.000")
    room = _DIGITS - len(significant)
    return room > 0 or (room == 0 and text[-1] not in "0.")


def _largest_with_prefix(text: str) -> str:
    """The largest number that begins with `text`, which is a prefix of one."""
    significant = text.replace(".", "").lstrip("0")
    point = "." if text == "0" else ""
    return text + point + "9" * (_DIGITS - len(significant))


def seconds_of(latents: int, fps: float) -> float:
    """The duration in seconds to state for `latents` latent frames.

    Raises DataError where `:g`'s six digits cannot state it exactly enough (beyond 100,000 latent frames or so).
    """
    seconds = latents * PIXEL_FRAMES_PER_LATENT / fps
    if not math.isfinite(seconds) or latent_frames(fps, seconds) != latents:
        raise DataError(f"{latents} latent frames at {fps:g} frames/s cannot be stated in a header")
    return float(f"{seconds:g}")
