"""Zips, by their central directory (PKWARE's APPNOTE, section 4). Stored members are byte ranges of the file."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from typing import IO

from reelmill.archives.compression import FREE_BYTES, MAX_RATIO
from reelmill.archives.contract import CHUNK_BYTES, Archive, Member
from reelmill.errors import Refused, brief

_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1
_LINK = 0o120000
# zipfile raises a RuntimeError for versions of the format that it does not know.
_ERRORS = (zipfile.BadZipFile, EOFError, ValueError, OverflowError, RuntimeError, struct.error)


class Zip(Archive):
    """Members by their place in the central directory, from 0."""

    format = "zip"
    is_keyed = True

    def members(self, first: int = 0) -> Iterator[Member | None]:
        """As in the contract."""
        with self.source.open() as raw:
            try:
                archive = zipfile.ZipFile(raw)
            except _ERRORS as error:
                raise Refused(f"corrupt_zip: {brief(error)}") from None
            with archive:
                for number, info in enumerate(archive.infolist()):
                    if number >= first and not info.is_dir():
                        yield self._member(archive, raw, number, info)

    def _member(self, archive: zipfile.ZipFile, raw: IO[bytes], number: int, info: zipfile.ZipInfo) -> Member:
        name = info.filename
        if problem := _problem(info):
            return Member(number, name, problem=problem)
        if info.compress_type != zipfile.ZIP_STORED:
            return Member(number, name, _inflated(archive, info))
        try:
            offset = _place(raw, info)
        except (OSError, ValueError, struct.error) as error:
            return Member(number, name, problem=f"corrupt_zip: {brief(error)}")
        if offset + info.file_size > self.source.size:
            return Member(number, name, problem=f"corrupt_zip: it ends at {offset + info.file_size}, after the file")
        return Member(number, name, _inflated(archive, info), offset, info.file_size)


def _problem(info: zipfile.ZipInfo) -> str | None:
    """Why a member is not read, as its entry tells."""
    if info.flag_bits & _ENCRYPTED:
        return "encrypted: a member of a zip with a password; unpack it first"
    if (info.external_attr >> 16) & 0o170000 == _LINK:
        return "not_a_file: a link in a zip"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return f"unknown_compression: method {info.compress_type} of a zip; stored and deflated members are read"
    if info.file_size > FREE_BYTES + MAX_RATIO * info.compress_size:
        return f"bomb: {info.compress_size} bytes that become {info.file_size}"
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        return f"corrupt_zip: stored, but {info.compress_size} bytes are to become {info.file_size}"
    return None


def _place(raw: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: its local header has a length of its own."""
    raw.seek(info.header_offset)
    magic, *_, name, extra = _LOCAL.unpack(raw.read(_LOCAL.size))
    if magic != b"PK\x03\x04":
        raise ValueError(f"no member's header at byte {info.header_offset}")
    return info.header_offset + _LOCAL.size + int(name) + int(extra)


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The member's bytes, its check sum verified; zipfile stops at the size that its entry declares."""
    try:
        with archive.open(info) as stream:
            left = info.file_size
            while left:
                data = stream.read(min(CHUNK_BYTES, left))
                if not data:
                    raise Refused(f"corrupt_zip: it ends {left} bytes early")
                left -= len(data)
                yield data
            if stream.read(1):
                raise Refused("corrupt_zip: it goes on after its declared size")
    except Refused:
        raise
    except Exception as error:  # zlib's, bz2's and lzma's own, and what zipfile lets through
        raise Refused(f"corrupt_zip: {brief(error)}") from None
