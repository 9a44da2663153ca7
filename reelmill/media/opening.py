"""Opening what moves, by its first bytes: a video, or an animation."""

from __future__ import annotations

from reelmill.media.animation import Animation
from reelmill.media.containers import HEAD, is_video
from reelmill.media.limits import Limits
from reelmill.media.moving import Moving
from reelmill.media.source import Source
from reelmill.media.video import Video

_ANIMATIONS = ((0, b"GIF8"), (8, b"WEBP"), (0, b"\x89PNG\r\n\x1a\n"), (4, b"ftypavi"))


def open_moving(source: Source, limits: Limits) -> Moving:
    """An opened video or animation. Raises Refused."""
    with source.open() as stream:
        head = stream.read(HEAD)
    is_animation = any(head[at : at + len(magic)] == magic for at, magic in _ANIMATIONS)
    return Animation(source, limits) if is_animation and not is_video(head) else Video(source, limits)
