"""What the workers have in common that show narrated samples to models: their sentences, and their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.config import from_dict
from reelmill.curation.clip_messages import Decoded, decode_clips
from reelmill.curation.clips import VIDEO_JOB
from reelmill.curation.narration import Block, sentences
from reelmill.media.geometry import fit
from reelmill.orchestration.decoding_worker import DecodingWorker
from reelmill.orchestration.tokens_config import TokensConfig
from reelmill.orchestration.views import LedgerQueries

Row = Mapping[str, Any]


class StoryWorker(DecodingWorker):
    """A worker that reads transcripts and decodes key frames."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._narration = from_dict(TokensConfig, settings["tokens"]).narration

    def _segments(self, ledger: LedgerQueries, sample: Row) -> list[dict[str, Any]]:
        """The chosen transcript of a sample's item."""
        words = "SELECT words FROM chosen_transcripts WHERE item_id = $1 ORDER BY segment"
        return ledger.rows(words, [sample["item_id"]])

    def _sentences(self, ledger: LedgerQueries, sample: Row) -> list[Block]:
        """Sentences whose middle lies in the sample."""
        spoken = sentences(self._segments(ledger, sample), self._narration)
        return [s for s in spoken if sample["start_s"] <= s.middle_s < sample["end_s"]]

    def _pictures(self, sample: Row, blocks: Sequence[Block], short_side: int) -> list[npt.NDArray[np.uint8]]:
        """Key frames, uint8 [H, W, 3], the longer side at most three times the shorter. Raises ItemFailed."""
        width, height = fit(sample["width"], sample["height"], short_side, 3 * short_side)
        size = {"fps": 1.0, "frames": 1, "width": width, "height": height}
        clips = [{"key": str(block.frame), "start_s": block.start_s, **size} for block in blocks]

        def pictures(decoded: Iterator[Decoded]) -> dict[str, npt.NDArray[np.uint8]]:
            return {clip["key"]: frames[0] for clip, frames in decoded}

        made = decode_clips(self._child, VIDEO_JOB, self._sources[sample["item_id"]], self._options, clips, pictures)
        return [made[str(block.frame)] for block in blocks]
