"""An image becomes one sample: upright, RGB, its header checked before its pixels are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reelmill.curation.decode import fit
from reelmill.curation.expanders.video import sha256
from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.source import Source

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The one sample of an image."""
    image = open_image(source, options)
    width, height = image.size
    small = image.resize(fit(width, height, options["short_side"], options["long_side"]), Image.Resampling.BILINEAR)
    arrays: dict[str, wire.Array] = {
        "images": np.asarray(small)[None],
        "times": np.zeros(1, np.float64),
        "runs": np.zeros((0, 3, 1, 1), np.uint8),
    }
    facts = {"width": width, "height": height, "fps": 0.0}
    yield {"type": "sample", "start_s": 0.0, "end_s": 0.0, **facts}, arrays
    yield {"type": "item", **facts, "duration_s": 0.0, "codec": image.info["codec"], "sha256": sha256(source)}, {}


def open_image(source: Source, options: dict[str, Any]) -> Image.Image:
    """Decode an image to upright RGB (EXIF turned, transparency over white). Raises Refused."""
    if source.size > options["max_image_bytes"]:
        raise Refused(f"too_large: {source.size} bytes, allowed {options['max_image_bytes']}")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = options["max_pixels"]
    try:
        with source.open() as stream, Image.open(stream, formats=FORMATS) as opened:
            codec = (opened.format or "").lower()
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused(f"too_many_pixels: {error}") from None
    except UnidentifiedImageError:
        raise Refused(f"not_an_image: none of {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise Refused(f"corrupt: {' '.join(str(error).split())[:200]}") from None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    image = image.convert("RGB")
    image.info["codec"] = codec
    return image
