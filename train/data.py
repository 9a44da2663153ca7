"""The documents of one or several run folders, packed into rows and served as batches.

A batch is a pure function of (seed, epoch, batch index, data fingerprint): whatever the number of ranks, step n holds
the same rows, and a run resumes from its step number alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.documents import TokenKind, parse, video_part
from reelmill.tokenize.shards import KINDS, ShardIndex
from reelmill.train.lessons import Lesson, lessons
from reelmill.train.packing import Ints, Packing, Pieces, pack

_TEXT, _IMAGE, _VIDEO = (KINDS.index(kind) for kind in ("text", "image", "video"))
# A part of a video may state its duration with this many characters (each a token) more than the whole does.
_HEADER_GROWTH = 10
Kind = Literal["text", "image", "video", "interleaved"]
LOSS_KINDS = (TokenKind.TEXT, TokenKind.STRUCTURE, TokenKind.VISION)


@dataclass(kw_only=True)
class DataConfig:
    """How documents become batches, and what their tokens weigh in the loss."""

    context: int = 5120
    """Predictions of a row."""
    batch_rows: int = 1024
    """Rows of a step over all ranks; what does not run at once is accumulated."""
    micro_rows: int = 1
    """Rows of one forward pass on one rank."""
    kinds: tuple[Kind, ...] = ("text", "image", "video", "interleaved")
    """Kinds of documents that are trained on and validated with; Emu3's first stage leaves out video."""
    heldout: float = 0.01
    """Share of the items, chosen by a hash of item_id, that are kept from training and used for validation."""
    text_weight: float = 1.0
    structure_weight: float = 1.0
    vision_weight: float = 0.5
    """Loss weight of codes (Emu3, section 2.4)."""
    lessons: int = 0
    """Made-up documents of random codes that an epoch adds for each image and video (`lessons.py`)."""
    fingerprint: str = ""
    """First digits of the tokens' fingerprint, where a run folder has several tokenizations."""


