"""Decoded row groups of shards, kept in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.tokenize.shards.format import UNREADABLE, token_lists

_FOOTERS = 64
"""How many footers are kept."""

RowGroup = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


class RowGroups:
    """Row groups on demand. The most recently used stay decoded, up to `most_tokens` ids in all.

    An id takes 4 bytes. One row group is held in any case, however large. Several threads may ask.
    """

    def __init__(self, most_tokens: int) -> None:
        self.most_tokens = most_tokens
        self._held: OrderedDict[tuple[str, int], RowGroup] = OrderedDict()
        self._tokens = 0
        self._lock = Lock()
        # Parsing a footer takes as long as decoding 200,000 ids, and a shard has many row groups.
        self._footers: OrderedDict[str, pq.FileMetaData] = OrderedDict()

    def __reduce__(self) -> tuple[type[RowGroups], tuple[int]]:
        """Another process begins with none."""
        return RowGroups, (self.most_tokens,)

    def get(self, path: str, group: int) -> RowGroup:
        """The ids of a row group's documents, flat (int32, read-only), and int64 [rows + 1] offsets into them.

        Page checksums are verified. Raises DataError for a damaged or missing shard.
        """
        with self._lock:
            key = (path, group)
            decoded = self._held.get(key)
            if decoded is not None:
                self._held.move_to_end(key)
                return decoded
            decoded = self._decode(path, group)
            self._held[key] = decoded
            self._tokens += len(decoded[0])
            while self._tokens > self.most_tokens and len(self._held) > 1:
                _, (forgotten, _) = self._held.popitem(last=False)
                self._tokens -= len(forgotten)
            return decoded

    def _decode(self, path: str, group: int) -> RowGroup:
        try:
            with pq.ParquetFile(path, metadata=self._footers.get(path), page_checksum_verification=True) as parquet:
                self._footers[path] = parquet.metadata
                table = parquet.read_row_group(group, columns=["tokens"], use_threads=False)
        except UNREADABLE as error:
            raise DataError(
                f"row group {group} of {path} cannot be read: {error}. Run `reelmill verify` on its run folder; a "
                "damaged shard is made again by deleting it and tokenizing again."
            ) from error
        if len(self._footers) > _FOOTERS:
            self._footers.popitem(last=False)
        return token_lists(table["tokens"])
