"""An image becomes one sample, upright and sRGB; an animation becomes one image, or a short video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from reelmill.curation.expanders import video
from reelmill.isolation import wire
from reelmill.media.details import details
from reelmill.media.geometry import fit
from reelmill.media.limits import Limits
from reelmill.media.pictures import is_animation, open_picture, opened
from reelmill.media.rights import image_rights
from reelmill.media.source import Source


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The one sample of an image; with `animations = "video"` the scenes of one that moves."""
    if options["animations"] == "video" and is_animation(source, Limits.of(options)):
        for body, frames in video.expand(source, options):
            yield {**body, "kind": "video"} if body["type"] == "sample" else body, frames
        return
    image, facts = open_picture(source, Limits.of(options))
    size = fit(*image.size, options["short_side"], options["long_side"])
    arrays: dict[str, wire.Array] = {
        "images": np.asarray(image.resize(size, Image.Resampling.BILINEAR))[None],
        "times": np.zeros(1, np.float64),
        "runs": np.zeros((0, 3, 1, 1), np.uint8),
        "details": details(np.asarray(image.convert("L")))[None],
    }
    span = {"start_s": 0.0, "end_s": 0.0, "width": facts.width, "height": facts.height, "fps": 0.0}
    yield {"type": "sample", **span, "damaged_frames": int(bool(facts.errors))}, arrays
    with opened(source, Limits.of(options)) as picture:
        rights = asdict(image_rights(picture.file, source))
    yield {"type": "item", **asdict(facts), **rights, "sha256": source.sha256()}, {}
