"""What was drawn since the server began: PNG files in a folder, the newest kept."""

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
    """The last `keep` pictures in `folder`/DATE-TIME-PROCESS, which the first one makes; older ones are deleted."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}", keep
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._count = 0

    def add(self, picture: bytes, settings: Mapping[str, Any]) -> str | None:
        """Keep a picture; returns its name, or None where none are kept."""
        if not self.keep:
            return None
        with self._lock:
            self._count += 1
            name = f"{self._count:06d}.png"
            write_atomically(self.folder / name, lambda temporary: _write(temporary, picture))
            self._entries[name] = {"name": name, **settings}
            while len(self._entries) > self.keep:
                oldest, _ = self._entries.popitem(last=False)
                (self.folder / oldest).unlink(missing_ok=True)
        return name

    def entries(self) -> list[dict[str, Any]]:
        """The settings of each, with `name`, the newest first."""
        with self._lock:
            return list(reversed(self._entries.values()))

    def path(self, name: str) -> Path | None:
        """The file of that name, where the gallery has one."""
        with self._lock:
            return self.folder / name if name in self._entries else None


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
