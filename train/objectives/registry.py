"""The objectives by name, and what each reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reelmill.train.config import TrainConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.objectives.interface import Objective, Source
from reelmill.train.objectives.next_token import NextToken
from reelmill.train.objectives.preference.data import PairCorpus
from reelmill.train.objectives.preference.objective import Preference
from reelmill.train.parallel import Layout


def source_of(config: TrainConfig, data: Sequence[Path], selection: str | None) -> Source:
    """What the recipe's objective reads in the folders `data`; DataError where it is missing or does not fit."""
    if config.objective == "preference":
        return PairCorpus(data, config.preference.pairs, config.data)
    return Corpus(data, selection, config.data)


def objective_of(config: TrainConfig, source: Source, layout: Layout) -> Objective:
    """The recipe's objective over what `source_of` read."""
    if isinstance(source, PairCorpus):
        return Preference(config, source, layout)
    assert isinstance(source, Corpus)
    return NextToken(config, source, layout)
