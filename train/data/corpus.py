"""All documents of one or several run folders, by number."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reelmill.draws import uniform
from reelmill.errors import DataError
from reelmill.tokenize.shards import KINDS, RowGroups, Selection, ShardIndex
from reelmill.tokenize.shards.format import token_lists
from reelmill.train.data.binpacking import Ints
from reelmill.train.data.caption_dropout import leading_bits, lengths_without_caption, sampled
from reelmill.train.data.config import DataConfig, Kind

_COLUMNS = ("doc_id", "item_id", "fps", "grid_t", "grid_h", "grid_w", "caption_after", "answers")
_PART = 1_000_000
"""Documents of which something is computed at a time: it takes a hundred bytes each for a moment."""
_VISUAL = [KINDS.index(kind) for kind in ("image", "video")]


class Corpus:
    """All documents of some run folders, numbered from 0, and which are held out.

    Arrays with one entry per document: `n_tokens`, `kind` (an index into KINDS), `folder` (its run folder),
    `row_group_id` (its row group, numbered through all folders) and `grid`. `row_group_tokens` holds the ids in each
    row group. `selection` holds for all folders, a list of them for each its own. Raises DataError where the folders
    disagree on the vocabulary or the vision tokenizer.
    """

    def __init__(self, folders: Sequence[Path], selection: Selection | list[Selection], config: DataConfig) -> None:
        self.folders = list(folders)
        selections = selection if isinstance(selection, list) else [selection] * len(self.folders)
        self.window_tokens = max(1, int(config.shuffle_mb * 2**20 / 4))
        held = RowGroups(self.window_tokens)
        which = config.fingerprint or None
        self._indexes = [
            ShardIndex(folder, fingerprint=which, selection=chosen, row_groups=held, columns=_COLUMNS)
            for folder, chosen in zip(self.folders, selections, strict=True)
        ]
        spaces = [(index.footer.tokenizer, index.footer.vocab) for index in self._indexes]
        footers = dict(zip(spaces, folders, strict=True))
        if len(footers) > 1:
            found = "; ".join(f"{where}: {codes[:12]}, {vocab}" for (codes, vocab), where in footers.items())
            raise DataError(f"the run folders' ids do not mean the same ({found}); tokenize them with one tokenizer.")
        if len(footers) < 1 or not sum(map(len, self._indexes)):
            raise DataError("there are no documents to train on; run `reelmill stats` on the run folder to see why.")
        self.tokenizer, self.vocab = spaces[0]
        self.n_tokens = np.concatenate([index.n_tokens for index in self._indexes]).astype(np.int64)
        self.kind = np.concatenate([index.kind for index in self._indexes])
        self._first = [0, *np.cumsum([len(index) for index in self._indexes]).tolist()]
        self.folder = np.repeat(np.arange(len(folders), dtype=np.int16), np.diff(self._first))
        first_row_group = np.cumsum([0, *(len(index.row_group_tokens) for index in self._indexes)])
        self.row_group_id = np.concatenate(
            [i.row_group_id + first for i, first in zip(self._indexes, first_row_group, strict=False)]
        )
        self.row_group_tokens = np.concatenate([index.row_group_tokens for index in self._indexes])
        # At either end of a window, each folder may need only a part of a row group.
        held.most_tokens += 2 * len(folders) * int(self.row_group_tokens.max())
        self.heldout = self._held_out(config.heldout)
        for index in self._indexes:  # needed no more, and a third of what an index holds
            index.columns = index.columns.drop_columns("item_id")
        pa.default_memory_pool().release_unused()

    def __len__(self) -> int:
        return len(self.n_tokens)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the training data: the vocabulary, the vision tokenizer, every document's id and length."""
        digest = hashlib.blake2b(f"{self.vocab.to_json()} {self.tokenizer}".encode(), digest_size=16)
        for index in self._indexes:
            for number, chunk in enumerate(index.columns["doc_id"].chunks):
                digest.update(f"{chr(10) if number else ''}{chr(10).join(chunk.to_pylist())}".encode())
        digest.update(self.n_tokens.tobytes())
        return digest.hexdigest()

    @property
    def paths(self) -> list[Path]:
        """The shards."""
        return [path for index in self._indexes for path in index.paths]

    def name(self, document: int) -> str:
        """What a person finds the document by: its doc_id and run folder. Numbers after the last are synthetic."""
        if document >= len(self):
            return f"synthetic document {document - len(self)}"
        index, number = self._place(document)
        return f"{index.columns['doc_id'][number].as_py()} in {self.folders[int(self.folder[document])]}"

    def of_kinds(self, kinds: Sequence[Kind]) -> npt.NDArray[np.bool_]:
        """bool [documents]: whether it is of one of these kinds."""
        return np.isin(self.kind, [KINDS.index(kind) for kind in kinds])

    def view(self, document: int) -> npt.NDArray[np.int32]:
        """The tokens of a document, int32, read-only; its row group stays decoded as long as memory allows."""
        index, number = self._place(document)
        return index.view(number)

    def read(self, documents: npt.ArrayLike) -> list[npt.NDArray[np.int32]]:
        """The tokens of documents, int32 each, in the order asked for."""
        wanted = np.asarray(documents, dtype=np.int64).reshape(-1)
        found: list[npt.NDArray[np.int32]] = [np.empty(0, dtype=np.int32)] * len(wanted)
        for slot in np.argsort(self.row_group_id[wanted], kind="stable").tolist():
            found[slot] = self.view(int(wanted[slot])).copy()
        return found

    @cached_property
    def grid(self) -> Ints:
        """int64 [documents, 3]: latent frames, height and width in codes; zeros for a text."""
        return np.stack([self._column(name) for name in ("grid_t", "grid_h", "grid_w")], axis=1).astype(np.int64)

    def image_grids(self) -> Ints:
        """int64 [images, 2]: height and width in codes of each image."""
        return self.grid[self.kind == KINDS.index("image"), 1:]

    @cached_property
    def captioned(self) -> npt.NDArray[np.bool_]:
        """bool [documents]: images and videos whose caption, if any, comes before the codes; no conversations."""
        return np.isin(self.kind, _VISUAL) & ~self._column("caption_after").astype(np.bool_) & ~self.answered

    @cached_property
    def answered(self) -> npt.NDArray[np.bool_]:
        """bool [documents]: conversations, in which only the answers count."""
        return np.concatenate([np.diff(offsets) > 0 for _, offsets in self._answers])

    def answers(self, document: int) -> npt.NDArray[np.int32]:
        """Start and stop of each answer in a document's tokens, int32 [2 x answers]; empty where it has none."""
        folder = bisect_right(self._first, document) - 1
        (edges, offsets), number = self._answers[folder], document - self._first[folder]
        return edges[offsets[number] : offsets[number + 1]]

    @cached_property
    def tokens_without_caption(self) -> Ints:
        """int64 [documents]: n_tokens; for a `captioned` one, an upper bound on what is left without its caption."""
        bare, of = self.n_tokens.copy(), np.flatnonzero(self.captioned)
        fps = self._column("fps").astype(np.float64)
        for first in range(0, len(of), _PART):
            part = of[first : first + _PART]
            bare[part] = lengths_without_caption(self.vocab, self.grid[part], fps[part], self.n_tokens[part])
        return bare

    def captions_dropped(self, share: float, seed: int, epoch: int) -> npt.NDArray[np.bool_]:
        """bool [documents]: those that an epoch shows without their caption; never a held-out one."""
        if not share:
            return np.zeros(len(self), dtype=np.bool_)
        return sampled(self._id_bits, share, seed, epoch) & self.captioned & ~self.heldout

    def captions_moved(self, share: float, seed: int, epoch: int) -> npt.NDArray[np.bool_]:
        """bool [documents]: those whose caption an epoch shows behind the codes, held-out ones too."""
        if not share:
            return np.zeros(len(self), dtype=np.bool_)
        return sampled(self._id_bits, share, seed, epoch, 1) & self.captioned

    def questions_dropped(self, share: float, seed: int, epoch: int) -> npt.NDArray[np.bool_]:
        """bool [documents]: those that an epoch shows without their question, where they are of a task; never a
        held-out one."""
        if not share or not self.vocab.layout.has_spans:
            return np.zeros(len(self), dtype=np.bool_)
        asks_once: npt.NDArray[np.bool_] = np.concatenate([np.diff(offsets) == 2 for _, offsets in self._answers])
        return sampled(self._id_bits, share, seed, epoch, 2) & asks_once & ~self.heldout

    @cached_property
    def _answers(self) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]:
        """For each run folder, the edges of all answers and offsets [documents + 1] into them."""
        return [token_lists(index.columns["answers"]) for index in self._indexes]

    @cached_property
    def _id_bits(self) -> npt.NDArray[np.uint64]:
        """uint64 [documents]: the first 64 bits of each doc_id."""
        chunks = [chunk for index in self._indexes for chunk in index.columns["doc_id"].chunks]
        return np.concatenate([leading_bits(chunk.to_pylist()) for chunk in chunks])

    def _place(self, document: int) -> tuple[ShardIndex, int]:
        folder = bisect_right(self._first, document) - 1
        return self._indexes[folder], document - self._first[folder]

    def _column(self, name: str) -> npt.NDArray[np.generic]:
        return np.concatenate([index.columns[name].to_numpy() for index in self._indexes])

    def _held_out(self, share: float) -> npt.NDArray[np.bool_]:
        """bool [documents]: items whose hash is below `share`; at least one of each kind that has two items or more."""
        # The columns' strings are listed a shard at a time: millions at once would take gigabytes.
        hashes = np.concatenate(
            [
                np.array([uniform(name) for name in chunk.to_pylist()], dtype=np.float64)
                for index in self._indexes
                for chunk in index.columns["item_id"].chunks
            ]
        )
        held: npt.NDArray[np.bool_] = hashes < share
        for kind in np.unique(self.kind) if share > 0 else ():
            of_kind = self.kind == kind
            lowest = hashes[of_kind].min()
            if not held[of_kind].any() and (hashes[of_kind] > lowest).any():
                held |= hashes == lowest
        return held
