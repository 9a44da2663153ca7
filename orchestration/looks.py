"""The hashes of a run folder's samples, and the thumbnails of some of them, read a unit at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates import looks
from reelmill.curation.duplicates.find import Copies, Look, clip_pairs, picture_pairs
from reelmill.curation.duplicates.pair import Pair
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

BATCH_UNITS = 16
"""Units whose thumbnails are in memory at a time."""

_ALL, _KEPT = "true", "sample_id IN (SELECT sample_id FROM verdicts WHERE selection = 'default' AND status = 'kept')"
_UNITS = """SELECT unit,
    md5(string_agg(concat(sample_id, phash, minhash, embedding_model), '' ORDER BY sample_id)) AS digest
FROM scored WHERE (phash IS NOT NULL OR minhash IS NOT NULL OR embedding_model IS NOT NULL) AND {which} GROUP BY unit"""
_HASHED = """SELECT sample_id, item_id, unit, phash FROM scored
WHERE kind = $1 AND phash IS NOT NULL AND {which} ORDER BY sample_id"""
_TEXTS = """SELECT sample_id, item_id, unit, minhash FROM scored
WHERE minhash IS NOT NULL AND {which} ORDER BY sample_id"""
_EMBEDDED = """SELECT sample_id, item_id, unit, kind, embedding_model FROM scored
WHERE embedding_model IS NOT NULL AND {which} ORDER BY sample_id"""
_OF_ITEMS = """SELECT sample_id, scored.unit, i.sha256 FROM scored JOIN items i USING (item_id)
WHERE list_contains($1::VARCHAR[], i.sha256) AND {which} ORDER BY sample_id"""
_COLUMNS = ["sample_id", "kind", "phash", "thumbnail"]


@dataclass(frozen=True)
class Shelf:
    """The samples of one kind in one run folder, by their hashes: columns in order of sample_id, of which ten million
    take about 3 GB."""

    folder: RunFolder
    kind: str
    sample_ids: list[str]
    item_ids: list[str]
    units: npt.NDArray[np.int64]
    hashed: looks.Hashed

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each sample stands in the columns."""
        return {sample_id: place for place, sample_id in enumerate(self.sample_ids)}

    def unit_of(self, sample_id: str) -> int:
        """Of a sample."""
        return int(self.units[self.place[sample_id]])

    def item_of(self, sample_id: str) -> str:
        """Of a sample."""
        return self.item_ids[self.place[sample_id]]

    def among(self, is_wanted: npt.NDArray[np.bool_]) -> Shelf:
        """Some of them."""
        places = np.flatnonzero(is_wanted)
        ids, items = ([column[place] for place in places] for column in (self.sample_ids, self.item_ids))
        return Shelf(self.folder, self.kind, ids, items, self.units[places], self.hashed.among(is_wanted))

    def pairs_with(self, index: Shelf) -> Iterator[Pair]:
        """Pairs of a sample of this shelf with one of another, of which it is looked whether it shows a part."""
        if not self.sample_ids or not index.sample_ids:
            return
        copies = Copies(index.sample_ids, index.hashed, with_asked=index.folder.root == self.folder.root)
        units = sorted({*self.units.tolist()})
        for start in range(0, len(units), BATCH_UNITS):
            asked = list(self._looks(units[start : start + BATCH_UNITS], self.place).values())
            if self.kind == "image":
                yield from picture_pairs(copies, asked, index.thumbnails)
            else:
                yield from clip_pairs(copies, asked)

    def thumbnails(self, sample_ids: list[str]) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Of samples, by their ids."""
        by_unit, found = defaultdict(set), {}
        for sample_id in sample_ids:
            by_unit[self.unit_of(sample_id)].add(sample_id)
        for unit, wanted in sorted(by_unit.items()):
            found.update({look.sample_id: look.thumbnails for look in self._looks([unit], wanted).values()})
        return found

    def _looks(self, units: Iterable[int], wanted: Container[str]) -> dict[str, Look]:
        found = {}
        for unit in units:
            table = self.folder.read(self.folder.unit_path("samples", unit))
            for row in table.select(_COLUMNS).to_pylist():
                if row["kind"] == self.kind and row["phash"] is not None and row["sample_id"] in wanted:
                    hashes = looks.hashed([row["phash"]]).hashes
                    found[row["sample_id"]] = Look(row["sample_id"], hashes, looks.thumbnails(row["thumbnail"]))
        return found


@dataclass(frozen=True)
class Library:
    """What is compared of a run folder: all its samples, or those that it keeps."""

    folder: RunFolder
    ledger: LedgerQueries
    only_kept: bool = False

    def shelf(self, kind: str) -> Shelf:
        """The samples of a kind that have hashes."""
        table = self.ledger.table(self._of(_HASHED), [kind])
        names, items, phashes = (table[name].to_pylist() for name in ("sample_id", "item_id", "phash"))
        units = table["unit"].to_numpy().astype(np.int64)
        return Shelf(self.folder, kind, names, items, units, looks.hashed(phashes))

    def texts(self) -> list[dict[str, Any]]:
        """sample_id, item_id, unit and minhash of the texts that have one."""
        return self.ledger.rows(self._of(_TEXTS))

    def embedded(self) -> dict[tuple[str, str], dict[str, tuple[int, str]]]:
        """Unit and item of each sample that has an embedding, by model and kind, then by sample_id."""
        found: dict[tuple[str, str], dict[str, tuple[int, str]]] = defaultdict(dict)
        for row in self.ledger.rows(self._of(_EMBEDDED)):
            found[row["embedding_model"], row["kind"]][row["sample_id"]] = row["unit"], row["item_id"]
        return found

    def digests(self) -> dict[int, str]:
        """Of the hashes of each unit that has any."""
        return {row["unit"]: row["digest"] for row in self.ledger.rows(self._of(_UNITS))}

    def items_digest(self) -> str:
        """Of the bytes of all items that were read."""
        (row,) = self.ledger.rows("SELECT count(*) AS items, bit_xor(hash(item_id, sha256)) AS digest FROM items")
        return f"{row['items']} items, {row['digest']}"

    def of_items(self, hashes: Sequence[str]) -> list[dict[str, Any]]:
        """sample_id, unit and sha256 of samples of items with one of these SHA-256."""
        return self.ledger.rows(self._of(_OF_ITEMS), [list(hashes)])

    def _of(self, query: str) -> str:
        return query.replace("{which}", _KEPT if self.only_kept else _ALL)
