"""Narrated videos into interleaved documents: the tokenize stage of recipes with `tokens.documents = "narrated"`.

A sample of key frames (`curation/expanders/narrated.py`) and the words that were spoken meanwhile become documents
`BOS (text | image)* EOS`; a recording without pictures becomes its words. Other samples are tokenized as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelmill.config import from_dict
from reelmill.curation.annotations import config as annotation_config
from reelmill.curation.annotations.config import AnnotationConfig
from reelmill.curation.clip_messages import Clip, Decoded, decode_clips
from reelmill.curation.clips import VIDEO_JOB
from reelmill.curation.narration import Block, joined, keyframe_blocks, sentences, split
from reelmill.curation.scoring import NARRATED
from reelmill.isolation.failures import failure_of
from reelmill.isolation.parent import ItemFailed
from reelmill.media.source import Source
from reelmill.orchestration.picture_spool import kept_pictures
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.tokens import Made, TokenWorker
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize import documents, vision
from reelmill.tokenize.documents.writing import Codes, part_ids
from reelmill.tokenize.layout import EMU3, LAYOUTS
from reelmill.tokenize.shards import document_row

_ENDS = 2  # BOS and EOS


@dataclass(frozen=True)
class _Piece:
    """A part of a document, its kind in `blocks`, and the seconds that it tells of."""

    start_s: float
    end_s: float
    kind: str
    part: documents.Part


@dataclass(frozen=True)
class Carried:
    """Annotations of a sample. `captions`: by the index of the first key frame of their scene; `told`: the summary of
    the whole, then those of segments, each with its span."""

    captions: dict[int, str]
    told: list[tuple[float, float, str]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], frames: Sequence[Block]) -> Carried:
        """From rows of `annotations`, the summary of the whole first."""
        first: dict[float | None, Block] = {}
        for block in frames:
            first.setdefault(block.scene_s, block)
        shown = (row for row in rows if row["kind"] == "scene" and row["start_s"] in first)
        scenes = [(first[row["start_s"]].frame, row["text"]) for row in shown]
        captions = {frame: text for frame, text in scenes if frame is not None}
        return cls(captions, [(r["start_s"], r["end_s"], r["text"]) for r in rows if r["kind"] != "scene"])

    @property
    def all_summaries(self) -> list[str]:
        """All of them: what a document's may cost."""
        return [text for _, _, text in self.told]

    def summaries(self, start_s: float, end_s: float) -> list[str]:
        """Those of what is told from `start_s` to `end_s`."""
        return [text for begins_s, stops_s, text in self.told if begins_s <= end_s and stops_s >= start_s]


def wanted_pictures(recipe: Recipe) -> dict[str, Any] | None:
    """What the score stage is to keep of key frames, as arguments of `code_grid`; None where nothing is."""
    is_narrated = recipe.tokens.documents == "narrated" and NARRATED in recipe.score.expanders.values()
    if not (is_narrated and recipe.score.keyframes.keep):
        return None
    tokenizer = vision.load(recipe.tokens.tokenizer)
    layout = LAYOUTS[recipe.tokens.layout] if recipe.tokens.layout else tokenizer.layout
    return {"area": recipe.tokens.area, "cell": tokenizer.spatial, "whole_pixels": layout != EMU3}


