"""Pictures out, as PNG with their settings inside, and in, from bytes that nobody vouches for."""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from reelmill.eval.generation import Clip
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.limits import Limits
from reelmill.media.reader import PICTURE_JOB
from reelmill.media.source import Source
from reelmill.pipelines.web.errors import Refusal
from reelmill.tokenize.vision import Frames
from reelmill.tokenize.vision.evaluate import fit

LARGEST_BYTES = 16 << 20
LARGEST_MB = 256
"""MiB that a picture may take decoded: 64 megapixels."""
LONGEST_SIDE = 4096
"""Pictures with longer sides are shrunk while they are read."""
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,20};base64,([A-Za-z0-9+/]*={0,2})", re.ASCII)


def png(picture: Frames, settings: Mapping[str, Any] | None = None) -> bytes:
    """[H, W, 3] uint8 as PNG; `settings` lie in it as `reelmill generate` writes them."""
    info = PngInfo()
    if settings is not None:
        info.add_itxt("reelmill", json.dumps(dict(settings), ensure_ascii=False))
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", pnginfo=info)
    return stream.getvalue()


def data_uri(clip: Clip) -> str:
    """A picture as PNG, a video as a WebP that moves."""
    if clip.fps is None:
        return f"data:image/png;base64,{base64.b64encode(png(clip.frames[0])).decode()}"
    stream = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in clip.frames)
    first.save(stream, "WEBP", save_all=True, append_images=others, duration=round(1000 / clip.fps), loop=0)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def bytes_of(uri: str, field: str) -> bytes:
    """The bytes of a data URI. Raises Refusal for any other address: nothing is fetched."""
    if not uri.startswith("data:"):
        raise Refusal(400, f"{field} begins {uri[:40]!r}; pictures are given as data:image/png;base64,...", param=field)
    found = _DATA_URI.fullmatch(uri)
    if found is None:
        raise Refusal(400, f"{field} is no data:image/...;base64,... address", param=field)
    if len(found[1]) > LARGEST_BYTES * 4 // 3 + 4:
        raise Refusal(413, f"{field} is over {LARGEST_BYTES:,} bytes; send a smaller picture", param=field)
    try:
        return base64.b64decode(found[1])
    except ValueError as error:
        raise Refusal(400, f"{field} is no base64: {error}", param=field) from None


class Uploads:
    """Decodes pictures of clients in a process of its own (`reelmill/isolation/parent.py`), one at a time."""

    def __init__(self) -> None:
        limits = Limits(max_image_bytes=LARGEST_BYTES, max_picture_mb=LARGEST_MB)
        self._options = {**asdict(limits), "short_side": LONGEST_SIDE, "long_side": LONGEST_SIDE}
        self._child = Child(IsolationConfig(stall_s=10.0, item_s=10.0, memory_mb=2048), preload=(PICTURE_JOB,))
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._child.close()

    def picture(self, data: bytes, area: int, multiple: int, field: str) -> Frames:
        """[H, W, 3] of about `area` pixels, sides a multiple of `multiple`; Refusal where it cannot be read."""
        with tempfile.TemporaryDirectory(prefix="reelmill-upload-") as folder:
            path = Path(folder) / "picture"
            path.write_bytes(data)
            source = Source(str(path), 0, len(data))
            try:
                with self._lock:
                    ((_, arrays),) = self._child.run(PICTURE_JOB, source, self._options)
            except ItemFailed as failed:
                raise Refusal(400, f"{field} cannot be read: {failed}", param=field) from None
        picture: Frames = fit(arrays["frames"], area, multiple)[0]
        return picture
