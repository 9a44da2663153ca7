"""First bytes by which archives are told. Imports no parser: whoever lists a dump asks here, before the child does."""

from __future__ import annotations

import re
from collections.abc import Mapping

from reelmill.archives.columns import meaning

_PAIR = re.compile(rb"[^\t\r\n]{0,5000}\thttps?://|https?://[^\t\r\n]{1,5000}\t")
COMPRESSED: dict[str, bytes] = {"gz": b"\x1f\x8b\x08", "zst": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "xz": b"\xfd7zXZ\0"}
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
PARQUET = b"PAR1"
WARC = b"WARC/"
_FIRST_NAME = 30
"""Where the name of a zip's first member stands."""
_PARTS = (b"[Content_Types].xml", b"mimetype", b"META-INF/", b"_rels/", b"docProps/", b"word/", b"xl/", b"ppt/")
"""What office documents, e-books and programs begin with: they are zips, but one thing, not a collection."""


def compression_of(head: bytes) -> str | None:
    """The compression of a file: `gz`, `zst`, `bz2`, `xz`; None for another file."""
    return next((name for name, magic in COMPRESSED.items() if head.startswith(magic)), None)


def begins_zip(head: bytes) -> bool:
    """Whether a file is a zip, and no document of some program."""
    return head.startswith(ZIP) and not head[_FIRST_NAME:].startswith(_PARTS)


def begins_json(head: bytes) -> bool:
    """Whether a text begins with a JSON object."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def begins_address_table(head: bytes, columns: Mapping[str, str] | None = None) -> bool:
    """Whether a file's first line names columns of addresses, or is a caption and an address (CC3M and CC12M)."""
    line = head.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf").strip()
    names = line.decode("utf-8", "replace").replace('"', "").split("\t" if b"\t" in line else ",")
    found = meaning(names, columns) if len(names) > 1 else None
    return (found is not None and found.address is not None) or _PAIR.match(head) is not None


def begins_archive(head: bytes, columns: Mapping[str, str] | None = None) -> bool:
    """Whether a file's first bytes are those of an archive's format, or of a compression that may hold one."""
    if begins_json(head) or begins_address_table(head, columns):
        return True
    return begins_zip(head) or head.startswith((PARQUET, WARC)) or compression_of(head) is not None
