"""Clusters of copies: what stays beside what goes."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report import sheets
from reelmill.pipelines.report.pictures import Pictures

CLUSTERS = 8
MEMBERS = 5

_COUNTED = """
SELECT count(DISTINCT duplicate_cluster) AS clusters, count(*) AS members,
    count(*) FILTER (status = 'kept') AS kept
FROM samples WHERE duplicate_cluster IS NOT NULL"""

_SHOWN = f"""
WITH chosen AS (
    SELECT duplicate_cluster, count(*) AS members FROM samples WHERE duplicate_cluster IS NOT NULL
    GROUP BY ALL ORDER BY members DESC, duplicate_cluster LIMIT $1)
SELECT {sheets.COLUMNS}, duplicate_cluster, members, status, duplicate_similarity, duplicate_method
FROM samples JOIN chosen USING (duplicate_cluster)
QUALIFY row_number() OVER (PARTITION BY duplicate_cluster
    ORDER BY sample_id <> duplicate_cluster, status <> 'kept', duplicate_similarity DESC, sample_id) <= $2
ORDER BY members DESC, duplicate_cluster, sample_id <> duplicate_cluster, status <> 'kept', duplicate_similarity DESC,
    sample_id"""
"""The largest clusters; in each the best sample first, then what is kept, then the nearest copies."""


def clusters(ledger: LedgerQueries, pictures: Pictures) -> dict[str, Any]:
    """How many clusters, members and kept ones there are, and the tiles of the largest: `shown`, a list of clusters."""
    (counted,) = ledger.rows(_COUNTED)
    tiles = sheets.tiles(ledger.rows(_SHOWN, [CLUSTERS, MEMBERS]), pictures)
    shown = [list(members) for _, members in groupby(tiles, key=lambda tile: tile["duplicate_cluster"])]
    return {**counted, "shown": shown}
