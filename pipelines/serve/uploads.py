"""Pictures and clips of clients: data URIs, decoded in the untrusted child."""

from __future__ import annotations

import base64
import re
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reelmill.isolation.messages import FRAMES, PICTURE
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.limits import Limits
from reelmill.media.reader import FRAMES_JOB, PICTURE_JOB
from reelmill.media.source import Source
from reelmill.pipelines.web.errors import HttpError
from reelmill.tokenize.vision import Frames
from reelmill.tokenize.vision.evaluate import fit

_DATA_URI = re.compile(r"data:(image|video)/[a-z0-9.+-]{1,20};base64,([A-Za-z0-9+/]*={0,2})", re.ASCII)
_EXAMPLES = {"image": "png", "video": "mp4"}

MAX_BYTES = 16 << 20
MAX_DECODED_MB = 256
"""MiB of a picture after decoding: 64 megapixels."""
MAX_SIDE = 4096
"""Pictures with longer sides are reduced while they are read."""
MAX_CLIP_SIDE = 1024
"""The shorter side of a clip's frames, likewise."""
MAX_CLIP_S = 60.0
"""Longer clips are refused."""


def bytes_of(uri: str, field: str, kind: str = "image") -> bytes:
    """The bytes of a data URI of an `image` or a `video`. Raises HttpError for any other address: nothing is
    fetched."""
    things = {"image": "pictures", "video": "clips"}[kind]
    if not uri.startswith("data:"):
        example = f"data:{kind}/{_EXAMPLES[kind]};base64,..."
        raise HttpError(400, f"{field} begins {uri[:40]!r}; give {things} as {example}", param=field)
    found = _DATA_URI.fullmatch(uri)
    if found is None or found[1] != kind:
        raise HttpError(400, f"{field} is no data:{kind}/...;base64,... address", param=field)
    if len(found[2]) > MAX_BYTES * 4 // 3 + 4:
        raise HttpError(413, f"{field} is over {MAX_BYTES:,} bytes; send a smaller file", param=field)
    try:
        return base64.b64decode(found[2])
    except ValueError as error:
        raise HttpError(400, f"{field} is no base64: {error}", param=field) from None


class UploadDecoder:
    """Decodes what clients send in a process of its own (`reelmill/isolation`), one file at a time. `close` it."""

    def __init__(self) -> None:
        limits = Limits(max_image_bytes=MAX_BYTES, max_picture_mb=MAX_DECODED_MB)
        self._options = asdict(limits)
        self._child = Child(IsolationConfig(stall_s=10.0, item_s=30.0, memory_mb=2048))
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._child.close()

    def picture(self, data: bytes, area: int, multiple: int, field: str) -> Frames:
        """[H, W, 3] of about `area` pixels, sides multiples of `multiple`; HttpError if it cannot be read."""
        options = {**self._options, "short_side": MAX_SIDE, "long_side": MAX_SIDE}
        with self._opened(data, field) as source:
            ((_, arrays),) = self._child.run(PICTURE_JOB, source, options, PICTURE)
        picture: Frames = fit(arrays["frames"], area, multiple)[0]
        return picture

    def clip(self, data: bytes, area: int, multiple: int, fps: float, seconds: float, field: str) -> Frames:
        """[T, H, W, 3] likewise: the last `seconds` of a clip at `fps`, or all of a shorter one."""
        most = round(MAX_CLIP_S * fps)
        options = {**self._options, "start_s": 0.0, "most": most + 1, "fps": fps, "short_side": MAX_CLIP_SIDE}
        last: deque[Frames] = deque(maxlen=max(1, round(seconds * fps)))
        count = 0
        with self._opened(data, field) as source:
            for _, arrays in self._child.run(FRAMES_JOB, source, options, FRAMES):
                for frame in arrays["frames"]:
                    last.append(fit(frame[None], area, multiple)[0])
                    count += 1
        if not last or count > most:
            wrong = f"is longer than {MAX_CLIP_S:g} s; send a shorter clip" if last else "holds no picture"
            raise HttpError(400, f"{field} {wrong}", param=field)
        return np.stack(last)

    @contextmanager
    def _opened(self, data: bytes, field: str) -> Iterator[Source]:
        """The bytes as a file for the child, which is this caller's meanwhile; HttpError where it refuses them."""
        with tempfile.TemporaryDirectory(prefix="reelmill-upload-") as folder:
            path = Path(folder) / "upload"
            path.write_bytes(data)
            try:
                with self._lock:
                    yield Source(str(path), 0, len(data))
            except ItemFailed as failed:
                raise HttpError(400, f"{field} cannot be read: {failed}", param=field) from None
