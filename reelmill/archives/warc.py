"""WARC files (ISO 28500), plain or compressed, by fastwarc: media as they are, pages and plain texts as texts.

Members are numbered by the byte at which their records begin.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from reelmill.archives.columns import ENCODING, ENCODING_FROM
from reelmill.archives.compression import FREE_BYTES, MAX_RATIO, content_of
from reelmill.archives.contract import CHUNK_BYTES, Archive, Member
from reelmill.archives.heads import compression_of
from reelmill.archives.html import MAX_PAGE, WISHES, begins_html, page_text
from reelmill.archives.http import MAX_HEADER, Head, decoded, head_of
from reelmill.errors import Refused, brief
from reelmill.media.containers import HEAD
from reelmill.media.encoding import decode
from reelmill.media.kinds import suffix_of
from reelmill.media.source import Source
from reelmill.opt_outs import opt_out

PROGRAM = "reelmill"
MAX_ENCODED = 256 * 1024**2
"""Bytes of a body that is held in memory, since it has encodings."""
MAX_CUTS = 100
"""Records that may say that they are longer than the rest of the file: each is read to its end to know it."""
READ = (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion)
PAGES = ("text/html", "application/xhtml+xml")
_DIGESTS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512, "md5": hashlib.md5}


class _Broken(Exception):
    """No record begins where one should; without a problem: one says that it is longer than the rest of the file."""

    def __init__(self, at: int, problem: str | None) -> None:
        super().__init__(problem)
        self.at, self.problem = at, problem


class Warc(Archive):
    """The records of a file that hold something: responses of status 200, resources, and conversions (WET)."""

    format = "warc"

    def __init__(self, source: Source, *, opt_outs: bool = False) -> None:
        super().__init__(source)
        self._opt_outs = opt_outs
        self._body: _Body | None = None

    def members(self, first: int = 0) -> Iterator[Member | None]:
        """As in the contract. Where a record is broken, a member says so, and the next record is looked for."""
        with self.source.open() as raw:
            if not _is_by_record(raw):
                with content_of(self.source) as content:
                    try:
                        yield from self._records(content, 0, first)
                    except _Broken as broken:
                        if broken.problem is not None:
                            raise Refused(broken.problem) from None
                return
            start: int | None = first
            cuts = 0
            while start is not None:
                raw.seek(start)
                try:
                    yield from self._records(raw, start, first)
                    return
                except _Broken as broken:
                    if broken.problem is not None:
                        yield Member(broken.at, f"{broken.at}", kind="text", problem=broken.problem)
                    cuts += broken.problem is None
                    if cuts > MAX_CUTS:
                        raise Refused(f"corrupt_warc: {cuts} records say that they are longer than the file") from None
                    start = _next_start(raw, max(broken.at, start) + 1)

    def _records(self, stream: io.BufferedReader, start: int, first: int) -> Iterator[Member | None]:
        records = ArchiveIterator(stream, parse_http=False)
        at, size, is_compressed = start - 1, 0, compression_of(stream.peek(16)) is not None
        while True:
            try:
                record = next(records, None)
            except (OSError, ValueError, EOFError) as error:
                raise _Broken(at + 1, f"corrupt_warc: {brief(error)}") from None
            if record is None:
                return
            if record.stream_pos <= at:
                raise Refused(f"corrupt_warc: two records begin at byte {at}; compress it record by record")
            at, self._body = record.stream_pos, None
            if is_compressed and size + record.content_length > FREE_BYTES + MAX_RATIO * self.source.size:
                raise _Broken(
                    at, f"bomb: a file of {self.source.size} bytes has more than {size + record.content_length}"
                )
            yield self._member(record, at) if at >= first else None
            taken = self._taken(record, at)
            size += taken
            if taken < record.content_length:  # records that it says are its own may follow
                raise _Broken(at, None)

    def _taken(self, record: WarcRecord, at: int) -> int:
        """Bytes that a record has; what was not read of them is passed over."""
        try:
            return (self._body.taken if self._body is not None else 0) + int(record.reader.consume())
        except (OSError, ValueError, EOFError) as error:
            raise _Broken(at + 1, f"corrupt_warc: {brief(error)}") from None

    def _member(self, record: WarcRecord, at: int) -> Member | None:
        if record.record_type == WarcRecordType.revisit:
            self.pass_over("records of repeated visits")
        if record.record_type not in READ:
            return None
        known = {"url": record.headers.get("WARC-Target-URI"), "crawled": record.headers.get("WARC-Date")}
        body = self._body = _Body(record)
        if body.head is not None and body.head.status != 200:
            self.pass_over(f"responses of status {body.head.status}")
            return None
        kind = {"image": "image", "video": "video", "audio": "audio"}.get(body.type.partition("/")[0], "text")
        try:
            if cut := record.headers.get("WARC-Truncated"):
                raise Refused(f"truncated: the crawler cut it ({brief(cut, 40)})")
            if self._opt_outs and body.head is not None:
                said = body.head.headers
                _heed(opt_out(said.get("x-robots-tag"), said.get("tdm-reservation"), PROGRAM))
            return self._of(body, at, known)
        except Refused as refusal:
            return Member(at, f"{at}", kind=kind, known=known, problem=str(refusal))

    def _of(self, body: _Body, at: int, known: dict[str, Any]) -> Member | None:
        """The member that a body makes. What it is its first bytes say; the declared type only where they do not."""
        if not body.is_encoded and (suffix := suffix_of(body.start[:HEAD])):
            return Member(at, f"{at}{suffix}", body.chunks(), known=known)
        data = body.whole()
        if suffix := suffix_of(data[:HEAD]):
            return Member(at, f"{at}{suffix}", iter([data]), known=known)
        is_page = begins_html(data[:HEAD]) or (body.type in PAGES and b"\0" not in data)
        if not is_page and body.type != "text/plain":
            self.pass_over(f"records of type {body.type}")
            return None
        if len(data) > MAX_PAGE:
            raise Refused(f"too_large: a page of {len(data)} bytes, allowed {MAX_PAGE}")
        if is_page:
            text, stated = page_text(data, body.head.charset if body.head else None, known["url"])
            wishes = stated.pop(WISHES)
            if self._opt_outs:
                _heed(opt_out(wishes["robots"], wishes["tdm-reservation"], PROGRAM, "meta robots"))
            data, known = text.encode("utf-8", "replace"), {**known, **stated}
        elif body.head and body.head.charset:
            decoded = decode(data, body.head.charset)
            data = decoded.text.encode("utf-8", "replace")
            known = {**known, ENCODING: decoded.encoding, ENCODING_FROM: decoded.told_by}
        return Member(at, f"{at}.txt", iter([data]), kind="text", known=known)


class _Body:
    """What a record holds, without a response's HTTP header. Raises Refused where it is cut, or not what was said."""

    def __init__(self, record: WarcRecord) -> None:
        self._record = record
        self.start = record.reader.read(MAX_HEADER)
        self.taken = len(self.start)
        self.head: Head | None = head_of(self.start) if record.is_http else None
        if self.head is not None:
            self.start = self.start[self.head.size :]
        self.type = self.head.type if self.head else _type_of(record)
        self.is_encoded = self.head is not None and self.head.is_encoded

    def chunks(self) -> Iterator[bytes]:
        """The bytes as they are."""
        digest, wanted = _digest(self._record)
        data = self.start
        while data:
            if digest is not None:
                digest.update(data)
            yield data
            data = self._record.reader.read(CHUNK_BYTES)
            self.taken += len(data)
        self._check_length()
        if digest is not None and not _agrees(digest.digest(), wanted):
            raise Refused("wrong_digest: its bytes are not those that were crawled")

    def whole(self) -> bytes:
        """The bytes without their encodings."""
        if self._record.content_length > MAX_ENCODED:
            raise Refused(f"too_large: {self._record.content_length} bytes, allowed {MAX_ENCODED}")
        rest = self._record.reader.read(MAX_ENCODED)
        self.taken += len(rest)
        self._check_length()
        body = self.start + rest
        data = decoded(body, self.head, MAX_ENCODED) if self.head else body
        digest, wanted = _digest(self._record)
        if digest is not None:  # over the body with its encodings or without: crawlers differ
            digests = [hashlib.new(digest.name, one).digest() for one in (body, data)]
            if not any(_agrees(one, wanted) for one in digests):
                raise Refused("wrong_digest: its bytes are not those that were crawled")
        return data

    def _check_length(self) -> None:
        if self.taken < self._record.content_length:
            raise Refused(f"truncated: {self.taken} bytes of {self._record.content_length}")


