"""Members of archives as open files: the child unpacks, this side keeps one member at a time in a file without a name.

An archive is read forward as long as members are asked for in its order, by one job that waits in between. So whoever
goes through the items of a unit, or of every other unit, decompresses each archive once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import IO

from reelmill.archives.messages import MESSAGE_BYTES, UNPACKED
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.isolation.wire import Message
from reelmill.media.source import Packed, Source, UnpackedSource

JOB = "reelmill.archives.jobs:unpack"


class Unpacker:
    """Unpacks members of archives, in a child of its own. Not thread safe; `close` it."""

    def __init__(self, config: IsolationConfig) -> None:
        self._child = Child(replace(config, item_s=inf))  # the job lives as long as its archive is gone through
        self._archive = ""
        self._messages: Generator[Message] | None = None
        self._next = 0
        self._last: UnpackedSource | None = None
        self._last_of: Packed | None = None

    def close(self) -> None:
        """End the job and its process."""
        self._end()
        self._last = self._last_of = None
        self._child.close()

    def take_cpu_s(self) -> float:
        """CPU seconds of the jobs that have ended since the last call."""
        taken, self._child.cpu_s = self._child.cpu_s, 0.0
        return taken

    def unpacked(self, place: Packed) -> UnpackedSource:
        """The member's bytes; the last member stays at hand.

        Raises ItemFailed: of class item where the archive is broken there, of class machine where it is gone, or holds
        another member under this number than the plan knows.
        """
        if self._last is None or place != self._last_of:
            self._last = self._last_of = None
            self._last, self._last_of = self._read(place), place
        return self._last

    def _read(self, place: Packed) -> UnpackedSource:
        if self._messages is None or self._archive != place.path or place.member < self._next:
            self._begin(place)
        # the file outlives this function, and goes with the last that refers to it
        file: IO[bytes] = tempfile.TemporaryFile(prefix="reelmill-member-")  # noqa: SIM115
        size = 0
        while (message := self._next_message()) is not None:
            body, arrays = message
            self._next = body["number"] + 1
            if body["number"] > place.member:
                break
            if body["number"] < place.member:
                continue
            if body["type"] == "bytes":
                size += arrays["data"].nbytes
                if size <= place.size:
                    file.write(arrays["data"].data)
                continue
            if body["problem"]:
                raise ItemFailed("item", body["problem"])
            if size != place.size:
                found = f"{size} bytes in {place.path}, where the plan has {place.size}"
                raise ItemFailed("machine", f"unreadable: it has {found}")
            file.flush()
            return UnpackedSource(place.path, 0, size, unpacked=file)
        self._end()
        raise ItemFailed("machine", f"unreadable: {place.path} has no member number {place.member} any more")

    def _next_message(self) -> Message | None:
        """What the job says next; None when it is done. After a failure nothing goes on."""
        assert self._messages is not None
        try:
            return next(self._messages, None)
        except ItemFailed:
            self._messages = None
            raise

    def _begin(self, place: Packed) -> None:
        self._end()
        try:
            archive = Source(place.path, 0, Path(place.path).stat().st_size)
        except OSError as error:
            raise ItemFailed("machine", f"unreadable: {place.path}: {error.strerror}") from None
        self._archive, self._next = place.path, place.member
        self._messages = self._child.run(JOB, archive, {"first": place.member}, UNPACKED, MESSAGE_BYTES)

    def _end(self) -> None:
        if self._messages is not None:
            self._messages.close()
        self._messages = None