class Corpus:
    """All documents of some run folders, numbered from 0, and which of them are held out.

    Raises DataError where the folders disagree on the vocabulary or the vision tokenizer.
    """

    def __init__(self, folders: Sequence[Path], selection: str | None, config: DataConfig) -> None:
        self._folders = list(folders)
        self._indexes = [ShardIndex(f, fingerprint=config.fingerprint or None, selection=selection) for f in folders]
        spaces = [(index.footer.tokenizer, index.footer.vocab) for index in self._indexes]
        footers = dict(zip(spaces, folders, strict=True))
        if len(footers) > 1:
            found = "; ".join(f"{where}: {codes[:12]}, {vocab}" for (codes, vocab), where in footers.items())
            raise DataError(f"the run folders' ids do not mean the same ({found}); tokenize them with one tokenizer.")
        if len(footers) < 1 or not sum(map(len, self._indexes)):
            raise DataError("there are no documents to train on; run `reelmill stats` on the run folder to see why.")
        self.tokenizer, self.vocab = spaces[0]
        self.n_tokens = self._column("n_tokens")
        self.kind = np.concatenate([index.kind for index in self._indexes])
        self._first = np.cumsum([0, *map(len, self._indexes)])
        self.heldout = self._held_out(config.heldout)

    def __len__(self) -> int:
        return len(self.n_tokens)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of what is trained on: the vocabulary, the vision tokenizer, every document's id and length."""
        digest = hashlib.blake2b(f"{self.vocab.to_json()} {self.tokenizer}".encode(), digest_size=16)
        for index in self._indexes:
            digest.update("\n".join(index.strings("doc_id")).encode())
        digest.update(self.n_tokens.tobytes())
        return digest.hexdigest()

    def name(self, document: int) -> str:
        """What a person finds the document by: its doc_id and run folder; those after the last are lessons."""
        if document >= len(self):
            return f"lesson {document - len(self)}"
        folder = int(np.searchsorted(self._first, document, side="right")) - 1
        doc_id = self._indexes[folder].strings("doc_id")[document - int(self._first[folder])]
        return f"{doc_id} in {self._folders[folder]}"

    def of_kinds(self, kinds: Sequence[Kind]) -> npt.NDArray[np.bool_]:
        """bool [documents]: which are of one of these kinds."""
        return np.isin(self.kind, [KINDS.index(kind) for kind in kinds])

    def read(self, documents: npt.ArrayLike) -> list[npt.NDArray[np.int32]]:
        """The tokens of documents, in the order asked for."""
        wanted = np.asarray(documents, dtype=np.int64)
        folder = np.searchsorted(self._first, wanted, side="right") - 1
        found: list[npt.NDArray[np.int32]] = [np.empty(0, dtype=np.int32)] * len(wanted)
        for number in np.unique(folder):
            slots = np.flatnonzero(folder == number)
            tokens = self._indexes[number].read(wanted[slots] - self._first[number])
            for slot, document in zip(slots, tokens, strict=True):
                found[slot] = document
        return found

    def pieces(self, documents: Ints, context: int) -> tuple[Pieces, Pieces, Ints]:
        """(pieces to keep whole, texts to cut, documents left out because they cannot be packed into `context`).

        Left out are images whose document is longer than the context and videos of which not one latent frame fits.
        """
        size = self.n_tokens[documents] - 1
        is_text = self.kind[documents] == _TEXT
        fits = size <= context
        texts = documents[is_text & (size > 0)]
        text_size = self.n_tokens[texts] - 1
        parts, left_out = self._video_parts(documents[~fits & (self.kind[documents] == _VIDEO)], context)
        whole = Pieces.whole(documents[fits & ~is_text], size[fits & ~is_text])
        left_out += documents[~fits & ~is_text & (self.kind[documents] != _VIDEO)].tolist()
        return (
            Pieces.join([whole, parts]),
            Pieces(texts, np.zeros_like(texts), text_size, text_size),
            np.array(left_out, dtype=np.int64),
        )

    def _video_parts(self, documents: Ints, context: int) -> tuple[Pieces, list[int]]:
        """Videos cut into parts of as many latent frames as fit, and those of which not one frame fits."""
        cut: list[tuple[int, int, int, int]] = []
        left_out: list[int] = []
        for document in documents.tolist():
            frames, height, width = self.grid[document].tolist()
            frame_tokens = height * (width + 1) + 1
            header = int(self.n_tokens[document]) - 1 - frames * frame_tokens + _HEADER_GROWTH
            most = (context - header) // frame_tokens
            if most < 1:
                left_out.append(document)
                continue
            for first in range(0, frames, most):
                stop = min(first + most, frames)
                cut.append((document, first, stop, header + (stop - first) * frame_tokens))
        columns = np.array(cut, dtype=np.int64).reshape(-1, 4)
        return Pieces(*columns.T), left_out

    @cached_property
    def grid(self) -> Ints:
        """int64 [documents, 3]: latent frames, height and width in codes; zeros for a text."""
        return np.stack([self._column(name) for name in ("grid_t", "grid_h", "grid_w")], axis=1)

    def _column(self, name: str) -> Ints:
        return np.concatenate([index.columns[name].to_numpy() for index in self._indexes]).astype(np.int64)

    def _held_out(self, share: float) -> npt.NDArray[np.bool_]:
        """bool [documents]: items whose hash is under `share`, and of a kind with two items or more at least one."""
        items = np.concatenate([index.strings("item_id") for index in self._indexes])
        names, number = np.unique(items.astype(str), return_inverse=True)
        hashes = np.array([int(hashlib.sha256(n.encode()).hexdigest()[:13], 16) / 16**13 for n in names.tolist()])
        held = hashes < share
        for kind in np.unique(self.kind) if share > 0 else ():
            of_kind = np.unique(number[self.kind == kind])
            if len(of_kind) > 1 and not held[of_kind].any():
                held[of_kind[hashes[of_kind].argmin()]] = True
        return held[number]


@dataclass(frozen=True)
class Batch:
    """Rows for one forward pass.

    tokens, targets, positions: int64 [rows, context]; weights: float32, each target's loss weight; kinds: int8, its
    TokenKind, -1 where there is no prediction; lengths: of the documents as they follow each other, flattened;
    documents: the number of each of them (`Corpus.name`), -1 where there is none.
    """

    tokens: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int8]
    lengths: list[int]
    documents: list[int]


