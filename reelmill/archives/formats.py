"""Which format an archive has, by its bytes: those of the file, and where it is compressed, those of its content."""

from __future__ import annotations

import tarfile

from reelmill.archives.compression import compression_of, decompressed
from reelmill.archives.contract import Archive
from reelmill.archives.tar import CompressedTar
from reelmill.archives.zip import Zip
from reelmill.media.source import Source

HEAD_BYTES = 4096
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_FIRST_NAME = 30
"""Where the name of a zip's first member stands."""
_PARTS = (b"[Content_Types].xml", b"mimetype", b"META-INF/", b"_rels/", b"docProps/", b"word/", b"xl/", b"ppt/")
"""What office documents, e-books and programs begin with: they are zips, but one thing, not a collection."""


def open_archive(source: Source) -> Archive | None:
    """The archive in a file; None for a file of another kind. Raises Refused where its compression is broken."""
    with source.open() as raw:
        head = raw.peek(HEAD_BYTES)[:HEAD_BYTES]
        compression = compression_of(head)
        content = decompressed(raw, compression).read(HEAD_BYTES) if compression else head
    if head.startswith(_ZIP):
        return None if head[_FIRST_NAME:].startswith(_PARTS) else Zip(source)
    if compression and _is_tar(content):
        return CompressedTar(source)
    return None


def _is_tar(content: bytes) -> bool:
    """Whether the first block is a tar's header, by its check sum: old tars have no magic bytes."""
    try:
        tarfile.TarInfo.frombuf(content[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
