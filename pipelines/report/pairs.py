"""Original beside reconstruction: a document's codes decoded again, next to the frames that they were made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelmill.errors import WeightsError
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.tokens import vocabulary
from reelmill.orchestration.tokens_config import TokensConfig
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report.gather import DOCUMENTS
from reelmill.pipelines.report.pictures import Pictures, strip
from reelmill.tokenize import vision
from reelmill.tokenize.documents import parse
from reelmill.tokenize.vision.evaluate import psnr

VIDEOS, IMAGES = 6, 2
MOST_PIXELS = 2_500_000
"""Pixels of one reconstruction; a document of more shows its beginning."""
PAIR_BYTES = 190_000

_SHOWN = f"""
SELECT t.sample_id, t.item_id, t.kind, t.start_s, t.fps, t.tokens, t.n_tokens, t.grid_t, t.grid_h, t.grid_w, t.uri,
    s.caption
FROM (SELECT *, row_number() OVER (PARTITION BY item_id ORDER BY sample_id) AS nth FROM {DOCUMENTS}
    WHERE part = 0 AND kind = $2) t JOIN samples s USING (sample_id)
ORDER BY nth, t.sample_id LIMIT $3"""


def pairs(
    ledger: LedgerQueries, config: TokensConfig, run: Mapping[str, Any], pictures: Pictures, beside: str = ""
) -> dict[str, Any]:
    """{"pairs": tiles, "problem": why there are none}; `run` is `gather.run_facts`.

    `beside` names another vision tokenizer, whose reconstruction of the same frames comes third. Raises WeightsError
    where it cannot be loaded.
    """
    other = vision.load(beside) if beside else None
    made_by = run.get("vision_tokenizer", {}).get("fingerprint", "")
    torch.set_num_threads(1)  # small pictures: several threads only wait for one another
    try:
        tokenizer = vision.load(config.tokenizer)
    except WeightsError as error:
        return {"pairs": [], "problem": f"The vision tokenizer cannot be loaded: {error}"}
    if made_by and made_by != tokenizer.fingerprint:
        message = f"The tokens were made by another {config.tokenizer} (fingerprint {made_by[:12]})."
        return {"pairs": [], "problem": f"{message} This installation has {tokenizer.fingerprint[:12]}."}
    fingerprint = run.get("tokens_fingerprint", "")
    most = {"video": VIDEOS, "image": IMAGES}
    rows = [row for kind, number in most.items() for row in ledger.rows(_SHOWN, [fingerprint, kind, number])]
    made = [pair for pair in (_pair(row, config, tokenizer, other, pictures) for row in rows) if pair]
    return {"pairs": made, "problem": "" if made else "There are no documents whose pictures can be shown."}


def _pair(
    row: dict[str, Any],
    config: TokensConfig,
    tokenizer: vision.VisionTokenizer,
    other: vision.VisionTokenizer | None,
    pictures: Pictures,
) -> dict[str, Any] | None:
    codes = parse(vocabulary(config, tokenizer), np.array(row["tokens"], np.int32)).codes
    height, width = row["grid_h"] * tokenizer.spatial, row["grid_w"] * tokenizer.spatial
    latents = min(len(codes), max(MOST_PIXELS // (height * width * tokenizer.temporal), 1))
    clip = {"key": row["sample_id"], "start_s": row["start_s"] or 0.0, "width": width, "height": height}
    if row["kind"] == "video":
        clip.update(fps=row["fps"], frames=latents * tokenizer.temporal)
    try:
        ((_, original),) = pictures.decode(row["kind"], row["item_id"], [clip], list)
    except ItemFailed:
        return None  # the source is gone or changed; its tile in the contact sheet says so
    decoded = tokenizer.decode(codes[:latents]) if row["kind"] == "video" else tokenizer.decode_image(codes[0])[None]
    seconds = len(original) / row["fps"] if row["kind"] == "video" else 1.0
    facts = {key: row[key] for key in ("sample_id", "uri", "kind", "n_tokens", "grid_t", "grid_h", "grid_w", "caption")}
    shown: dict[str, Any] = {
        "original": strip(original, seconds, PAIR_BYTES),
        "decoded": strip(decoded, seconds, PAIR_BYTES),
        "beside": _beside(other, original, row["kind"], seconds),
    }
    return {**facts, **shown, "psnr": psnr(original, decoded), "width": width, "height": height, "fps": row["fps"]}


def _beside(
    other: vision.VisionTokenizer | None, original: npt.NDArray[np.uint8], kind: str, seconds: float
) -> dict[str, Any] | None:
    """What another tokenizer makes of the frames, uint8 [T, H, W, 3]."""
    if other is None:
        return None
    if kind == "video":
        again = other.decode(other.encode(original), original.shape[:3])
    else:
        again = other.decode_image(other.encode_image(original[0]), original.shape[1:3])[None]
    return {"name": other.name, "strip": strip(again, seconds, PAIR_BYTES), "psnr": psnr(original, again)}
