"""Web pages into interleaved documents: the tokenize stage of recipes with `tokens.documents = "interleaved"`.

A page's main text and those of its images that the view `page_images` leaves in become documents
`BOS (text | image)* EOS`, in reading order. Other samples are tokenized as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelmill.curation.clip_messages import Decoded, decode_clips
from reelmill.curation.clips import IMAGE_JOB, TEXT_JOB
from reelmill.errors import ConfigError
from reelmill.isolation.failures import failure_of
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.tokens import Made, TokenWorker
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize import documents
from reelmill.tokenize.documents.writing import Codes, part_ids
from reelmill.tokenize.shards import document_row

_ENDS = 2  # BOS and EOS
_MARK = re.compile("\ufffc(\\d{1,3})\ufffc")
_IMAGES = """SELECT p.item_id, p.number, p.position, p.image_id, p.width, p.height, i.sha256 FROM page_images p
    JOIN items i ON i.item_id = p.image_id WHERE left_out IS NULL AND list_contains($1::VARCHAR[], p.item_id)
    ORDER BY p.item_id, p.number"""


@dataclass(frozen=True)
class _Piece:
    """A paragraph, or an image, of a document: the item that it is from, its ids."""

    item_id: str
    part: documents.Part
    n_tokens: int

    @property
    def kind(self) -> str:
        return "text" if isinstance(self.part, str) else "image"


class InterleavedWorker(TokenWorker):
    """Documents of pages, several of a long one."""

    def __call__(self, task: Task) -> Receipt:
        """Tokenize and commit one unit's samples."""
        texts = sorted({row["item_id"] for row in task["rows"] if row["kind"] == "text"})
        with LedgerQueries(self._folder.root) as ledger:
            self._page_images = dict(group_by(ledger.rows(_IMAGES, [texts]), "item_id"))
        return super().__call__(task)

    def _item(self, scored: Mapping[str, Any], samples: list[dict[str, Any]]) -> Made:
        images = self._page_images.get(samples[0]["item_id"])
        if not images:
            return super()._item(scored, samples)
        made = Made()
        try:
            texts = self._texts(scored, samples, images)
        except Exception as error:
            made.failures.update({sample["sample_id"]: failure_of(error) for sample in samples})
            return made
        for sample in samples:
            try:
                made.rows += self._page(sample, texts[sample["sample_id"]], images)
            except Exception as error:
                made.failures[sample["sample_id"]] = failure_of(error)
        return made

    def _texts(
        self, scored: Mapping[str, Any], samples: list[dict[str, Any]], images: Sequence[Mapping[str, Any]]
    ) -> dict[str, str]:
        """The words of each sample of a page by its id, with a mark of its number before each image."""
        source = self._child.opened(self._sources[samples[0]["item_id"]])
        self._check_same(source, scored)
        marks = [image["position"] for image in images]
        clips = [{**clip, "marks": marks} for sample in samples for clip in self._clips(sample)]
        options = self._options

        def take(found: Iterator[Decoded]) -> dict[str, str]:
            return {clip["key"].partition("/")[0]: words for clip, words in found}

        return decode_clips(self._child, TEXT_JOB, source, options, clips, take)

    def _page(self, sample: dict[str, Any], text: str, images: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        pieces: list[_Piece] = []
        for place, part in enumerate(_MARK.split(text)):
            if place % 2:
                image = images[int(part)]
                pieces.append(self._piece(image["image_id"], documents.Visual(self._codes(image))))
            else:
                pieces += [self._piece(sample["item_id"], paragraph) for paragraph in _paragraphs(part)]
        most = self._config.interleaved.max_tokens - _ENDS
        groups = list(_groups(pieces, most))
        if not groups:
            raise ItemFailed("item", f"too_long: no paragraph or image has at most {most} tokens")
        return [self._row(sample, number, group) for number, group in enumerate(groups)]

    def _piece(self, item_id: str, part: documents.Part) -> _Piece:
        return _Piece(item_id, part, len(part_ids(self._vocab, part)))

    def _codes(self, image: Mapping[str, Any]) -> Codes:
        """Codes [H, W] of an image of the page. ItemFailed where it changed, or has a shape that no grid has."""
        source = self._child.opened(self._sources[image["image_id"]])
        self._check_same(source, image)
        cell = self._tokenizer.spatial
        try:
            grid = documents.grid_for_ratio(
                f"{image['width']}:{image['height']}", self._config.area, cell, self._vocab.layout
            )
        except ConfigError as error:
            raise ItemFailed("item", f"too_narrow: {error}") from None
        clip = {"key": "image", "height": grid[0] * cell, "width": grid[1] * cell}

        def encoded(found: Iterator[Decoded]) -> Codes:
            return next(self._tokenizer.encode_image(frames[0]) for _, frames in found)

        return decode_clips(self._child, IMAGE_JOB, source, self._options, [clip], encoded)

    def _row(self, sample: dict[str, Any], number: int, group: Sequence[_Piece]) -> dict[str, Any]:
        spans, at = [], 1
        for piece in group:
            place = {"item_id": piece.item_id, "start_s": 0.0, "end_s": 0.0}
            spans.append({"kind": piece.kind, "start": at, "stop": at + piece.n_tokens, **place})
            at += piece.n_tokens
        ids = documents.interleaved_document(self._vocab, [piece.part for piece in group])
        known = {key: sample[key] for key in ("sample_id", "item_id", "licence", "source", "url", "uri")}
        return document_row(
            self._vocab, ids, fingerprint=self._fingerprint, part=number, start_s=0.0, blocks=spans, **known
        )


def _paragraphs(text: str) -> list[str]:
    """Paragraphs with the blank lines behind them, so that together they are the text again."""
    return [paragraph for paragraph in re.findall(r".+?(?:\n\n+|$)", text, re.DOTALL) if paragraph.strip()]


def _groups(pieces: Sequence[_Piece], most: int) -> Iterator[list[_Piece]]:
    """Pieces in their order, in documents of at most `most` tokens; one that has more is left out."""
    held: list[_Piece] = []
    size = 0
    for piece in pieces:
        if piece.n_tokens > most:
            continue
        if size + piece.n_tokens > most:
            yield held
            held, size = [], 0
        held.append(piece)
        size += piece.n_tokens
    if held:
        yield held
