"""Pictures of clients: data URIs, decoded in the untrusted child."""

from __future__ import annotations

import base64
import re
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path

from reelmill.isolation.messages import PICTURE
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.limits import Limits
from reelmill.media.reader import PICTURE_JOB
from reelmill.media.source import Source
from reelmill.pipelines.web.errors import HttpError
from reelmill.tokenize.vision import Frames
from reelmill.tokenize.vision.evaluate import fit

_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,20};base64,([A-Za-z0-9+/]*={0,2})", re.ASCII)


MAX_BYTES = 16 << 20
MAX_DECODED_MB = 256
"""MiB of a picture after decoding: 64 megapixels."""
MAX_SIDE = 4096
"""Pictures with longer sides are reduced while they are read."""


def bytes_of(uri: str, field: str) -> bytes:
    """The bytes of a data URI. Raises HttpError for any other address: nothing is fetched."""
    if not uri.startswith("data:"):
        raise HttpError(400, f"{field} begins {uri[:40]!r}; give pictures as data:image/png;base64,...", param=field)
    found = _DATA_URI.fullmatch(uri)
    if found is None:
        raise HttpError(400, f"{field} is no data:image/...;base64,... address", param=field)
    if len(found[1]) > MAX_BYTES * 4 // 3 + 4:
        raise HttpError(413, f"{field} is over {MAX_BYTES:,} bytes; send a smaller picture", param=field)
    try:
        return base64.b64decode(found[1])
    except ValueError as error:
        raise HttpError(400, f"{field} is no base64: {error}", param=field) from None


class UploadDecoder:
    """Decodes pictures of clients in a process of its own (`reelmill/isolation`), one at a time. `close` it."""

    def __init__(self) -> None:
        limits = Limits(max_image_bytes=MAX_BYTES, max_picture_mb=MAX_DECODED_MB)
        self._options = {**asdict(limits), "short_side": MAX_SIDE, "long_side": MAX_SIDE}
        self._child = Child(IsolationConfig(stall_s=10.0, item_s=10.0, memory_mb=2048))
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._child.close()

    def picture(self, data: bytes, area: int, multiple: int, field: str) -> Frames:
        """[H, W, 3] of about `area` pixels, sides multiples of `multiple`; HttpError if it cannot be read."""
        with tempfile.TemporaryDirectory(prefix="reelmill-upload-") as folder:
            path = Path(folder) / "picture"
            path.write_bytes(data)
            source = Source(str(path), 0, len(data))
            try:
                with self._lock:
                    ((_, arrays),) = self._child.run(PICTURE_JOB, source, self._options, PICTURE)
            except ItemFailed as failed:
                raise HttpError(400, f"{field} cannot be read: {failed}", param=field) from None
        picture: Frames = fit(arrays["frames"], area, multiple)[0]
        return picture
