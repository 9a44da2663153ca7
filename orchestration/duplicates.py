"""Pairs of copies in a run folder: `duplicates/pairs.parquet`, completed when units are new or have changed.

New units are compared with all, all others with the new ones. A pair belongs to the hashes that it was found by: the
footer has a digest of each unit's, and what was found with others is found again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reelmill.curation.duplicates import looks
from reelmill.curation.duplicates.find import Copies, Look, best_of, clip_pairs, picture_pairs
from reelmill.curation.duplicates.pair import Pair
from reelmill.curation.duplicates.texts import text_pairs
from reelmill.curation.ledger import DUPLICATES, read_schema
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

PAIRS = "duplicates/pairs.parquet"
_DIGESTS = b"reelmill.compared"
_BATCH = 500
"""Samples whose thumbnails are in memory at a time."""

_UNITS = """SELECT unit, md5(string_agg(concat(sample_id, phash, minhash), '' ORDER BY sample_id)) AS digest
FROM scored WHERE phash IS NOT NULL OR minhash IS NOT NULL GROUP BY unit"""
_TEXTS = "SELECT unit, sample_id, item_id, minhash FROM scored WHERE minhash IS NOT NULL ORDER BY sample_id"
_HASHED = "SELECT sample_id, item_id, phash FROM scored WHERE kind = $1 AND phash IS NOT NULL{among} ORDER BY sample_id"
_LOOKS = """SELECT sample_id, item_id, phash, thumbnail FROM scored
WHERE kind = $1 AND phash IS NOT NULL AND sample_id = ANY ($2)"""


def find_duplicates(folder: RunFolder) -> int:
    """Bring the table of pairs up to date; returns how many units were new or changed."""
    path = folder.root / PAIRS
    with LedgerQueries(folder.root) as ledger:
        units = {str(row["unit"]): row["digest"] for row in ledger.rows(_UNITS)}
        before = _digests(folder)
        new = sorted(int(unit) for unit, digest in units.items() if before.get(unit) != digest)
        gone = {int(unit) for unit in before if before[unit] != units.get(unit)}
        if not new and not gone:
            return 0
        kept = [row for row in _rows(folder) if not {row["unit"], row["other_unit"]} & gone]
        found = [pair for kind in ("image", "video") for pair in _compare(ledger, kind, new)]
        found += _compare_texts(ledger, new)
        where = {row["sample_id"]: row["unit"] for row in _units_of(ledger, found)}
    rows = kept + [
        {**vars(pair), "unit": where[pair.sample_id], "other_unit": where[pair.other_id]} for pair in best_of(found)
    ]
    once = {(row["sample_id"], row["other_id"]): row for row in rows}
    table = pa.Table.from_pylist([once[key] for key in sorted(once)], schema=DUPLICATES)
    folder.commit(path, table.replace_schema_metadata({_DIGESTS: json.dumps(units, sort_keys=True)}))
    return len(new)


def _compare(ledger: LedgerQueries, kind: str, new: Sequence[int]) -> Iterator[Pair]:
    """Pairs of samples of a kind of which at least one is in a new unit."""
    is_new = f" AND unit IN ({', '.join(map(str, new))})" if new else " AND false"
    everything = ledger.rows(_HASHED.format(among=""), [kind])
    added = ledger.rows(_HASHED.format(among=is_new), [kind])
    items = {row["sample_id"]: row["item_id"] for row in everything}
    added_ids = {row["sample_id"] for row in added}
    known = [row["sample_id"] for row in everything if row["sample_id"] not in added_ids]
    for index, asked in ((everything, sorted(added_ids)), (added, known)):
        if not index or not asked:
            continue
        copies = Copies([row["sample_id"] for row in index], looks.hashed([row["phash"] for row in index]))
        for start in range(0, len(asked), _BATCH):
            batch = list(_looks(ledger, kind, asked[start : start + _BATCH]).values())
            for pair in _pairs(ledger, kind, copies, batch):
                if items[pair.sample_id] != items[pair.other_id]:  # what a film shows twice is part of it
                    yield pair


def _compare_texts(ledger: LedgerQueries, new: Sequence[int]) -> list[Pair]:
    """Pairs of texts of two items of which at least one is in a new unit."""
    rows = ledger.rows(_TEXTS)
    if not rows:
        return []
    items = {row["sample_id"]: row["item_id"] for row in rows}
    is_new = np.isin([row["unit"] for row in rows], list(new))
    pairs = text_pairs(list(items), [row["minhash"] for row in rows], is_new)
    return [pair for pair in pairs if items[pair.sample_id] != items[pair.other_id]]


def _pairs(ledger: LedgerQueries, kind: str, copies: Copies, batch: Sequence[Look]) -> Iterator[Pair]:
    def thumbnails(sample_ids: list[str]) -> Mapping[str, npt.NDArray[np.uint8]]:
        return {sample_id: look.thumbnails for sample_id, look in _looks(ledger, kind, sample_ids).items()}

    return picture_pairs(copies, batch, thumbnails) if kind == "image" else clip_pairs(copies, batch)


def _looks(ledger: LedgerQueries, kind: str, sample_ids: Sequence[str]) -> dict[str, Look]:
    rows = ledger.rows(_LOOKS, [kind, list(sample_ids)])
    return {
        row["sample_id"]: Look(
            row["sample_id"], looks.hashed([row["phash"]]).hashes, looks.thumbnails(row["thumbnail"])
        )
        for row in sorted(rows, key=lambda row: row["sample_id"])
    }


def _units_of(ledger: LedgerQueries, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    named = sorted({name for pair in pairs for name in (pair.sample_id, pair.other_id)})
    return ledger.rows("SELECT sample_id, unit FROM scored WHERE sample_id = ANY ($1)", [named])


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    path = folder.root / PAIRS
    rows: list[dict[str, Any]] = folder.read(path).to_pylist() if path.is_file() else []
    return rows


def _digests(folder: RunFolder) -> dict[str, str]:
    """Of each unit's hashes, as they were compared."""
    path = folder.root / PAIRS
    if not path.is_file():
        return {}
    metadata = read_schema(path).metadata or {}
    found: dict[str, str] = json.loads(metadata.get(_DIGESTS, b"{}"))
    return found
