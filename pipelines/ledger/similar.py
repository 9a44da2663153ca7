"""`reelmill similar`: the samples of a run folder that show what another sample, a picture, a clip or words do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from reelmill.config import nearest as nearest_name
from reelmill.curation.embeddings import nearest
from reelmill.curation.scorers.embedding import Model, embedder, load_clip
from reelmill.errors import ConfigError
from reelmill.media.containers import HEAD
from reelmill.media.kinds import is_image
from reelmill.media.reader import MediaReader
from reelmill.media.source import Source
from reelmill.orchestration.embeddings import blocks
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

Vector = npt.NDArray[np.float32]
_FOUND = """SELECT sample_id, kind, uri, start_s, end_s, status, rule, coalesce(caption, alt) AS caption
FROM samples WHERE list_contains($1, sample_id)"""


def similar(out: Path, wanted: str, most: int, model: str = "") -> list[dict[str, Any]]:
    """The `most` samples nearest to what is wanted, with `similarity`, the cosine of their embeddings, nearest first.

    `wanted`: a sample_id of the folder (or how it begins), a file with a picture or a video, of which the frame in the
    middle counts, or words, which CLIP alone understands. All embeddings are compared, a block at a time. Raises
    ConfigError where the folder has no embeddings of that model, or nothing is meant by `wanted`.
    """
    folder = RunFolder(out).require()
    with LedgerQueries(folder.root) as ledger:
        known = ledger.rows(
            "SELECT embedding_model AS model, unit FROM scored WHERE embedding_model IS NOT NULL GROUP BY ALL"
        )
        chosen = _model(out, sorted({row["model"] for row in known}), model)
        units = sorted(row["unit"] for row in known if row["model"] == chosen)
        asked = (
            ledger.rows(
                """SELECT sample_id, unit FROM scored WHERE starts_with(sample_id, $1) AND embedding_model = $2
            ORDER BY sample_id LIMIT 2""",
                [wanted, chosen],
            )
            if wanted
            else []
        )
        vector, itself = _vector(folder, wanted, chosen, asked)
        found = [one for one in nearest(vector, blocks(folder, chosen, units), most + 1) if one[0] != itself][:most]
        rows = {row["sample_id"]: row for row in ledger.rows(_FOUND, [[sample_id for sample_id, _ in found]])}
    return [{"similarity": cosine, **rows[sample_id]} for sample_id, cosine in found if sample_id in rows]


def _model(out: Path, known: list[str], model: str) -> Model:
    if not known:
        raise ConfigError(
            f"{out} has no embeddings. Add [score.scorers.embedding] to its recipe and run the same `reelmill curate` "
            "with --update; where there is one, its weights were missing: reelmill models pull inception-fid"
        )
    if model and model not in known:
        raise ConfigError(f"no embeddings of {model!r} in {out}; {nearest_name(model, known)}")
    chosen = model or known[0]
    if chosen not in get_args(Model):
        raise ConfigError(f"{out} has embeddings of {chosen!r}, which this version does not know")
    return cast(Model, chosen)


def _vector(folder: RunFolder, wanted: str, model: Model, asked: list[dict[str, Any]]) -> tuple[Vector, str | None]:
    """The vector that is looked for, and the sample whose own it is."""
    if os.path.isfile(wanted):  # noqa: PTH113  (words may be too long for a path)
        return embedder(model)(_picture(folder, Path(wanted)))[0], None
    if len(asked) == 1 and len(wanted) >= _LEAST_OF_AN_ID:
        itself = asked[0]["sample_id"]
        (block,) = blocks(folder, model, [asked[0]["unit"]], {itself})
        return block.vectors[0], itself
    if model != "clip":
        raise ConfigError(
            f"{wanted!r} is neither a file nor one sample of {folder.root} with an embedding, and {model} understands "
            'no words. Give a sample_id or a file, or score with CLIP: [score.scorers.embedding] model = "clip"'
        )
    if not wanted.strip():
        raise ConfigError("similar to what? Give a sample_id, a file, or words")
    return load_clip().text(wanted).cpu().numpy().astype(np.float32), None


_LEAST_OF_AN_ID = 8
"""Characters of a sample_id that are enough."""


def _picture(folder: RunFolder, path: Path) -> npt.NDArray[np.uint8]:
    """[1, H, W, 3]: a picture as scorers see it, or the frame in the middle of a video."""
    decode = load_recipe(folder.root).score.decode
    source = Source(str(path.resolve()), 0, path.stat().st_size)
    with path.open("rb") as stream:
        is_picture = is_image(stream.read(HEAD))
    with MediaReader() as reader:
        if is_picture:
            return reader.picture(source, decode.short_side, decode.long_side)
        seconds, _ = reader.length(source)
        frames = reader.frames_at(source, 1.0, decode.short_side, start_s=seconds / 2, seconds=1.0)
        return next(frames)[None]
