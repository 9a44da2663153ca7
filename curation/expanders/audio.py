"""A file with sound alone becomes one sample without frames; its transcript becomes a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.audio import RATE, sound
from reelmill.media.details import no_details
from reelmill.media.source import Source


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The one sample of a recording. Raises Refused for one without sound."""
    codec, count = "", 0
    for body, arrays in sound(source, options):
        if body["type"] == "track":
            codec = body["codec"] if body["tracks"] else ""
        count += len(arrays.get("samples", ()))
        yield {"type": "tick"}, {}
    if not count:
        raise Refused("no_sound: the file has no sound that can be decoded" if codec else "no_sound: no track of sound")
    none: dict[str, wire.Array] = {
        "images": np.zeros((0, 1, 1, 3), np.uint8),
        "times": np.zeros(0, np.float64),
        "runs": np.zeros((0, 3, 1, 1), np.uint8),
        "details": no_details(),
    }
    facts = {"width": 0, "height": 0, "fps": 0.0}
    yield {"type": "sample", "start_s": 0.0, "end_s": count / RATE, **facts}, none
    yield {"type": "item", **facts, "duration_s": count / RATE, "codec": codec, "sha256": source.sha256()}, {}
