"""The decode floor: what plainly decoding a few of the run's own videos costs on this machine, now."""

from __future__ import annotations

from typing import Any

from reelmill.isolation.messages import FLOOR
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report.pictures import Pictures

JOB = "reelmill.curation.clips:decode_only"
VIDEOS = 5
MOST_S = 120.0

_VIDEOS = """SELECT item_id, uri FROM items WHERE kind = 'video' AND status = 'done' AND duration_s <= $1
ORDER BY item_id LIMIT $2"""


def measure(ledger: LedgerQueries, pictures: Pictures) -> dict[str, Any] | None:
    """CPU seconds and seconds of video over a few whole videos, drawn by their ids; None without any."""
    cpu_s = media_s = 0.0
    videos = 0
    for row in ledger.rows(_VIDEOS, [MOST_S, VIDEOS]):
        try:
            (found,) = pictures.run(JOB, row["item_id"], FLOOR)
        except ItemFailed:
            continue  # the source is gone; the floor is that of the others
        cpu_s, media_s, videos = cpu_s + found["cpu_s"], media_s + found["media_s"], videos + 1
    return {"cpu_s": cpu_s, "media_s": media_s, "videos": videos, "rate": media_s / cpu_s} if cpu_s > 0 else None
