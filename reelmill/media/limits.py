"""Bounds on one file of media; what is over them is refused before or while it is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from reelmill.errors import Refused

MIB = 1024**2


@dataclass
class Limits:
    """Bounds, under the names that `score.decode` of a recipe gives them."""

    max_bytes: int = 16 * 1024**3
    """Bytes of a video file."""
    max_image_bytes: int = 256 * MIB
    """Bytes of an image file."""
    max_picture_mb: int = 512
    """MiB that a decoded image may take, at 4 bytes a pixel: 134 megapixels."""
    max_frame_mb: int = 128
    """MiB that a decoded frame of a video may take, as it is stored: 8K in 10 bits takes 95."""
    max_pixels: int | None = None
    """Pixels of an image or a frame, where they are to be bounded too."""
    max_duration_s: float = 6 * 3600.0
    """Seconds of a video."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Limits:
        """The limits among a job's options; the defaults for those that are not there."""
        return cls(**{field.name: options[field.name] for field in fields(Limits) if field.name in options})

    def check_video_bytes(self, size: int) -> None:
        """Refused when a file is larger than a video may be."""
        if size > self.max_bytes:
            raise Refused(f"too_large: {size} bytes, allowed {self.max_bytes} (max_bytes)")

    def check_image_bytes(self, size: int) -> None:
        """Refused when a file is larger than an image may be."""
        if size > self.max_image_bytes:
            raise Refused(f"too_large: {size} bytes, allowed {self.max_image_bytes} (max_image_bytes)")

    def check_picture(self, width: int, height: int) -> None:
        """Refused when an image of this size takes too much memory."""
        self._check(width, height, 32, self.max_picture_mb, "max_picture_mb")

    def check_frame(self, width: int, height: int, bits: int) -> None:
        """Refused when a frame of this size, with `bits` a pixel, takes too much memory."""
        self._check(width, height, bits, self.max_frame_mb, "max_frame_mb")

    def check_duration(self, seconds: float, how: str) -> None:
        """Refused when a video is longer than it may be."""
        if seconds > self.max_duration_s:
            allowed = f"allowed {self.max_duration_s:.0f} s (max_duration_s)"
            raise Refused(f"too_long: {seconds:.0f} s {how}, {allowed}")

    def _check(self, width: int, height: int, bits: int, most_mb: int, option: str) -> None:
        if self.max_pixels is not None and width * height > self.max_pixels:
            raise Refused(f"too_many_pixels: {width}x{height}, allowed {self.max_pixels} pixels (max_pixels)")
        taken_mb = width * height * bits / 8 / MIB
        if taken_mb > most_mb:
            raise Refused(
                f"too_many_pixels: {width}x{height} take {taken_mb:.0f} MiB decoded, allowed {most_mb} MiB ({option})"
            )
