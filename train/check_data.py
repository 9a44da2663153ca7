"""`reelmill train --check-data`: every document or pair that a recipe would train on, before it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from reelmill.errors import DataError
from reelmill.tokenize.shards import verify_shard
from reelmill.tokenize.shards.pairs import verify_pairs
from reelmill.train.config import TrainConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.init_from import find_init_weights, with_init_sizes
from reelmill.train.objectives.interface import Source
from reelmill.train.objectives.preference.data import PairCorpus
from reelmill.train.objectives.registry import source_of
from reelmill.train.recipes.understanding import conversation_problems
from reelmill.train.run import with_vocabulary

_MOST = 20


def check_data(config: TrainConfig, data: Sequence[Path], selection: str | None) -> str:
    """Read all that the recipe would train on, and say what there is; nothing is trained.

    Raises DataError that names the rows (at most 20) that are damaged, ill-formed or cannot teach anything, as
    `source_of` does for folders that do not fit together, and ConfigError where `config.init` has other sizes or was
    trained on other ids.
    """
    source = source_of(config, data, selection)
    config, _ = with_init_sizes(config)
    config = with_vocabulary(config, source)
    found = list(islice(problems(source), _MOST + 1))
    if found:
        more = "\nand more" if len(found) > _MOST else ""
        raise DataError("the data is not sound:\n" + "\n".join(found[:_MOST]) + more)
    if config.init:
        find_init_weights(Path(config.init), config.model, source.vocab, source.tokenizer)
    if isinstance(source, PairCorpus):
        longer = int((source.size > config.data.context).sum())
        what, count = "pairs", len(source)
    else:
        assert isinstance(source, Corpus)
        longer = 0
        what, count = "documents", len(source)
    left_out = f"; {longer:,} are longer than data.context and would be left out" if longer else ""
    return f"{count:,} {what} are sound, {int(source.heldout.sum()):,} of them held out{left_out}"


def problems(source: Source) -> Iterator[str]:
    """What is wrong with the rows of the files that a source reads, a sentence each."""
    if isinstance(source, PairCorpus):
        for path in source.index.paths:
            yield from verify_pairs(path, source.vocab)
        return
    assert isinstance(source, Corpus)
    sound = True
    for path in source.paths:
        for problem in verify_shard(path, source.vocab):
            sound = False
            yield problem
    if sound:  # what cannot be parsed cannot be read as a conversation
        yield from conversation_problems(source)
