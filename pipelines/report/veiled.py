"""What the page does not show before it is clicked."""

from __future__ import annotations

from collections.abc import Iterable

from reelmill.orchestration.views import LedgerQueries

FROM = 0.2
"""Probabilities of open_nsfw from which on a picture is blurred: its authors call those below safe."""


def veiled(ledger: LedgerQueries, sample_ids: Iterable[str]) -> dict[str, float]:
    """Those of the samples that may not be safe for work, each with its `nsfw`; none where no scorer has looked."""
    columns = {row["column_name"] for row in ledger.rows("DESCRIBE samples")}
    if "nsfw" not in columns:
        return {}
    query = "SELECT sample_id, nsfw FROM samples WHERE nsfw >= $1 AND list_contains($2, sample_id)"
    return {row["sample_id"]: row["nsfw"] for row in ledger.rows(query, [FROM, sorted(set(sample_ids))])}
