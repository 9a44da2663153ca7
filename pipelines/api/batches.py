"""`reelmill.batches`: the packed batches of run folders, for a training loop of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from reelmill.config import override
from reelmill.pipelines.api.settings import Settings, assignments
from reelmill.tokenize.shards import Selection
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Batch
from reelmill.train.data.binpacking import Ints
from reelmill.train.data.config import DataConfig, Kind
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader

__all__ = ["Batch", "Batches", "batches"]

Place = str | os.PathLike[str]
KINDS: tuple[Kind, ...] = ("text", "image", "video", "interleaved")


def batches(
    data: Place | Sequence[Place] | Mapping[str, float],
    *,
    context: int,
    rows: int = 1,
    selection: Selection = "default",
    kinds: Sequence[Kind] = KINDS,
    heldout: float = 0.0,
    seed: int = 0,
    rank: int = 0,
    ranks: int = 1,
    set: Settings = (),
) -> Batches:
    """The documents of run folders, shuffled and packed into rows of `context` predictions, `rows` a batch.

    `data`: a run folder, several, or several with their shares of the tokens: `{"out/web": 0.7, "out/film": 0.3}`.
    `selection`: whose kept samples, or their sample_ids as a pyarrow array; None takes all documents. `kinds`: which
    documents. `heldout`: share of the items that are kept for `Batches.heldout`. `rank` of `ranks`: which part of
    each step is this process's. `set` changes other values of a training recipe's `[data]`: `{"caption_drop": 0.05,
    "vision_weight": 1.0}`.

    A batch is a pure function of its step: any number of ranks sees the same rows, and a loop resumes from its step.
    Needs neither torch nor DuckDB. Raises DataError where there are no documents, or where the folders' ids do not mean
    the same.
    """
    if isinstance(data, Mapping):
        folders, shares = [Path(place) for place in data], [float(share) for share in data.values()]
    else:
        folders = [Path(data)] if isinstance(data, str | os.PathLike) else [Path(place) for place in data]
        shares = []
    config = DataConfig(
        context=context,
        batch_rows=rows * ranks,
        micro_rows=rows,
        kinds=tuple(kinds),
        heldout=heldout,
        shares=shares,
    )
    config = override(config, assignments(set))
    corpus = Corpus(folders, selection, config)
    wanted = corpus.of_kinds(config.kinds)
    return Batches(corpus, np.flatnonzero(wanted & ~corpus.heldout), config, seed, (rank, ranks))


class Batches:
    """Packed batches by step. Make one with `reelmill.batches`.

    `batches[step]` is the batch of any step, in the first epoch or a later one. Iterating gives the first epoch, of
    `len(batches)` batches. `vocab` is the vocabulary of the ids, `tokenizer` the fingerprint of the vision tokenizer.
    """

    def __init__(self, corpus: Corpus, documents: Ints, config: DataConfig, seed: int, place: tuple[int, int]) -> None:
        self._corpus, self._config, self._seed, (self._rank, self._ranks) = corpus, config, seed, place
        self._loader = Loader(corpus, documents, config, seed, self._ranks)
        self.vocab: Vocabulary = corpus.vocab
        self.tokenizer: str = corpus.tokenizer

    def __len__(self) -> int:
        return self._loader.batches(0)

    def __getitem__(self, step: int) -> Batch:
        if step < 0:
            raise IndexError(f"steps count from 0; there is no step {step}")
        (batch,) = self._loader.micro_batches(step, self._rank)
        return batch

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(len(self)))

    def epoch(self, step: int) -> float:
        """Epochs made when the step is done."""
        return self._loader.schedule.epoch(step)

    @cached_property
    def heldout(self) -> Batches | None:
        """The documents of held-out items, each once, whole and with its caption; None where none are held out."""
        held = np.flatnonzero(self._corpus.of_kinds(self._config.kinds) & self._corpus.heldout)
        if not len(held):
            return None
        return Batches(self._corpus, held, self._config.for_validation(), self._seed, (self._rank, self._ranks))
