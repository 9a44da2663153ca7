"""Jobs for whole files in the untrusted child (`reader.py` asks for them): facts, a picture, frames of a video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.geometry import fit
from reelmill.media.limits import Limits
from reelmill.media.moving import Decoded, Moving, Picture, Renderer
from reelmill.media.opening import open_moving
from reelmill.media.pictures import open_picture
from reelmill.media.shown import Shown
from reelmill.media.source import Source

CHUNK_BYTES = 16 * 1024**2
TICK_FRAMES = 50


def video_facts(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """`fps` and `seconds` of a video as it declares them; no frame is decoded. `seconds` is 0 when it declares none."""
    video = open_moving(source, Limits.of(options))
    try:
        yield {"type": "facts", "fps": video.facts.fps, "seconds": video.declared_s or 0.0}, {}
    finally:
        video.close()


def picture(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """A picture, its sides at most `short_side` and `long_side`; `frames` is uint8 [1, H, W, 3]."""
    image, _ = open_picture(source, Limits.of(options), draft=2 * options["short_side"])
    size = fit(*image.size, options["short_side"], options["long_side"])
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    yield {"type": "picture"}, {"frames": np.asarray(image)[None]}


def frames(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """Frames of a video from `start_s` on: uint8 [N, H, W, 3] in `frames` of one or more messages.

    With `fps` the picture on the screen at each start_s + k / fps, else every frame; `most` of them, or those before
    the end, the shorter side at most `short_side`. Frames of one size: where it changes, every frame ends there, and
    with `fps` the file is refused.
    """
    video = open_moving(source, Limits.of(options))
    try:
        found = _at_rate(video, options["start_s"], options["fps"]) if options["fps"] else _all(video, options)
        yield from _chunks(found, options)
    finally:
        video.close()


def _at_rate(video: Moving, start_s: float, fps: float) -> Iterator[Decoded]:
    shown = Shown(video)
    first: Decoded | None = None
    for k in count():
        time_s = start_s + k / fps
        decoded = shown.at(time_s)
        if shown.is_over(time_s):
            return
        first = first or decoded
        if decoded.look != first.look:
            sizes = f"{first.look.width}x{first.look.height}, then {decoded.look.width}x{decoded.look.height}"
            raise Refused(f"size_changes: {sizes} from {decoded.time_s:.2f} s; cut the file there")
        yield decoded


def _all(video: Moving, options: dict[str, Any]) -> Iterator[Decoded]:
    start_s, end_s = options["start_s"], options["end_s"] or math.inf
    video.skip_to(start_s)
    first: Decoded | None = None
    for decoded in video.frames():
        if decoded.time_s < start_s - 1e-3:
            continue
        first = first or decoded
        if decoded.time_s >= end_s or decoded.look != first.look:
            return
        yield decoded


def _chunks(found: Iterator[Decoded], options: dict[str, Any]) -> Iterator[wire.Message]:
    renderer = Renderer()
    chunk: list[Picture] = []
    for number, decoded in enumerate(found, 1):
        size = fit(decoded.look.width, decoded.look.height, options["short_side"])
        chunk.append(renderer.upright(decoded, *size, "area"))
        if len(chunk) * chunk[0].nbytes > CHUNK_BYTES:
            yield {"type": "frames"}, {"frames": np.stack(chunk)}
            chunk = []
        elif number % TICK_FRAMES == 0:
            yield {"type": "tick"}, {}
        if number == options["most"]:
            break
    if chunk:
        yield {"type": "frames"}, {"frames": np.stack(chunk)}
