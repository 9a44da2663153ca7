"""A map of the samples: their embeddings along the two directions in which they differ most, as inline SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from reelmill.draws import uniform
from reelmill.orchestration.embeddings import blocks
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

MOST = 1500
"""Samples on the map: the eigenvectors of so many take a second."""
WIDTH, HEIGHT, SIDE = 720, 420, 8
PARTS = {"kept": "kept", "rejected": "here", "undecided": "elsewhere"}
"""The style of each verdict."""

_MODELS = """SELECT embedding_model AS model, list(DISTINCT unit ORDER BY unit) AS units, count(*) AS samples
FROM scored WHERE embedding_model IS NOT NULL GROUP BY ALL ORDER BY samples DESC, model LIMIT 1"""
_VERDICTS = "SELECT sample_id, kind, uri, start_s, status, rule FROM samples WHERE list_contains($1, sample_id)"


@dataclass(frozen=True)
class EmbeddingMap:
    """`picture` shows `shown` of the `samples` that have an embedding of `model`; its two directions hold the share
    `variance` of what tells them apart."""

    model: str
    samples: int
    shown: int
    variance: float
    picture: Markup


def embedding_map(folder: RunFolder, ledger: LedgerQueries) -> EmbeddingMap | None:
    """The map of the model with the most embeddings; None where fewer than three samples have one.

    Of many samples it shows those of some units, which are drawn by their numbers.
    """
    models = ledger.rows(_MODELS)
    if not models:
        return None
    ids, vectors = _drawn(folder, models[0]["model"], models[0]["units"])
    rows = {row["sample_id"]: row for row in ledger.rows(_VERDICTS, [ids])}
    known = [place for place, sample_id in enumerate(ids) if sample_id in rows]
    if len(known) < 3:
        return None
    places, variance = principal(vectors[known])
    picture = _svg([rows[ids[place]] for place in known], places)
    return EmbeddingMap(models[0]["model"], models[0]["samples"], len(known), variance, picture)


def principal(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Vectors [N, D] along their two principal axes, [N, 2], and the share of the variance that lies there.

    A point's sign is free in a principal component analysis: here the largest coordinate of each axis is positive.
    """
    centered = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centered @ centered.T)
    largest = np.maximum(values[[-1, -2]], 0)
    places = axes[:, [-1, -2]] * np.sqrt(largest)
    signs = np.sign(places[np.abs(places).argmax(axis=0), [0, 1]])
    total = float(values.sum())
    return (places * np.where(signs == 0, 1, signs)).astype(np.float32), float(largest.sum()) / total if total else 1.0


def _drawn(folder: RunFolder, model: str, units: list[int]) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Ids and vectors of at most MOST samples."""
    ids: list[str] = []
    parts = []
    for unit in sorted(units, key=lambda unit: uniform(f"map {unit}")):
        for block in blocks(folder, model, [unit]):
            ids += block.sample_ids
            parts.append(block.vectors)
        if len(ids) >= MOST:
            break
    return ids[:MOST], np.concatenate(parts)[:MOST] if parts else np.empty((0, 1), np.float32)


def _svg(rows: list[dict[str, Any]], places: npt.NDArray[np.float32]) -> Markup:
    """A dot a sample, rejected ones under kept ones; pointing at it names it."""
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (np.array([WIDTH, HEIGHT]) - 2 * SIDE) / np.maximum(high - low, 1e-9)
    at = SIDE + (places - low) * scale
    order = sorted(range(len(rows)), key=lambda n: rows[n]["status"] == "kept")
    dots = "".join(_dot(rows[n], float(at[n, 0]), HEIGHT - float(at[n, 1])) for n in order)
    label = f"Map of {len(rows)} samples by their embeddings"
    return Markup(  # noqa: S704  (every value in it is a number or escaped)
        f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{dots}</svg>'
    )


def _dot(row: dict[str, Any], x: float, y: float) -> str:
    second = f" at {row['start_s']:.1f} s" if row["kind"] == "video" else ""
    why = f": {row['rule']}" if row["rule"] else ""
    title = escape(f"{row['uri']}{second}, {row['status']}{why}")
    return f'<circle class="{PARTS[row["status"]]}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>'
