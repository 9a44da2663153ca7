"""First bytes by which archives are told. Imports no parser: whoever lists a dump asks here, before the child does."""

from __future__ import annotations

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


def begins_archive(head: bytes) -> bool:
    """Whether a file's first bytes are those of an archive's format, or of a compression that may hold one."""
    return begins_zip(head) or head.startswith((PARQUET, WARC)) or begins_json(head) or compression_of(head) is not None
