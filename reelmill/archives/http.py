"""HTTP responses as WARC files hold them: status, headers, and the body with its encodings taken off, bounded."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import brotli

from reelmill.archives.compression import FREE_BYTES, MAX_RATIO
from reelmill.errors import Refused, brief

MAX_HEADER = 64 * 1024
_STATUS = re.compile(rb"HTTP/[\d.]{1,4}\s+(\d{3})")
_TYPE = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,60}")


@dataclass(frozen=True)
class Head:
    """A response's head. `size`: its bytes, with the blank line. Header names are in lower case, the first counts."""

    status: int
    headers: dict[str, str]
    size: int

    @property
    def type(self) -> str:
        """The type that is declared, without parameters; `(no type)` where there is none."""
        declared = _TYPE.match(self.headers.get("content-type", "").strip().lower())
        return declared.group() if declared else "(no type)"

    @property
    def charset(self) -> str | None:
        """The charset that is declared."""
        found = re.search(r"charset=[\"'\s]*([\w.:-]{2,40})", self.headers.get("content-type", ""), re.I)
        return found.group(1) if found else None

    @property
    def is_encoded(self) -> bool:
        """Whether the body is not the file as it is."""
        coded = (self.headers.get(f"{name}-encoding", "identity").strip().lower() for name in ("content", "transfer"))
        return any(code not in ("identity", "") for code in coded)


def head_of(data: bytes) -> Head | None:
    """The head of a response; None where `data` does not begin with a whole one."""
    status = _STATUS.match(data)
    ends = [(at, length) for mark, length in ((b"\r\n\r\n", 4), (b"\n\n", 2)) if (at := data.find(mark)) >= 0]
    if status is None or not ends:
        return None
    end, length = min(ends)
    headers: dict[str, str] = {}
    for line in data[:end].splitlines()[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    return Head(int(status.group(1)), headers, end + length)


def decoded(body: bytes, head: Head, most: int) -> bytes:
    """The body without its encodings, of at most `most` bytes.

    A body that is not as its header says is taken as it is: crawlers decode, and leave the header. Raises Refused for a
    bomb, and for one that is broken.
    """
    if head.headers.get("transfer-encoding", "").strip().lower() == "chunked":
        body = _unchunked(body)
    coding = head.headers.get("content-encoding", "").strip().lower()
    most = min(most, FREE_BYTES + MAX_RATIO * len(body))
    try:
        if coding in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
            return _inflated(body, zlib.MAX_WBITS | 16, most)
        if coding == "deflate" and body[:1] == b"\x78":
            return _inflated(body, zlib.MAX_WBITS, most)
        if coding == "br":
            return _bounded(brotli.Decompressor(), body, most)
    except (zlib.error, brotli.error) as error:
        raise Refused(f"corrupt: its {coding} coding: {brief(error)}") from None
    return body


def _inflated(body: bytes, bits: int, most: int) -> bytes:
    stream = zlib.decompressobj(bits)
    data = stream.decompress(body, most)
    if stream.unconsumed_tail:
        raise Refused(f"bomb: a body of {len(body)} bytes becomes more than {most}")
    if not stream.eof:
        raise Refused("truncated: its gzip coding ends too early")
    return data


def _bounded(stream: brotli.Decompressor, body: bytes, most: int) -> bytes:
    parts, size = [], 0
    for start in range(0, len(body), 1024):
        parts.append(stream.process(body[start : start + 1024]))
        size += len(parts[-1])
        if size > most:
            raise Refused(f"bomb: a body of {len(body)} bytes becomes more than {most}")
    return b"".join(parts)


def _unchunked(body: bytes) -> bytes:
    """RFC 9112, section 7.1; as it is where it is not chunked after all."""
    parts: list[bytes] = []
    at = 0
    while (line := re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]{0,200}\r?\n").match(body, at)) is not None:
        size, at = int(line.group(1), 16), line.end()
        if size == 0:
            return b"".join(parts)
        parts.append(body[at : at + size])
        at += size + (2 if body[at + size : at + size + 2] == b"\r\n" else 1)
    return body if not parts else b"".join(parts)
