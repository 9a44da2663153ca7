"""Pictures and videos in answers: PNG and MP4 with the settings inside, and data URIs."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from reelmill.eval.generation import Clip
from reelmill.eval.generation.media_files import write_clip
from reelmill.tokenize.vision import Frames


def png(picture: Frames, settings: Mapping[str, Any] | None = None) -> bytes:
    """[H, W, 3] uint8 as PNG, with `settings` inside in the way of `reelmill generate`."""
    info = PngInfo()
    if settings is not None:
        info.add_itxt("reelmill", json.dumps(dict(settings), ensure_ascii=False))
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", pnginfo=info)
    return stream.getvalue()


def mp4(clip: Clip, settings: Mapping[str, Any]) -> bytes:
    """A clip as H.264, with `settings` inside in the way of `reelmill generate`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-video-") as folder:
        path = Path(folder) / "video.mp4"
        write_clip(clip, path, settings)
        return path.read_bytes()


def data_uri(clip: Clip) -> str:
    """A picture as PNG, a video as animated WebP."""
    if clip.fps is None:
        return f"data:image/png;base64,{base64.b64encode(png(clip.frames[0])).decode()}"
    stream = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in clip.frames)
    first.save(stream, "WEBP", save_all=True, append_images=others, duration=round(1000 / clip.fps), loop=0)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
