"""What became of an address: bytes, or a reason why there are none."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from reelmill.errors import brief

Outcome = Literal["fetched", "unchanged", "refused", "failed"]
SPOOLED = 1024 * 1024
"""Bytes of a body that stay in memory; larger ones go to a file without a name."""


class NotFetched(Exception):
    """Why an address gave nothing: a keyword, a colon, the facts.

    `outcome`: `refused` where it must not or need not be had, `failed` where it could not. `wait_s`: another try may
    help after so long, None for as long as is usual; only where `is_transient`.
    """

    def __init__(
        self,
        reason: str,
        outcome: Outcome = "failed",
        *,
        is_transient: bool = False,
        wait_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(brief(reason, 500))
        self.outcome, self.is_transient, self.wait_s, self.status = outcome, is_transient, wait_s, status


def refused(reason: str) -> NotFetched:
    """Something that must not or need not be had."""
    return NotFetched(reason, "refused")


@dataclass(frozen=True)
class Wanted:
    """An address to fetch. `digest`: `sha256:HEX` or `md5:HEX` of its bytes as its table states it,
    `side` the shorter side in pixels likewise.

    `etag`, `last_modified`: what came with the bytes that are here, where it is asked whether there are others now.
    """

    url: str
    digest: str | None = None
    side: float | None = None
    etag: str | None = None
    last_modified: str | None = None


@dataclass
class Said:
    """What an answer's headers say, beside its bytes; NULL where they say nothing."""

    http_status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    robots_tag: str | None = None
    tdm_reservation: str | None = None
    licence: str | None = None


class Body:
    """Bytes as they come: counted, hashed, in memory as long as they are few. Close it.

    `digest`: the kind that is asked for beside SHA-256.
    """

    def __init__(self, folder: Path, most: int, digest: str = "sha256") -> None:
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOLED, dir=str(folder))  # noqa: SIM115  (see `close`)
        self.size = 0
        self.head = b""
        self._most = most
        self._digests = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", digest}}

    def add(self, data: bytes, head: int) -> None:
        """The next bytes; the first `head` of all stay at hand. NotFetched where there are too many."""
        self.size += len(data)
        if self.size > self._most:
            raise refused(f"too_large: more than {self._most} bytes")
        if len(self.head) < head:
            self.head += data[: head - len(self.head)]
        for digest in self._digests.values():
            digest.update(data)
        self.file.write(data)

    def digest(self, name: str = "sha256") -> str:
        """Hex digits of the digest of that name."""
        return self._digests[name].hexdigest()

    def close(self) -> None:
        """Let the bytes go."""
        self.file.close()


@dataclass
class Fetched:
    """What became of one address. `suffix`: what its bytes are, by their first ones; `body`: they, where they came."""

    outcome: Outcome
    reason: str | None = None
    suffix: str | None = None
    body: Body | None = None
    said: Said = field(default_factory=Said)
    seconds: float = 0.0
    attempts: int = 0
