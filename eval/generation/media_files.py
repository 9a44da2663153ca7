"""Pictures and clips: read as input for a model, and written with the settings that they were generated with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.errors import DataError
from reelmill.eval.generation.studio import Clip
from reelmill.files import write_atomically
from reelmill.tokenize.vision import Frames
from reelmill.tokenize.vision.evaluate import fit
from reelmill.train.vision.media import MediaFile, frames_at, media_file, read_picture

LARGEST_SIDE = 1 << 14


def read_media(path: Path, area: int, multiple: int, fps: float, seconds: float) -> Clip:
    """Read a picture, or the last `seconds` of a video at `fps`, all of a shorter one: its first bytes say which.

    Raises DataError for what cannot be read.
    """
    if not media_file(path).is_video:
        return read_image(path, area, multiple)
    return Clip(np.stack(_last_frames(path, area, multiple, fps, seconds)), fps)


def read_image(path: Path, area: int, multiple: int) -> Clip:
    """Read a picture at about `area` pixels, its sides multiples of `multiple`; DataError if it cannot be read."""
    return Clip(fit(read_picture(MediaFile(path), LARGEST_SIDE), area, multiple))


def read_clip(path: Path, area: int, multiple: int, fps: float, seconds: float) -> Clip:
    """Read the last `seconds` of a video at `fps`, frames of about `area` pixels; DataError if it is shorter."""
    frames = _last_frames(path, area, multiple, fps, seconds)
    if len(frames) < _count(seconds, fps):
        raise DataError(
            f"{path} has {len(frames) / fps:g} s at {fps:g} frames/s, less than the {seconds:g} s requested"
        )
    return Clip(np.stack(frames), fps)


def _last_frames(path: Path, area: int, multiple: int, fps: float, seconds: float) -> list[Frames]:
    frames: list[Frames] = []
    for frame in frames_at(MediaFile(path), fps, LARGEST_SIDE):
        frames.append(fit(frame[None], area, multiple)[0])
        del frames[: -_count(seconds, fps)]
    if not frames:
        raise DataError(f"{path} has no frames")
    return frames


def _count(seconds: float, fps: float) -> int:
    return max(1, round(seconds * fps))


def write_clip(clip: Clip, path: Path, settings: Mapping[str, Any]) -> None:
    """Write a PNG if the clip is one picture, else an MP4. `settings` go into the file as JSON: a PNG text chunk named
    `reelmill`, or the comment of an MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(settings), ensure_ascii=False)
    if clip.fps is None:
        write_atomically(path, lambda temporary: _write_png(clip.frames[0], temporary, text))
    else:
        write_mp4(clip.frames, clip.fps, path, text)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that `write_clip` put into a file; empty if there are none."""
    if path.suffix.lower() == ".png":
        from PIL import Image

        with Image.open(path) as image:
            text = image.info.get("reelmill", "{}")
    else:
        import av

        with av.open(str(path), format="mp4") as container:
            text = container.metadata.get("comment", "{}")
    settings: dict[str, Any] = json.loads(text)
    return settings


def write_mp4(frames: Frames, fps: float, path: Path, comment: str = "") -> None:
    """Write [T, H, W, 3] RGB as H.264, cropped to even sides for 4:2:0. `comment` goes into the container."""
    write_atomically(path, lambda temporary: _write_mp4(frames, fps, temporary, comment))


def _write_png(image: Frames, path: Path, settings: str) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("reelmill", settings)
    Image.fromarray(image).save(path, format="PNG", pnginfo=info)


def _write_mp4(frames: Frames, fps: float, path: Path, comment: str) -> None:
    import av

    height, width = (side - side % 2 for side in frames.shape[1:3])
    with av.open(str(path), "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]))))
        container.mux(stream.encode())
