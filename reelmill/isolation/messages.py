"""What a child may say: each kind of message, its fields and arrays, their bounds, and how often a job may send it.

A job of one's own that has more to say adds its kinds here, or gives `Child.run` its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reelmill.isolation.untrusted import Field, Flag, Integer, Maybe, Number, Text
from reelmill.media.details import SQUARES

MAX_SIDE = 1 << 16
MAX_SECONDS = 1e7
MAX_TICKS = 1_000_000
MAX_SAMPLES = 100_000
MAX_CLIPS = 1_000_000


@dataclass(frozen=True)
class ArraySpec:
    """An array of a message. A named side is the same wherever the message names it; float64 values are finite."""

    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of message. `most`: how many of them a job may send."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    arrays: Mapping[str, ArraySpec] = field(default_factory=dict)
    most: int = 1


Kinds = Mapping[str, Kind]

_SIZE: Mapping[str, Field] = {"width": Integer(0, MAX_SIDE), "height": Integer(0, MAX_SIDE), "fps": Number(0.0, 1e6)}
_SECONDS = Number(0.0, MAX_SECONDS)
_COUNT = Integer(0, (1 << 31) - 1)
_NAME = Text(64, r"[\w.+-]+")
_FRAMES = ArraySpec("uint8", ("N", "H", "W", 3))

ALWAYS: Kinds = {
    "tick": Kind({"at_s": Maybe(_SECONDS), "of_s": Maybe(_SECONDS)}, most=MAX_TICKS),
    "end": Kind(),
    "refused": Kind({"reason_class": Text(10, "item|machine"), "reason": Text(1000)}),
}
"""Heartbeats, which may say how far in the item the job is, and how it ends."""

SAMPLES: Kinds = {
    "sample": Kind(
        {
            **{"start_s": _SECONDS, "end_s": _SECONDS, **_SIZE, "kind": Maybe(Text(5, "video|image"))},
            **dict.fromkeys(("damaged_frames", "missing_frames"), Maybe(_COUNT)),
            **dict.fromkeys(("impossible_colours", "frozen_share"), Maybe(Number(0.0, 1.0))),
            **dict.fromkeys(("trim_start_s", "trim_end_s"), Maybe(_SECONDS)),
            "scene": Maybe(_COUNT),
        },
        {
            "images": _FRAMES,
            "times": ArraySpec("float64", ("N",)),
            "runs": ArraySpec("uint8", ("M", 3, "h", "w")),
            "details": ArraySpec("uint8", ("N", SQUARES, "side", "side")),
        },
        MAX_SAMPLES,
    ),
    "keyframes": Kind(
        {},
        {
            **dict.fromkeys(
                ("times", "scene_starts", "scene_ends", "sharpness", "luma", "difference"), ArraySpec("float64", ("K",))
            ),
            "problems": ArraySpec("uint8", ("K",)),
        },
        MAX_SAMPLES,
    ),
    "picture": Kind({"time_s": _SECONDS}, {"frames": ArraySpec("uint8", (1, "H", "W", 3))}, MAX_CLIPS),
    "words": Kind(
        {
            **dict.fromkeys(("first", "last"), _COUNT),
            "is_part": Flag(),
            "encoding": _NAME,
            "encoding_from": Text(8, "bom|utf-8|declared|guessed|mixed"),
            **dict.fromkeys(
                ("repaired", *(f"masked_{kind}s" for kind in ("mail", "phone", "ip", "key"))), Maybe(_COUNT)
            ),
        },
        {"text": ArraySpec("uint8", ("N",))},
        MAX_SAMPLES,
    ),
    "item": Kind(
        {
            **_SIZE,
            "duration_s": _SECONDS,
            "codec": _NAME,
            "sha256": Text(64, "[0-9a-f]{64}"),
            **dict.fromkeys(("frames", "stream", "video_streams", "bit_depth", "clock_steps", "errors"), Maybe(_COUNT)),
            **dict.fromkeys(("transfer", "colour_range"), Maybe(_NAME)),
            "primaries": Maybe(Text(80, "[ -~]+")),
            "interlaced": Maybe(Flag()),
            "steadiness": Maybe(Number(0.0, 1.0)),
            **dict.fromkeys(("stated_licence", "copyright"), Maybe(Text(500, repair=True))),
            "c2pa": Maybe(Flag()),
            "damage": Maybe(Text(300, "[ -~]+")),
        }
    ),
}
"""What expanders say (`curation/expanders`)."""

CLIPS: Kinds = {
    "clip": Kind({"key": Text(200)}, {"frames": _FRAMES}, MAX_CLIPS),
    "text": Kind({"key": Text(200)}, {"text": ArraySpec("uint8", ("N",))}, MAX_CLIPS),
}
"""What is decoded again for tokens, captions and pages: frames of spans, or the UTF-8 bytes of a text."""

REMUXED: Kinds = {
    "remuxed": Kind(
        {"key": Text(200), "suffix": Text(3, "mp4|mkv"), "start_s": _SECONDS, "end_s": _SECONDS},
        {"bytes": ArraySpec("uint8", ("N",))},
        MAX_CLIPS,
    ),
    "not_remuxed": Kind({"key": Text(200), "problem": Text(300)}, most=MAX_CLIPS),
}
"""Clips cut out of a file (`reelmill/media/remux.py`): a new file's bytes and the span in it, or why there are none."""

FRAMES: Kinds = {"frames": Kind({}, {"frames": _FRAMES}, MAX_CLIPS)}
FACTS: Kinds = {"facts": Kind({"fps": Number(0.0, 1e6), "seconds": _SECONDS})}
"""What is asked of whole files (`reelmill/media/jobs.py`)."""
SOUND: Kinds = {
    "track": Kind(
        {
            "tracks": _COUNT,
            "stream": _COUNT,
            "codec": _NAME,
            "rate": Integer(0, 1 << 24),
            "channels": Integer(0, 1 << 16),
            "language": Maybe(Text(16, "[A-Za-z]+")),
        }
    ),
    "sound": Kind({}, {"samples": ArraySpec("int16", ("N",))}, MAX_CLIPS),
}
"""A file's tracks and the samples of one of them (`reelmill/media/audio.py`)."""
CUES: Kinds = {
    "language": Kind({"language": Maybe(Text(16, "[A-Za-z]+"))}),
    "cue": Kind({"start_s": _SECONDS, "end_s": _SECONDS, "text": Text(2000, repair=True)}, most=100_000),
}
"""Subtitles of a file (`reelmill/media/cues.py`)."""
PICTURE: Kinds = {"picture": Kind({}, {"frames": ArraySpec("uint8", (1, "H", "W", 3))})}
FLOOR: Kinds = {"floor": Kind({"cpu_s": _SECONDS, "media_s": _SECONDS})}
