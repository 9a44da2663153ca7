"""Which format an archive has, by its bytes: those of the file, and where it is compressed, those of its content."""

from __future__ import annotations

import tarfile

from reelmill.archives.addresses import AddressTable
from reelmill.archives.compression import content_of
from reelmill.archives.contract import Archive
from reelmill.archives.heads import PARQUET, WARC, begins_address_table, begins_json, begins_zip, compression_of
from reelmill.archives.lines import lines_of
from reelmill.archives.parquet import parquet_of
from reelmill.archives.tar import CompressedTar
from reelmill.archives.warc import Warc
from reelmill.archives.zip import Zip
from reelmill.errors import Refused
from reelmill.media.source import Source

HEAD_BYTES = 4096


def open_archive(source: Source, columns: dict[str, str] | None = None, *, opt_outs: bool = False) -> Archive | None:
    """The archive in a file; None for a file of another kind. Raises Refused where what it seems to be is broken.

    `columns`: what a recipe calls columns of tables (`columns.meaning`). `opt_outs`: what states that it is not to be
    used for training is refused.
    """
    with source.open() as raw:
        head = raw.peek(HEAD_BYTES)[:HEAD_BYTES]
    if begins_zip(head):
        return Zip(source)
    if head.startswith(PARQUET):
        return parquet_of(source, columns)
    beginning = _beginning(source)
    if compression_of(head) and _is_tar(beginning):
        return CompressedTar(source)
    if beginning.startswith(WARC):
        return Warc(source, opt_outs=opt_outs)
    if begins_address_table(beginning, columns):
        return AddressTable(source, columns or {})
    return lines_of(source, columns) if begins_json(beginning) else None


def _beginning(source: Source) -> bytes:
    """The first bytes of the content. What is broken behind them is left to whoever reads on."""
    beginning = b""
    with content_of(source) as content:
        try:
            while len(beginning) < HEAD_BYTES and (data := content.read1(HEAD_BYTES)):
                beginning += data
        except Refused:
            if not beginning:
                raise
    return beginning


def _is_tar(content: bytes) -> bool:
    """Whether the first block is a tar's header, by its check sum: old tars have no magic bytes."""
    try:
        tarfile.TarInfo.frombuf(content[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
