"""`reelmill train --check-data`: read every document or pair that a recipe would train on, without training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from reelmill.errors import DataError
from reelmill.tokenize.shards import Selection
from reelmill.train.config import TrainConfig
from reelmill.train.init_from import find_init_weights, with_init_sizes
from reelmill.train.objectives import objective_class
from reelmill.train.run import with_vocabulary

_MAX_PROBLEMS = 20


def check_data(config: TrainConfig, data: Sequence[Path], selection: Selection | list[Selection]) -> str:
    """Read everything that the recipe would train on, and report it. Nothing is trained.

    Raises DataError that names the rows (at most 20) that are damaged, ill-formed or cannot teach anything, or folders
    that do not fit together. Raises ConfigError where `config.init` has other sizes or was trained on other ids.
    """
    objective = objective_class(config.objective)
    source = objective.read(config, data, selection)
    config, _ = with_init_sizes(config)
    config = with_vocabulary(config, source)
    found = list(islice(objective.problems(config, source), _MAX_PROBLEMS + 1))
    if found:
        more = "\nand more" if len(found) > _MAX_PROBLEMS else ""
        raise DataError("the data is not sound:\n" + "\n".join(found[:_MAX_PROBLEMS]) + more)
    if config.init:
        find_init_weights(Path(config.init), config.model, source.vocab, source.tokenizer)
    return objective.summary(config, source)
