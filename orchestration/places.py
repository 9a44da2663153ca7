"""Where the bytes of a run's items lie, for items by the million: columns, in which an item is looked up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.media.source import Place, place_of

PLACES = pa.schema(
    [
        *(("item_id", pa.string()), ("path", pa.dictionary(pa.int32(), pa.string()))),
        *(("offset", pa.int64()), ("size", pa.int64()), ("member", pa.int64())),
    ]
)


class Places(Mapping[str, Place]):
    """Places by item_id, which is looked up by bisection."""

    def __init__(self, parts: Iterable[pa.Table]) -> None:
        """`parts` have the columns of PLACES, paths as plain strings."""
        rows = pa.concat_tables([PLACES.empty_table(), *map(_packed, parts)])
        self._ids = pa.concat_arrays(rows["item_id"].chunks)
        self._order = pc.sort_indices(self._ids)
        self._columns = [rows[name] for name in PLACES.names[1:]]  # in parts, each with the paths that it needs

    def __getitem__(self, item_id: str) -> Place:
        at = bisect_left(range(len(self)), item_id, key=self._id)
        if at == len(self) or self._id(at) != item_id:
            raise KeyError(item_id)
        row = self._order[at].as_py()
        return place_of(*(column[row].as_py() for column in self._columns))

    def __iter__(self) -> Iterator[str]:
        return map(self._id, range(len(self)))

    def __len__(self) -> int:
        return len(self._order)

    def _id(self, at: int) -> str:
        found: str = self._ids[self._order[at].as_py()].as_py()
        return found


def _packed(part: pa.Table) -> pa.Table:
    """Paths once each: a million items may lie in one archive."""
    place = part.column_names.index("path")
    paths = part["path"].dictionary_encode()
    return part.set_column(place, "path", paths).select(PLACES.names).cast(PLACES)