class Loader:
    """Batches of some documents of a corpus. Raises ConfigError where the batch cannot be shared out evenly."""

    def __init__(self, corpus: Corpus, documents: Ints, config: DataConfig, seed: int, ranks: int = 1) -> None:
        if config.batch_rows % (config.micro_rows * ranks):
            raise ConfigError(
                f"data.batch_rows {config.batch_rows} is not a multiple of data.micro_rows {config.micro_rows} times "
                f"{ranks} ranks; change one of them."
            )
        self.corpus, self.documents, self.config, self.seed, self.ranks = corpus, documents, config, seed, ranks
        self.left_out = corpus.pieces(documents, config.context)[2]
        self.lessons, self.packing = lru_cache(maxsize=1)(self._lessons), lru_cache(maxsize=1)(self._packing)
        self.batches = lru_cache(maxsize=None)(self._batches)
        if not self.packing(0).rows:
            raise DataError(
                f"none of the {len(documents)} documents fits a context of {config.context}; raise data.context."
            )
        self._weights = np.array([config.text_weight, config.structure_weight, config.vision_weight], dtype=np.float32)

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of `step` and its batch there, both from 0. With lessons epochs differ in length."""
        epoch = 0
        while step >= self.batches(epoch):
            step, epoch = step - self.batches(epoch), epoch + 1
        return epoch, step

    def micro_batches(self, step: int, rank: int) -> list[Batch]:
        """What `rank` computes in step `step`, in order; every rank gets equally many."""
        epoch, number = self.place(step)
        packing, batches = self.packing(epoch), self.batches(epoch)
        first, stop = (packing.rows * n // batches for n in (number, number + 1))
        micro, together = self.config.micro_rows, self.config.micro_rows * self.ranks
        starts = range(first + rank * micro, stop + rank * micro, together)
        return [
            self.build([packing.row(r) if r < stop else None for r in range(start, start + micro)], epoch)
            for start in starts
        ]

    def build(self, rows: Sequence[Pieces | None], epoch: int = 0, *, shuffle_vision: bool = False) -> Batch:
        """The batch of these rows of an epoch; None is a row without predictions.

        With `shuffle_vision` each document's codes are put in a random order (a validation that order is learnt).
        """
        shape = (len(rows), self.config.context)
        tokens = np.full(shape, self.corpus.vocab.pad, dtype=np.int64)
        targets, positions = tokens.copy(), np.zeros(shape, dtype=np.int64)
        weights, kinds = np.zeros(shape, dtype=np.float32), np.full(shape, -1, dtype=np.int8)
        lengths: list[int] = []
        documents: list[int] = []
        for r, pieces in enumerate(rows):
            at = 0
            documents += pieces.document.tolist() if pieces is not None else ()
            for ids, kind, is_new in self._contents(pieces, epoch) if pieces is not None else ():
                if shuffle_vision:
                    codes = np.flatnonzero(kind == TokenKind.VISION)
                    ids[codes] = np.random.default_rng([self.seed, len(ids), int(ids.sum())]).permutation(ids[codes])
                span = slice(at, at + len(ids) - 1)
                tokens[r, span], targets[r, span] = ids[:-1], ids[1:]
                positions[r, span] = np.arange(len(ids) - 1)
                kinds[r, span] = kind[1:]
                weights[r, span] = self._weights[kind[1:]] * is_new[1:]
                lengths.append(len(ids) - 1)
                at += len(ids) - 1
            if at < shape[1]:
                lengths.append(shape[1] - at)
                documents.append(-1)
        return Batch(tokens, targets, positions, weights, kinds, lengths, documents)

    def _batches(self, epoch: int) -> int:
        """Batches of an epoch; their rows differ by one at most."""
        return -(-self.packing(epoch).rows // self.config.batch_rows)

    def _packing(self, epoch: int) -> Packing:
        rng = self._random(epoch)
        unsplit, texts, _ = self.corpus.pieces(rng.permutation(self.documents), self.config.context)
        return pack(Pieces.join([unsplit, self._lesson_pieces(epoch)]), texts, self.config.context, rng)

    def _lesson_pieces(self, epoch: int) -> Pieces:
        """The lessons that fit; they are numbered on from the corpus's documents."""
        size = np.array([len(lesson.tokens) - 1 for lesson in self.lessons(epoch)], dtype=np.int64)
        fits = np.flatnonzero(size <= self.config.context)
        return Pieces.whole(len(self.corpus) + fits, size[fits])

    def _lessons(self, epoch: int) -> list[Lesson]:
        """All lessons of an epoch; of held-out documents there are none."""
        if not self.config.lessons:
            return []
        visual = np.isin(self.corpus.kind[self.documents], (_IMAGE, _VIDEO)) & ~self.corpus.heldout[self.documents]
        documents = [parse(self.corpus.vocab, tokens) for tokens in self.corpus.read(self.documents[visual])]
        return lessons(documents, self.config.lessons, self._random(epoch, 1))

    def _random(self, epoch: int, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, int(self.corpus.fingerprint[:16], 16), *purpose])

    def _contents(
        self, pieces: Pieces, epoch: int
    ) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
        """Of each piece: ids, kinds (as in the loss), and which tokens count in the loss."""
        is_lesson = pieces.document >= len(self.corpus)
        real = iter(self.corpus.read(pieces.document[~is_lesson]))
        contents = []
        for n, number in enumerate(pieces.document.tolist()):
            if is_lesson[n]:
                lesson = self.lessons(epoch)[number - len(self.corpus)]
                contents.append((lesson.tokens.copy(), lesson.kinds, lesson.kinds != TokenKind.TEXT))
                continue
            document = parse(self.corpus.vocab, next(real))
            first, stop = int(pieces.first[n]), int(pieces.stop[n])
            if stop and document.kind == "video":
                document = parse(self.corpus.vocab, video_part(document, first, stop - first))
                is_new = np.ones(len(document.tokens), dtype=np.bool_)
                if first:
                    is_new[: document.blocks[0].body] = False
                    is_new[document.kinds == TokenKind.TEXT] = False
                contents.append((document.tokens, document.loss_kinds, is_new))
            else:
                span = slice(first, stop + 1) if stop else slice(None)
                ids = document.tokens[span].copy()
                contents.append((ids, document.loss_kinds[span], np.ones(len(ids), dtype=np.bool_)))
        return contents
