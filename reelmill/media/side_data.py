"""A decoded frame's side data, of kinds that PyAV does not know too."""

from __future__ import annotations

from typing import Any

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame


def _unknown(cls: type[Type], value: object) -> Any:
    """A name for a kind of side data that FFmpeg has and PyAV's list has not: without one it would raise for the whole
    frame (FFmpeg 8 gives the EXIF of Motion JPEG, and the view of stereo HEVC)."""
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


Type._missing_ = classmethod(_unknown)  # type: ignore[method-assign, assignment]


def display_matrix(frame: VideoFrame) -> bytes | None:
    """The frame's display matrix as nine native 32-bit integers; None where it has none."""
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    return None if matrix is None else bytes(matrix)
