"""Key frames of a run folder that look alike: `alike/keyframes.parquet`, completed when units are new or have changed.

New units' key frames are compared with all, all others' with the new ones. A row belongs to the hashes of both its
units; the footer has a digest of each unit's, and rows of a unit that changed are found again.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from reelmill.curation.duplicates import looks
from reelmill.curation.duplicates.alike import Shown, alike
from reelmill.curation.ledger import ALIKE
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import read_schema
from reelmill.orchestration.views import LedgerQueries

FILE = "alike/keyframes.parquet"
_DIGESTS = b"reelmill.compared"
_NARRATED = "FROM spans WHERE kind = 'video' AND keyframes IS NOT NULL AND phash IS NOT NULL"
_UNITS = f"""SELECT unit, md5(string_agg(concat(sample_id, phash), '' ORDER BY sample_id)) AS digest {_NARRATED}
GROUP BY unit"""
_FRAMES = f"""SELECT unit, sample_id, item_id, phash, [k.time_s FOR k IN keyframes IF k.problem IS NULL] AS times
{_NARRATED} ORDER BY item_id, start_s"""


def find_alike(folder: RunFolder) -> int:
    """Bring the table up to date; returns how many units were new or changed."""
    with LedgerQueries(folder.root) as ledger:
        units = {row["unit"]: row["digest"] for row in ledger.rows(_UNITS)}
        before = _compared(folder)
        if units == before:
            return 0
        samples = ledger.rows(_FRAMES)
    new = {unit for unit, digest in units.items() if before.get(unit) != digest}
    stays = units.keys() - new
    rows = [row for row in _rows(folder) if {row["unit"], row["other_unit"]} <= stays]
    rows += _found(samples, new)
    rows.sort(key=lambda row: (row["sample_id"], row["time_s"], row["other_item_id"], row["other_time_s"]))
    table = pa.Table.from_pylist(rows, schema=ALIKE)
    folder.commit(folder.root / FILE, table.replace_schema_metadata({_DIGESTS: json.dumps(units, sort_keys=True)}))
    return len(new)


def _found(samples: list[dict[str, Any]], new: set[int]) -> list[dict[str, Any]]:
    """Rows of pairs of which at least one key frame is in a new unit; `samples` are in order of their items."""
    hashed = looks.hashed([sample["phash"] for sample in samples])
    frames = [(sample, time_s) for sample in samples for time_s in sample["times"]]
    items = np.unique([sample["item_id"] for sample, _ in frames], return_inverse=True)[1]
    shown = Shown(items.astype(np.int64), np.array([time_s for _, time_s in frames], np.float64), hashed.hashes)
    is_new = np.array([sample["unit"] in new for sample, _ in frames], np.bool_)
    everything = np.ones(len(frames), np.bool_)
    rows = []
    for frame, other, bits in (*alike(shown, is_new, everything), *alike(shown, ~is_new, is_new)):
        (sample, time_s), (like, other_time_s) = frames[frame], frames[other]
        known = {"unit": sample["unit"], "sample_id": sample["sample_id"], "item_id": sample["item_id"]}
        theirs = {"other_unit": like["unit"], "other_item_id": like["item_id"], "other_time_s": other_time_s}
        rows.append({**known, "time_s": time_s, **theirs, "bits": bits})
    return rows


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    path = folder.root / FILE
    rows: list[dict[str, Any]] = folder.read(path).to_pylist() if path.is_file() else []
    return rows


def _compared(folder: RunFolder) -> dict[int, str]:
    """The digest of each unit's hashes, as they were compared."""
    path = folder.root / FILE
    if not path.is_file():
        return {}
    found: dict[str, str] = json.loads((read_schema(path).metadata or {}).get(_DIGESTS, b"{}"))
    return {int(unit): digest for unit, digest in found.items()}
