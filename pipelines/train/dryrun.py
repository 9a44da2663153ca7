"""`reelmill train --dry-run`: a recipe's size, memory a GPU and time, for a person or a script."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from reelmill.errors import ConfigError
from reelmill.terminal import plain, say
from reelmill.tokenize.shards import ShardIndex
from reelmill.train.config import TrainConfig
from reelmill.train.dryrun import GIB, Estimate, Machine, check_fits, estimate, fewest_gpus
from reelmill.train.init_from import with_init_sizes
from reelmill.train.roofline import BOUNDS


def dry_run(
    config: TrainConfig,
    data: Sequence[Path],
    machine: Machine,
    document: float,
    console: Console,
    *,
    as_json: bool,
    choose: bool = False,
) -> None:
    """Print what `config` needs on `machine`; ConfigError where it does not fit, after the table.

    `choose`: on the fewest GPUs that can share and hold the recipe, where `machine` cannot. The sizes are those of
    [model], or of `init` where the recipe says so and it is there already. The vocabulary is the model's, else that of
    the first run folder.
    """
    rates = machine.rates
    given = {
        "--gpu-memory": machine.memory,
        "--peak": rates.flops,
        "--bandwidth": rates.memory,
        "--network": rates.network,
        "--mfu": 1.0 if machine.mfu is None else machine.mfu,
    }
    for option, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{option} must be a number above 0")
    if not (math.isfinite(document) and document >= 0):
        raise ConfigError(f"--document is {document:g}; it must be a number of tokens")
    if Path(config.init).exists():
        config, _ = with_init_sizes(config)
    found = (fewest_gpus if choose else estimate)(_with_vocabulary(config, data), machine, document)
    if as_json:
        console.print_json(data=plain({**dataclasses.asdict(found), "fits": found.fits}))
    else:
        _show(found, console, "predicted" if machine.mfu is None else "hoped for")
        if (by_node := _copies_by_node(config, data, machine, document, found)) is not None:
            say(
                console,
                f"With --set parallel.shard={by_node.layout['dp_shard']} a node has a copy of the weights: "
                f"{sum(by_node.seconds.values()):.2f} s a step, {by_node.memory_total / GIB:.1f} GiB a GPU.",
            )
    check_fits(found, config)


def _copies_by_node(
    config: TrainConfig, data: Sequence[Path], machine: Machine, document: float, found: Estimate
) -> Estimate | None:
    """The figures with a copy of the weights on each node, where that fits and is faster."""
    node = machine.rates.node
    parallel = dataclasses.replace(
        config.parallel, shard=max(1, node // (config.parallel.tensor * config.parallel.context))
    )
    changed = dataclasses.replace(_with_vocabulary(config, data), parallel=parallel)
    if config.parallel.shard or found.gpus <= node:
        return None
    by_node = estimate(changed, dataclasses.replace(machine, gpus=found.gpus), document)
    is_faster = sum(by_node.seconds.values()) < 0.95 * sum(found.seconds.values())
    return by_node if by_node.fits and is_faster else None


def _with_vocabulary(config: TrainConfig, data: Sequence[Path]) -> TrainConfig:
    if config.model.vocab_size:
        return config
    if not data:
        raise ConfigError(
            "model.vocab_size is 0, that of the data: give --data, or --set model.vocab_size=184622 (Emu3's)."
        )
    size = ShardIndex(data[0], fingerprint=config.data.fingerprint or None).footer.vocab.size
    return dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=size))


def _show(found: Estimate, console: Console, how: str) -> None:
    copies = found.computed_per_step - found.tokens_per_step
    ranks = ", ".join(f"{size} {name}" for name, size in found.layout.items() if size > 1) or "1"
    rows = {
        "parameters": f"{found.parameters:,} ({found.matmul_parameters:,} in products)",
        "FLOPs a token": f"{found.flops_per_token / 1e9:.2f} G, documents of {found.document:,.0f} tokens",
        "": f"({found.flops_convention})",
        "GPUs": f"{found.gpus} ({ranks})",
        **{f"memory: {name}": f"{size / GIB:.2f} GiB" for name, size in found.memory.items()},
        "memory a GPU": f"{found.memory_total / GIB:.1f} of {found.memory_gpu / GIB:g} GiB",
        "a step": f"{found.tokens_per_step:,} tokens, {found.tokens_in_all / 1e9:,.1f} billion in all steps"
        + (f"; with them up to {copies:,} of copied pictures are computed" if copies else ""),
        **{f"seconds a step: {name}": f"{seconds:.2f}" for name, seconds in found.seconds.items() if seconds > 0.005},
        "what takes longest": max(found.seconds, key=found.seconds.__getitem__),
        "at": f"{found.mfu:.0%} MFU ({how}) of {found.peak_flops / 1e12:,.0f} TFLOP/s a GPU",
        "tokens a day": f"{found.tokens_per_day / 1e9:,.2f} billion, so {found.days:,.1f} days",
    }
    rows["what takes longest"] += f", bound by {BOUNDS[rows['what takes longest']]}"
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
