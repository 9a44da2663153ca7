"""Pairs of copies in a run folder: `duplicates/pairs.parquet`, completed when units are new or have changed.

New units are compared with all, all others with the new ones; where the recipe names other run folders, with those too.
A pair belongs to the hashes that it was found by: the footer has a digest of each unit's, and of each other folder's,
and what was found with others is found again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reelmill.curation.duplicates import hash_lists, looks
from reelmill.curation.duplicates.clusters import CROWD
from reelmill.curation.duplicates.config import SEMANTIC_CANDIDATES
from reelmill.curation.duplicates.find import best_of
from reelmill.curation.duplicates.pair import Pair
from reelmill.curation.duplicates.search import HashTables
from reelmill.curation.duplicates.texts import text_pairs
from reelmill.curation.embeddings import close_pairs
from reelmill.curation.ledger import DUPLICATES
from reelmill.orchestration.embeddings import blocks
from reelmill.orchestration.looks import Library
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import read_schema
from reelmill.orchestration.views import LedgerQueries

PAIRS = "duplicates/pairs.parquet"
KINDS = ("image", "video")
_DIGESTS = b"reelmill.compared"
_SEMANTIC = "embeddings"
"""What the digests name it by that embeddings were compared."""


def find_duplicates(
    folder: RunFolder, against: Sequence[str] = (), exclude: Sequence[str] = (), semantic: bool = False
) -> int:
    """Bring the table of pairs up to date; returns how many units were new or changed.

    `against`, `exclude`: run folders whose kept samples, or all of them, are looked for; `exclude` may name lists of
    hashes too. `semantic`: embeddings of this folder are compared too. DataError where a folder is none, ConfigError
    where a list is.
    """
    lists = [Path(name).resolve() for name in exclude if hash_lists.is_hash_list(Path(name))]
    others = {str(Path(name).resolve()): name not in exclude for name in (*against, *exclude)}
    others = {root: only_kept for root, only_kept in others.items() if Path(root) not in lists}
    before = _compared(folder)
    with ExitStack() as stack:

        def library(root: Path, *, only_kept: bool) -> Library:
            return Library(RunFolder(root).require(), stack.enter_context(LedgerQueries(root)), only_kept)

        ours = library(folder.root, only_kept=False)
        theirs = {root: library(Path(root), only_kept=only_kept) for root, only_kept in others.items()}
        units = ours.digests()
        compared = {str(unit): digest for unit, digest in units.items()}
        compared |= {root: _digest(other) for root, other in theirs.items()}
        compared |= {str(path): f"{hash_lists.digest(path)} of {ours.items_digest()}" for path in lists}
        compared |= {_SEMANTIC: "compared"} if semantic else {}
        stale = {key for key, digest in before.items() if compared.get(key) != digest}
        if not stale and compared.keys() == before.keys():
            return 0
        new = sorted(unit for unit in units if before.get(str(unit)) != compared[str(unit)])
        rows = [row for row in _rows(folder) if stale.isdisjoint(_parts(row))]
        rows += _within(ours, new)
        if semantic:
            rows += _semantic(ours, new if _SEMANTIC in before else sorted(units))
        for root, other in theirs.items():
            rows += _elsewhere(ours, new if before.get(root) == compared[root] else sorted(units), root, other)
        for path in lists:
            rows += _listed(ours, path)
    once = {(row["sample_id"], row["other_run"] or "", row["other_id"], row["method"]): row for row in rows}
    table = pa.Table.from_pylist([once[key] for key in sorted(once)], schema=DUPLICATES)
    noted = table.replace_schema_metadata({_DIGESTS: json.dumps(compared, sort_keys=True)})
    folder.commit(folder.root / PAIRS, noted)
    return len(new)


def _within(ours: Library, new: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of pairs in this folder of which at least one sample is in a new unit.

    Two samples of one item are no copies: what a film shows twice is part of it.
    """
    for kind in KINDS:
        shelf = ours.shelf(kind)
        is_new = np.isin(shelf.units, list(new))
        added, known = shelf.among(is_new), shelf.among(~is_new)
        for pair in best_of([*added.pairs_with(shelf), *known.pairs_with(added)]):
            if shelf.item_of(pair.sample_id) != shelf.item_of(pair.other_id):
                yield _row(pair, shelf.unit_of(pair.sample_id), shelf.unit_of(pair.other_id))
    texts = ours.texts()
    by_id = {row["sample_id"]: row for row in texts}
    is_new = np.isin([row["unit"] for row in texts], list(new))
    for pair in text_pairs(list(by_id), [row["minhash"] for row in texts], is_new):
        one, two = by_id[pair.sample_id], by_id[pair.other_id]
        if one["item_id"] != two["item_id"]:
            yield _row(pair, one["unit"], two["unit"])


