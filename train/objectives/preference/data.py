"""Preference pairs as batches: the two documents of a pair are adjacent in one row, packed without padding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.draws import uniform
from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.documents import parse_unchecked
from reelmill.tokenize.shards.pairs import PairIndex
from reelmill.train.data.batches import Batch, Contents, assemble
from reelmill.train.data.binpacking import Ints
from reelmill.train.data.config import DataConfig
from reelmill.train.data.packing import Packing, Pieces, pack
from reelmill.train.data.schedule import Schedule

_LOOKED_AT = 256
"""Pairs from which the usual image size is inferred."""


class PairCorpus:
    """All pairs of some folders, numbered from 0, and which of them are held out: all of a prompt, or none.

    In batches pair p is the documents 2p (chosen) and 2p + 1 (rejected). Arrays of one entry a pair: `size`, the
    predictions of both documents; `heldout`. Raises DataError where a folder has no pairs of that name, or the folders'
    ids do not mean the same.
    """

    def __init__(self, folders: Sequence[Path], name: str, config: DataConfig) -> None:
        if config.shares or config.lessons or config.caption_drop or config.question_drop:
            raise ConfigError(
                "pairs are taken as they are: leave out data.shares, data.lessons, data.caption_drop and "
                "data.question_drop."
            )
        self.index = PairIndex(*(pairs_folder(folder, name) for folder in folders))
        self.vocab, self.tokenizer = self.index.footer.vocab, self.index.footer.tokenizer
        columns = self.index.columns
        self.ids = columns["pair_id"].to_pylist()
        self.size = (columns["n_chosen"].to_numpy() + columns["n_rejected"].to_numpy()).astype(np.int64) - 2
        self.heldout = _held_out(columns["prompt"].to_pylist(), config.heldout)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the vocabulary, the vision tokenizer and every pair."""
        facts = "\n".join([self.vocab.to_json(), self.tokenizer, *self.ids])
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def name(self, document: int) -> str:
        """The pair that a document of a batch belongs to."""
        return f"{('chosen', 'rejected')[document % 2]} of {self.index.name(document // 2)}"

    def image_grids(self) -> Ints:
        """int64 [images, 2]: height and width in codes of the first chosen documents that are images."""
        first = [
            parse_unchecked(self.vocab, self.index.read(number).chosen) for number in range(min(len(self), _LOOKED_AT))
        ]
        grids = [document.grid[1:] for document in first if document.kind == "image"]
        return np.array(grids, dtype=np.int64).reshape(-1, 2)


class PairLoader:
    """Batches of some pairs of a corpus; `left_out` are those longer than the context. DataError where none fits."""

    def __init__(self, corpus: PairCorpus, pairs: Ints, config: DataConfig, seed: int, ranks: int = 1) -> None:
        fits = corpus.size[pairs] <= config.context
        self.corpus, self.config, self.seed = corpus, config, seed
        self.pairs, self.left_out = pairs[fits], pairs[~fits]
        if not len(self.pairs):
            raise DataError(
                f"none of the {len(pairs)} pairs fits a context of {config.context}: both documents of a pair stand in "
                f"one row, the shortest take {int(corpus.size[pairs].min()) if len(pairs) else 0}; raise data.context."
            )
        self.packing = lru_cache(maxsize=1)(self._packing)
        self.schedule = Schedule(self.packing, config, ranks)
        self._weights = np.array([config.text_weight, config.structure_weight, config.vision_weight], dtype=np.float32)

    def micro_batches(self, step: int, rank: int) -> list[Batch]:
        """What `rank` computes in step `step`, in order; every rank gets equally many."""
        packing = self.packing(self.schedule.place(step)[0])
        return [
            self.build([packing.row(row) if row is not None else None for row in rows])
            for rows in self.schedule.rows(step, rank)
        ]

    def build(self, rows: Sequence[Pieces | None]) -> Batch:
        """The batch of these rows; None is a row without pairs. The tokens of prompts weigh nothing."""
        contents = [self._contents(pieces) if pieces is not None else iter(()) for pieces in rows]
        return assemble(self.corpus.vocab, contents, self.config.context, self._weights, self.config.ends_weight)

    def _contents(self, pieces: Pieces) -> Iterator[Contents]:
        for number in pieces.document.tolist():
            pair = self.corpus.index.read(number)
            yield Contents(2 * number, pair.chosen, repeated=pair.n_prompt)
            yield Contents(2 * number + 1, pair.rejected, repeated=pair.n_prompt)

    def _packing(self, epoch: int) -> Packing:
        rng = np.random.default_rng([self.seed, epoch, int(self.corpus.fingerprint[:16], 16)])
        order = rng.permutation(self.pairs)
        none = np.empty(0, dtype=np.int64)
        whole = Pieces.unsplit(order, self.corpus.size[order])
        return pack(whole, Pieces.unsplit(none, none), self.config.context, rng)


def pairs_folder(place: Path, name: str) -> Path:
    """The folder of pairs that `place` is, or the one called `name` (or the only one) of the run folder that it is."""
    if not name and any(place.glob("*.parquet")) and not (place / "pairs").is_dir():
        return place
    there = sorted(path.name for path in (place / "pairs").glob("*") if any(path.glob("*.parquet")))
    if name in there:
        return place / "pairs" / name
    if not name and len(there) == 1:
        return place / "pairs" / there[0]
    wanted = f"no pairs {name!r}" if name else f"{'several' if there else 'no'} pairs"
    raise DataError(
        f"{wanted} in {place} (there are: {', '.join(there) or 'none'}); `reelmill prefer build` writes them, "
        "--set preference.pairs=NAME chooses."
    )


def _held_out(prompts: list[str], share: float) -> npt.NDArray[np.bool_]:
    """bool [pairs]: those of prompts whose hash is under `share`, and with two prompts or more at least one."""
    names, number = np.unique(np.array(prompts, dtype=np.object_).astype(str), return_inverse=True)
    hashes = np.array([uniform(name) for name in names.tolist()])
    held = hashes < share
    if share > 0 and len(names) > 1 and not held.any():
        held[hashes.argmin()] = True
    return held[number]
