"""Contact sheets: which clips the page shows, and their tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelmill.curation.rules import Rule
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report.pictures import Pictures

KEPT = 24
KEPT_TEXTS = 3
REJECTED = 48
REJECTED_A_RULE = 6
CAPTION = 300

COLUMNS = """sample_id, item_id, kind, start_s, end_s, width, height, rule, stage, value, threshold, uri,
    caption, caption_source, alt, source, licence, duplicate_of, duplicate_reason,
    (SELECT items.uri FROM items WHERE items.item_id = duplicate_of) AS original"""

_KEPT = f"""
SELECT {COLUMNS} FROM (
    SELECT *, row_number() OVER (PARTITION BY item_id ORDER BY sample_id) AS nth FROM samples
    WHERE status = 'kept' AND (kind = 'text') = $2)
ORDER BY nth, sample_id LIMIT $1"""
"""Ids are hashes, so this is a fair draw, of as many items as there are."""

_REJECTED = f"""
SELECT {COLUMNS} FROM (
    SELECT *, row_number() OVER (PARTITION BY rule
        ORDER BY abs(value - threshold) / nullif(abs(threshold), 0) NULLS LAST, sample_id) AS nth
    FROM samples WHERE status = 'rejected')
WHERE nth <= $2 ORDER BY nth, rule LIMIT $1"""
"""Nearest misses of each rule first."""


def kept(ledger: LedgerQueries, pictures: Pictures) -> list[dict[str, Any]]:
    """Tiles of kept samples, drawn by their ids, and a few texts."""
    rows = ledger.rows(_KEPT, [KEPT, False]) + ledger.rows(_KEPT, [KEPT_TEXTS, True])
    return tiles(rows, pictures)


def rejected(ledger: LedgerQueries, rules: Mapping[str, Rule], pictures: Pictures) -> list[dict[str, Any]]:
    """Tiles of rejected samples, rules in the recipe's order, nearest misses first."""
    found = tiles(ledger.rows(_REJECTED, [REJECTED, REJECTED_A_RULE]), pictures)
    order = {name: place for place, name in enumerate(("exact_duplicate", *rules))}
    return sorted(found, key=lambda tile: (order.get(tile["rule"], len(order)), tile["rule"]))


def tiles(rows: list[dict[str, Any]], pictures: Pictures) -> list[dict[str, Any]]:
    """Rows of COLUMNS, with `words`, and with a picture (`strip`), a text's `excerpt` or the `problem` with it."""
    seen = pictures.thumbnails(rows)
    made = []
    for row in rows:
        words = row["caption"] or row["alt"] or ""
        tile = {**row, "words": words[:CAPTION] + ("…" if len(words) > CAPTION else "")}
        picture = seen.get(row["sample_id"], ItemFailed("item", "no_frames: nothing could be decoded"))
        if isinstance(picture, ItemFailed):
            tile["problem"] = picture.reason
        elif isinstance(picture, str):
            tile["excerpt"] = picture
        else:
            tile["strip"] = picture
        made.append(tile)
    return made
