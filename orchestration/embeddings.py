"""`embeddings/`: the vectors of a run folder's samples, a file a unit, written before the unit's commit mark."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reelmill.curation.embeddings import BLOCK, EMBEDDINGS, Block
from reelmill.curation.interfaces import VECTOR
from reelmill.orchestration.runfolder import RunFolder

TABLE = "embeddings"


def write_vectors(folder: RunFolder, unit: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Commit the vectors of a unit's sample rows; one that was measured before and is not given now stays."""
    before = _vectors(folder, unit)
    kept = []
    for row in rows:
        model = row.get("embedding_model")
        vector = row.get(VECTOR)
        if model is not None and vector is None:
            vector = before.get((row["sample_id"], model))
        if vector is not None:
            kept.append({"unit": unit, "sample_id": row["sample_id"], "model": model, "vector": vector})
    path = folder.unit_path(TABLE, unit)
    if kept:
        folder.commit(path, pa.Table.from_pylist(kept, schema=EMBEDDINGS))
    elif path.is_file():
        folder.remove(path)


def blocks(
    folder: RunFolder, model: str, units: Iterable[int], wanted: Container[str] | None = None
) -> Iterator[Block]:
    """The vectors of a model in units, those of `wanted` samples, about BLOCK at a time."""
    ids: list[str] = []
    parts: list[npt.NDArray[np.float32]] = []
    for unit in units:
        path = folder.unit_path(TABLE, unit)
        if not path.is_file():
            continue
        table = folder.read(path)
        is_asked = [
            row_model == model and (wanted is None or sample_id in wanted)
            for row_model, sample_id in zip(table["model"].to_pylist(), table["sample_id"].to_pylist(), strict=True)
        ]
        table = table.filter(pa.array(is_asked, pa.bool_()))
        if not len(table):
            continue
        ids += table["sample_id"].to_pylist()
        flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        parts.append(flat.reshape(len(table), -1).astype(np.float32))
        if len(ids) >= BLOCK:
            yield Block(ids, np.concatenate(parts))
            ids, parts = [], []
    if ids:
        yield Block(ids, np.concatenate(parts))


def _vectors(folder: RunFolder, unit: int) -> dict[tuple[str, str], npt.NDArray[np.float16]]:
    """The vectors of a unit as they are, by sample and model."""
    path = folder.unit_path(TABLE, unit)
    if not path.is_file():
        return {}
    rows = folder.read(path).to_pylist()
    return {(row["sample_id"], row["model"]): np.asarray(row["vector"], np.float16) for row in rows}