def _heed(wish: str | None) -> None:
    if wish:
        raise Refused(wish)


def _type_of(record: WarcRecord) -> str:
    return (record.headers.get("Content-Type") or "(no type)").partition(";")[0].strip().lower()[:100]


def _digest(record: WarcRecord) -> tuple[Any, str]:
    """A hash of the kind that the record's payload digest names, and that digest; None for an unknown kind."""
    name, _, value = (record.headers.get("WARC-Payload-Digest") or "").partition(":")
    made = _DIGESTS.get(name.strip().lower().replace("-", ""))
    return (made() if made and value else None), value.strip()


def _agrees(digest: bytes, stated: str) -> bool:
    """Whether a digest is the one that is stated, in base 32 or as hex digits."""
    return stated.rstrip("=").upper() in (base64.b32encode(digest).decode().rstrip("="), digest.hex().upper())


def _is_by_record(raw: io.BufferedReader) -> bool:
    """Whether records begin at bytes of the file: not where all of it is compressed as one."""
    compression = compression_of(raw.peek(16))
    if compression is None:
        return True
    if compression not in ("gz", "zst"):
        return False
    records = ArchiveIterator(raw, parse_http=False)
    try:
        starts = [record.stream_pos for _, record in zip(range(2), records, strict=False)]
    except (OSError, ValueError, EOFError):
        return True
    raw.seek(starts[-1] if starts else 0)
    return compression_of(raw.peek(16)) == compression


def _next_start(raw: io.BufferedReader, after: int) -> int | None:
    """Where the next record may begin behind a byte; None where none does."""
    raw.seek(0)
    mark = b"\x1f\x8b\x08" if compression_of(raw.peek(16)) == "gz" else b"\nWARC/1."
    raw.seek(after)
    at, tail = after, b""
    while data := raw.read(CHUNK_BYTES):
        found = (tail + data).find(mark)
        if found >= 0:
            return at - len(tail) + found + (mark[0] == 0x0A)
        tail = (tail + data)[-len(mark) :]
        at += len(data)
    return None
