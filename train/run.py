"""`reelmill train`: from a recipe and run folders to checkpoints, alone or under torchrun."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reelmill.config import at_least, to_toml
from reelmill.errors import ConfigError
from reelmill.files import write_text
from reelmill.tokenize.shards import Selection
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.init_from import find_init_weights, with_init_sizes
from reelmill.train.objectives import objective_class
from reelmill.train.objectives.interface import DataSource
from reelmill.train.parallel import join_ranks
from reelmill.train.resume import sole_run
from reelmill.train.trainer import SampleFn, Trainer

MakeSampleFn = Callable[[DataSource, Sequence[str]], SampleFn]
"""From the training data and the prompts to the function that samples them."""


def train(
    config: TrainConfig,
    data: Sequence[Path],
    out: Path,
    selection: Selection | list[Selection] = None,
    *,
    until: int | None = None,
    make_sample_fn: MakeSampleFn | None = None,
    log_fn: Callable[[str], None] = print,
    metrics_fn: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train `config` on the documents of the run folders `data` and return the last checkpoint, in `out/checkpoints`.

    `selection` names verdicts that say which samples to train on, or gives their ids; without it all documents are
    taken; a list has one for each folder. A run that was
    interrupted goes on from its last checkpoint; `until` stops it after that many steps. Under torchrun every rank
    calls this. `make_sample_fn` makes what samples `config.sample_prompts` at each validation. `metrics_fn` gets the
    metrics of each step and validation, in place of a line for `log_fn`. Raises ConfigError for a recipe that cannot
    run or that differs from the one that `out` was begun with, DataError for missing or damaged documents, MachineError
    where another run holds `out` or another rank does not answer, and Preempted when a signal stopped the run after it
    was saved.
    """
    _check_numbers(config)
    objective = objective_class(config.objective)
    objective.check(config)
    source = objective.read(config, data, selection)
    config, sizes = with_init_sizes(config, out)
    config = with_vocabulary(config, source)
    if config.init and checkpoint.latest(out / "checkpoints") is None:
        # Check before building the model: one of other sizes may be far too large for this machine.
        find_init_weights(Path(config.init), config.model, source.vocab, source.tokenizer)
    sample_fn = make_sample_fn(source, config.sample_prompts) if make_sample_fn and config.sample_prompts else None
    with join_ranks(config.device, config.parallel.timeout_s) as ranks, sole_run(out, ranks):
        if ranks.is_first and sizes:
            log_fn(sizes)
        trainer = Trainer(config, source, out, ranks, log_fn, sample_fn, metrics_fn)
        trainer.resume()
        with ranks.together():
            if ranks.is_first:
                write_text(out / "recipe.toml", to_toml(config))
        trainer.run(until)
    last = checkpoint.latest(out / "checkpoints")
    if last is None:
        raise ConfigError(f"nothing to train: steps is {config.steps}; it must be at least 1.")
    return last


def _check_numbers(config: TrainConfig) -> None:
    at_least("data", config.data, context=1, batch_rows=1, micro_rows=1)
    at_least("model", config.model, hidden=1, layers=1, heads=1, kv_heads=1, mlp=1)
    at_least("optimizer", config.optimizer, lr=0, final_lr=0, warmup_steps=0)


def with_vocabulary(config: TrainConfig, source: DataSource) -> TrainConfig:
    """The config with the data's vocabulary size; ConfigError if it names another."""
    size = source.vocab.size
    if config.model.vocab_size not in (0, size):
        raise ConfigError(
            f"model.vocab_size is {config.model.vocab_size:,}, but the data's vocabulary ({source.vocab.text}, "
            f"{source.vocab.codes:,} codes) has {size:,} ids; set model.vocab_size to 0, or tokenize for this recipe."
        )
    return dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=size))
