"""Narrated videos into interleaved documents: the tokenize stage of recipes with `tokens.documents = "narrated"`.

A sample of key frames (`curation/expanders/narrated.py`) and the words that were spoken meanwhile become documents
`BOS (text | image)* EOS`; a recording without pictures becomes its words. Other samples are tokenized as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reelmill.curation.clip_messages import Clip, Decoded, decode_clips
from reelmill.curation.clips import VIDEO_JOB
from reelmill.curation.narration import Block, joined, keyframe_blocks, sentences, split
from reelmill.isolation.failures import failure_of
from reelmill.isolation.parent import ItemFailed
from reelmill.media.source import Source
from reelmill.orchestration.tokens import Made, TokenWorker
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize import documents
from reelmill.tokenize.documents.writing import Codes, part_ids
from reelmill.tokenize.shards import document_row

_ENDS = 2  # BOS and EOS


class NarratedWorker(TokenWorker):
    """Documents of narrated videos and recordings, several of a long one."""

    def _item(self, scored: Mapping[str, Any], samples: list[dict[str, Any]]) -> Made:
        if samples[0]["kind"] not in ("video", "audio"):
            return super()._item(scored, samples)
        made = Made()
        try:
            source = self._child.opened(self._sources[samples[0]["item_id"]])
            self._check_same(source, scored)
            spoken = sentences(self._segments(samples[0]["item_id"]), self._config.narration)
            for sample in samples:
                try:
                    made.rows += self._narrated(source, sample, spoken)
                except Exception as error:
                    made.failures[sample["sample_id"]] = failure_of(error)
        except ItemFailed as failure:
            made.failures.update({sample["sample_id"]: failure for sample in samples})
        return made

    def _segments(self, item_id: str) -> list[dict[str, Any]]:
        with LedgerQueries(self._folder.root) as ledger:
            return ledger.rows("SELECT words FROM chosen_transcripts WHERE item_id = $1 ORDER BY segment", [item_id])

    def _narrated(self, source: Source, sample: dict[str, Any], spoken: Sequence[Block]) -> list[dict[str, Any]]:
        """The token rows of a sample: its key frames, and the sentences whose middle lies in its span."""
        start_s, end_s = sample["start_s"], sample["end_s"]
        inside = [s for s in spoken if start_s <= (s.start_s + s.end_s) / 2 < end_s]
        frames = keyframe_blocks(sample["keyframes"] or ()) if sample["kind"] == "video" else []
        if not (inside or frames):
            raise ItemFailed("item", "nothing_to_tell: no key frame and no word")
        codes = self._codes(source, sample, frames)
        most = self._config.narration.max_tokens - _ENDS
        groups = list(split([*frames, *inside], lambda block: len(self._ids(block, codes, True)), most))
        if not groups:
            raise ItemFailed("item", f"too_long: no block has at most {most} tokens (tokens.narration.max_tokens)")
        return [self._row(sample, part, group, codes) for part, group in enumerate(groups)]

    def _codes(self, source: Source, sample: dict[str, Any], frames: Sequence[Block]) -> dict[int, Codes]:
        """Codes [H, W] of each key frame by its index."""
        if not frames:
            return {}
        size = self._size(sample)
        clips = [
            {"key": str(block.frame), "start_s": block.start_s, "fps": 1.0, "frames": 1, **size} for block in frames
        ]
        return decode_clips(self._child, VIDEO_JOB, source, self._options, clips, self._encoded)

    def _encoded(self, clips: Iterator[Decoded]) -> dict[int, Codes]:
        return {int(clip["key"]): self._tokenizer.encode_image(frames[0]) for clip, frames in clips}

    def _row(
        self, sample: dict[str, Any], part: int, group: Sequence[Block], codes: Mapping[int, Codes]
    ) -> dict[str, Any]:
        pieces, spans, at = [], [], 1
        for number, block in enumerate(group):
            follows = number > 0 and group[number - 1].frame is None
            piece = self._part(block, codes, follows)
            length = len(part_ids(self._vocab, piece))
            kind = "text" if block.frame is None else "image"
            place = {"item_id": sample["item_id"], "start_s": block.start_s, "end_s": block.end_s}
            spans.append({"kind": kind, "start": at, "stop": at + length, **place})
            pieces.append(piece)
            at += length
        known = {key: sample[key] for key in ("sample_id", "item_id", "licence", "source", "url", "uri")}
        ids = documents.interleaved_document(self._vocab, pieces)
        start_s = min(block.start_s for block in group)
        return document_row(
            self._vocab, ids, fingerprint=self._fingerprint, part=part, start_s=start_s, blocks=spans, **known
        )

    def _part(self, block: Block, codes: Mapping[int, Codes], follows: bool) -> documents.Part:
        """A block as a part of a document; `follows`: after another sentence, from which it is set apart."""
        if block.frame is not None:
            return documents.Visual(codes[block.frame])
        said = f"[{block.start_s:.1f}s] {block.text}" if self._config.narration.timestamps else block.text
        return joined(["x", said])[1:] if follows else said

    def _ids(self, block: Block, codes: Mapping[int, Codes], follows: bool) -> Any:
        return part_ids(self._vocab, self._part(block, codes, follows))

    def _size(self, sample: dict[str, Any]) -> Clip:
        """Pixels of a frame of the sample."""
        (clip,) = super()._clips({**sample, "kind": "image"})
        return {"height": clip["height"], "width": clip["width"]}