def _semantic(ours: Library, new: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of pairs in this folder whose embeddings are close, of which at least one sample is in a new unit."""
    for (model, _), members in ours.embedded().items():
        units = sorted({unit for unit, _ in members.values()})
        added = [unit for unit in units if unit in {*new}]
        best: dict[tuple[str, str], float] = {}
        for asked in blocks(ours.folder, model, added, members):
            every = blocks(ours.folder, model, units, members)
            for one, other, cosine in close_pairs(asked, every, SEMANTIC_CANDIDATES, CROWD):
                best[min(one, other), max(one, other)] = cosine
        for (one, other), cosine in sorted(best.items()):
            (unit, item), (other_unit, other_item) = members[one], members[other]
            if item != other_item:
                yield _row(Pair(one, other, cosine, f"embedding_{model}"), unit, other_unit)


def _elsewhere(ours: Library, units: Sequence[int], root: str, theirs: Library) -> Iterator[dict[str, Any]]:
    """Rows of pairs of a sample in these units with one of another run folder, which is the row's `other_id`."""
    for kind in KINDS:
        all_, others = ours.shelf(kind), theirs.shelf(kind)
        mine = all_.among(np.isin(all_.units, list(units)))
        turned = (Pair(pair.other_id, pair.sample_id, pair.similarity, pair.method) for pair in others.pairs_with(mine))
        best: dict[tuple[str, str], Pair] = {}
        for pair in (*mine.pairs_with(others), *turned):
            key = pair.sample_id, pair.other_id
            best[key] = max(best.get(key, pair), pair, key=lambda one: one.similarity)
        for pair in best.values():
            yield _row(pair, mine.unit_of(pair.sample_id), None, root)
    texts = [row for row in ours.texts() if row["unit"] in {*units}]
    others_texts = theirs.texts()
    names = [f"{n} {row['sample_id']}" for n, rows in enumerate((texts, others_texts)) for row in rows]
    unit_of = {row["sample_id"]: row["unit"] for row in texts}
    is_ours = np.arange(len(names)) < len(texts)
    for pair in text_pairs(names, [row["minhash"] for row in (*texts, *others_texts)], is_ours):
        if pair.other_id.startswith("1 "):
            one, two = pair.sample_id[2:], pair.other_id[2:]
            yield _row(Pair(one, two, pair.similarity, pair.method), unit_of[one], None, root)


def _listed(ours: Library, path: Path) -> Iterator[dict[str, Any]]:
    """Rows of samples whose item has a SHA-256 of a list, or that look as a PDQ of a list; its hash is `other_id`."""
    if path.suffix.lower() == hash_lists.SHA256:
        for row in ours.of_items(hash_lists.listed(path)):
            yield _row(Pair(row["sample_id"], row["sha256"], 1.0, "sha256"), row["unit"], None, str(path))
        return
    wanted = hash_lists.hashes(path)
    tables = HashTables(wanted)
    for kind in KINDS:
        shelf = ours.shelf(kind)
        detailed = np.flatnonzero(looks.has_detail(shelf.hashed.hashes))
        frames, places, bits = tables.near(shelf.hashed.hashes[detailed], hash_lists.BITS)
        for frame, place, apart in sorted(zip(frames.tolist(), places.tolist(), bits.tolist(), strict=True)):
            sample_id = shelf.sample_ids[int(shelf.hashed.owners[detailed[frame]])]
            pair = Pair(sample_id, wanted[place].tobytes().hex(), 1 - apart / 256, "pdq")
            yield _row(pair, shelf.unit_of(sample_id), None, str(path))


def _row(pair: Pair, unit: int, other_unit: int | None, other_run: str | None = None) -> dict[str, Any]:
    return {**vars(pair), "unit": unit, "other_unit": other_unit, "other_run": other_run}


def _digest(other: Library) -> str:
    """Of all hashes of another run folder that are looked for."""
    return hashlib.sha256(json.dumps(other.digests(), sort_keys=True).encode()).hexdigest()


def _parts(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row was found by, as the digests name it."""
    return str(row["unit"]), row["other_run"] or str(row["other_unit"])


def _rows(folder: RunFolder) -> list[dict[str, Any]]:
    path = folder.root / PAIRS
    rows: list[dict[str, Any]] = folder.read(path).to_pylist() if path.is_file() else []
    return [{"other_run": None, **row} for row in rows]


def _compared(folder: RunFolder) -> dict[str, str]:
    """The digest of each unit's hashes and of each other folder's, as they were compared."""
    path = folder.root / PAIRS
    if not path.is_file():
        return {}
    metadata = read_schema(path).metadata or {}
    found: dict[str, str] = json.loads(metadata.get(_DIGESTS, b"{}"))
    return found
