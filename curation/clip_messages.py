"""Clips that a child is asked for, and what comes back: each of them once, at the size that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from reelmill.isolation.messages import CLIPS
from reelmill.isolation.parent import Child, ItemFailed
from reelmill.isolation.untrusted import MAX_JSON_BYTES
from reelmill.isolation.wire import Message
from reelmill.media.source import Place

Clip = dict[str, Any]
Frames = npt.NDArray[np.uint8]
Decoded = tuple[Clip, Any]
"""A clip with its frames, uint8 [T, H, W, 3], or the words of a text."""
T = TypeVar("T")


def decode_clips(
    child: Child,
    job: str,
    source: Place,
    options: Mapping[str, Any],
    clips: Sequence[Clip],
    take: Callable[[Iterator[Decoded]], T],
) -> T:
    """What `take` makes of the clips (`curation/clips.py`) of one item, in the order in which they come.

    `options` are those of decoding. A failure of the machine is tried once more, from the beginning. Raises ItemFailed,
    and what `take` raises.
    """
    most = max(math.prod(_shape(clip)) if "width" in clip else int(options["max_text_bytes"]) for clip in clips)
    return child.run_all(
        job,
        source,
        {**options, "clips": clips},
        CLIPS,
        lambda messages: take(asked_clips(messages, clips)),
        most_bytes=most + MAX_JSON_BYTES,
    )


def asked_clips(messages: Iterable[Message], clips: Sequence[Clip]) -> Iterator[Decoded]:
    """Each of `clips` with what was decoded of it.

    Raises ItemFailed for a clip that was not asked for, comes twice, has another size or is missing.
    """
    waiting = {clip["key"]: clip for clip in clips}
    for body, arrays in messages:
        clip = waiting.pop(body["key"], None)
        if clip is None:
            raise ItemFailed("item", "decoder_nonsense: a clip that was not asked for, or that came already")
        yield clip, _frames(arrays["frames"], clip) if body["type"] == "clip" else _words(arrays["text"], clip)
    if waiting:
        raise ItemFailed("item", f"decoder_nonsense: {len(waiting)} of {len(clips)} clips did not come")


def _shape(clip: Clip) -> tuple[int, ...]:
    return clip.get("frames", 1), clip["height"], clip["width"], 3


def _frames(frames: Frames, clip: Clip) -> Frames:
    if "width" not in clip or frames.shape != _shape(clip):
        raise ItemFailed("item", f"decoder_nonsense: frames of {frames.shape} for the clip {clip}")
    return frames


def _words(data: npt.NDArray[np.uint8], clip: Clip) -> str:
    if "width" in clip:
        raise ItemFailed("item", "decoder_nonsense: words in place of frames")
    try:
        return data.tobytes().decode()
    except UnicodeDecodeError as error:
        raise ItemFailed("item", f"decoder_nonsense: words that are not UTF-8: {error}") from None
