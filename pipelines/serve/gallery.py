"""What the server has generated since it started: PNG and MP4 files in a folder, the newest kept."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelmill.files import write_atomically


class Gallery:
    """The last `size` pictures and videos, in `folder`/DATE-TIME-PROCESS, which the first one creates. Older ones are
    deleted."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}", size
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._count = 0

    def add(self, picture: bytes, settings: Mapping[str, Any], ending: str = ".png") -> str | None:
        """Add a picture or video; returns its name, or None if the gallery keeps none."""
        if not self.size:
            return None
        with self._lock:
            self._count += 1
            name = f"{self._count:06d}{ending}"
            write_atomically(self.folder / name, lambda temporary: _write(temporary, picture))
            self._entries[name] = {"name": name, **settings}
            while len(self._entries) > self.size:
                oldest, _ = self._entries.popitem(last=False)
                (self.folder / oldest).unlink(missing_ok=True)
        return name

    def entries(self) -> list[dict[str, Any]]:
        """The settings and `name` of each picture, the newest first."""
        with self._lock:
            return list(reversed(self._entries.values()))

    def path(self, name: str) -> Path | None:
        """The file of a picture, or None if the gallery does not have it."""
        with self._lock:
            return self.folder / name if name in self._entries else None


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