class NarratedWorker(TokenWorker):
    """Documents of narrated videos and recordings, several of a long one."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._annotated = annotation_config.fingerprint(from_dict(AnnotationConfig, settings["annotations"]))

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
        inside = [s for s in spoken if start_s <= s.middle_s < end_s]
        frames = self._frames(sample) if sample["kind"] == "video" else []
        if not (inside or frames):
            raise ItemFailed("item", "nothing_to_tell: no key frame and no word")
        codes = self._codes(source, sample, frames)
        carried = Carried.of(self._annotations(sample), frames)
        most = self._config.narration.max_tokens - _ENDS - self._length(self._global(carried.all_summaries))
        groups = list(split([*frames, *inside], lambda block: self._length(self._parts(block, codes, carried)), most))
        if not groups:
            raise ItemFailed("item", f"too_long: no block has at most {most} tokens (tokens.narration.max_tokens)")
        return [self._row(sample, part, group, codes, carried) for part, group in enumerate(groups)]

    def _frames(self, sample: dict[str, Any]) -> list[Block]:
        """The key frames that documents show."""
        frames = keyframe_blocks(sample["keyframes"] or ())
        if not self._config.narration.distinct:
            return frames
        with LedgerQueries(self._folder.root) as ledger:
            query = "SELECT DISTINCT time_s FROM alike WHERE sample_id = $1 AND other_item_id = item_id"
            repeated = {row["time_s"] for row in ledger.rows(query, [sample["sample_id"]])}
        return [block for block in frames if block.start_s not in repeated]

    def _codes(self, source: Source, sample: dict[str, Any], frames: Sequence[Block]) -> dict[int, Codes]:
        """Codes [H, W] of each key frame by its index: of the pictures that were kept, and of those decoded again."""
        if not frames:
            return {}
        size = self._size(sample)
        left = {block.start_s: str(block.frame) for block in frames}
        codes: dict[int, Codes] = {}
        kept = kept_pictures(self._folder, sample["unit"], sample["item_id"], left, (size["height"], size["width"]))
        for time_s, picture in kept:
            codes[int(left.pop(time_s))] = self._tokenizer.encode_image(picture)
        clips = [{"key": key, "start_s": time_s, "fps": 1.0, "frames": 1, **size} for time_s, key in left.items()]
        if clips:
            codes |= decode_clips(self._child, VIDEO_JOB, source, self._options, clips, self._encoded)
        return codes

    def _encoded(self, clips: Iterator[Decoded]) -> dict[int, Codes]:
        return {int(clip["key"]): self._tokenizer.encode_image(frames[0]) for clip, frames in clips}

    def _row(
        self, sample: dict[str, Any], part: int, group: Sequence[Block], codes: Mapping[int, Codes], carried: Carried
    ) -> dict[str, Any]:
        start_s = min(block.start_s for block in group)
        said = self._global(carried.summaries(start_s, max(block.end_s for block in group)))
        pieces = [_Piece(sample["start_s"], sample["end_s"], *piece) for piece in said]
        for number, block in enumerate(group):
            made = self._parts(block, codes, carried, before=group[number - 1].text if number else "")
            pieces += [_Piece(block.start_s, block.end_s, *piece) for piece in made]
        spans, at = [], 1
        for piece in pieces:
            length = len(part_ids(self._vocab, piece.part))
            place = {"item_id": sample["item_id"], "start_s": piece.start_s, "end_s": piece.end_s}
            spans.append({"kind": piece.kind, "start": at, "stop": at + length, **place})
            at += length
        known = {key: sample[key] for key in ("sample_id", "item_id", "licence", "source", "url", "uri")}
        ids = documents.interleaved_document(self._vocab, [piece.part for piece in pieces])
        return document_row(
            self._vocab, ids, fingerprint=self._fingerprint, part=part, start_s=start_s, blocks=spans, **known
        )

    def _parts(
        self, block: Block, codes: Mapping[int, Codes], carried: Carried, before: str = "x"
    ) -> list[tuple[str, documents.Part]]:
        """What a block is in a document, by kind: a sentence, or a key frame after its scene's caption.

        `before`: the sentence that it follows, from which it is set apart.
        """
        if block.frame is not None:
            caption = carried.captions.get(block.frame)
            thought = [("thought", self._thought(caption))] if caption else []
            return [*thought, ("image", documents.Visual(codes[block.frame]))]
        said = f"[{block.start_s:.1f}s] {block.text}" if self._config.narration.timestamps else block.text
        return [("text", joined([before, said])[len(before) :])]

    def _global(self, summaries: Sequence[str]) -> list[tuple[str, documents.Part]]:
        """The thought of a whole document, where there is one."""
        return [("global_thought", self._thought("\n".join(summaries), is_global=True))] if summaries else []

    def _thought(self, text: str, *, is_global: bool = False) -> documents.Part:
        """Between marks of its own, or as lines of text in a layout that has none."""
        return documents.Thought(text, is_global) if self._vocab.layout.has_spans else f"\n{text}\n"

    def _length(self, parts: Sequence[tuple[str, documents.Part]]) -> int:
        """Tokens of parts."""
        return sum(len(part_ids(self._vocab, part)) for _, part in parts)

    def _annotations(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        """The good annotations that documents of the sample carry."""
        carry = self._config.narration.carry
        kinds = [*(["scene"] if "captions" in carry else []), *(["segment", "summary"] if "summaries" in carry else [])]
        if not kinds:
            return []
        with LedgerQueries(self._folder.root) as ledger:
            return ledger.rows(
                """SELECT kind, start_s, end_s, text FROM annotations JOIN narrations USING (sample_id, basis)
                WHERE sample_id = $1 AND fingerprint = $2 AND problem IS NULL AND list_contains($3::VARCHAR[], kind)
                ORDER BY kind DESC, start_s""",
                [sample["sample_id"], self._annotated, kinds],
            )

    def _size(self, sample: dict[str, Any]) -> Clip:
        """Pixels of a frame of the sample."""
        (clip,) = super()._clips({**sample, "kind": "image"})
        return {"height": clip["height"], "width": clip["width"]}
