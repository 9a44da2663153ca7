"""Streams: which of a container's is the video."""

from __future__ import annotations

from typing import Any

from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from reelmill.errors import Refused

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
SHORT = 0.5
"""A stream shorter than this share of the longest is a thumbnail or a preview."""


def choose(container: InputContainer) -> tuple[VideoStream, int]:
    """(the video stream that is read, number of video streams); all others are told to be left unread.

    Attached pictures and thumbnails are no video. Of the streams that last, one that the file marks as its default
    comes first, then the largest, the longest, the first. Raises Refused.
    """
    streams = container.streams.video
    if not streams:
        raise Refused("no_video: the file has no video stream")
    moving = [stream for stream in streams if not stream.disposition & _PICTURES]
    if not moving:
        raise Refused("no_video: the only picture is a cover or a thumbnail")
    known = [stream for stream in moving if stream.codec_context is not None]
    if not known:
        raise Refused("no_decoder: the video is in a format that FFmpeg does not decode")
    longest = max(duration_s(stream) or 0.0 for stream in known)
    lasting = [stream for stream in known if (seconds := duration_s(stream)) is None or seconds >= SHORT * longest]
    chosen = max(lasting, key=_rank)
    for stream in container.streams:
        if stream.index != chosen.index and stream.type != "audio":
            stream.discard = Discard.all
    return chosen, len(moving)


def duration_s(stream: VideoStream) -> float | None:
    """Seconds that a stream lasts by its tag (in Matroska the header says the file's), else by its header."""
    tagged = _tagged_s(stream.metadata.get("DURATION", ""))
    if tagged is None and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return tagged


def _tagged_s(tag: str) -> float | None:
    """Seconds of a text such as 00:00:02.500000000."""
    try:
        hours, minutes, seconds = (float(part) for part in tag.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _rank(stream: VideoStream) -> tuple[Any, ...]:
    is_default = bool(stream.disposition & Disposition.default)
    context = stream.codec_context
    return (is_default, context.width * context.height, duration_s(stream) or 0.0, -stream.index)
