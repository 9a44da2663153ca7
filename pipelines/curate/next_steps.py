"""The commands to run after a curation, such as work on what it made."""

from __future__ import annotations

import shlex
from pathlib import Path

from reelmill.orchestration.views import LedgerQueries

CONTEXT_STEP = 512


def next_commands(out: Path) -> list[str]:
    """Commands over a run folder, ready to be pasted: what is in it, whether it is sound, how to train on it."""
    folder = shlex.quote(str(out))
    commands = [f'reelmill sql {folder} "SELECT * FROM samples"', f"reelmill verify {folder}"]
    recipe = training_recipe(out)
    return [*commands, f"reelmill train {recipe.format(data=folder)}"] if recipe else commands


def training_recipe(out: Path) -> str | None:
    """Arguments of `reelmill train` with a recipe that fits the documents, `{data}` for the folder; None without any.

    `tiny` is for a CPU, where at least some documents fit its short context; `small` takes longer ones, with a longer
    context where most documents need it.
    """
    from reelmill.train.recipes import recipe

    lengths = (
        "SELECT min(n_tokens) AS shortest, quantile_disc(n_tokens, 0.5) AS half, max(n_tokens) AS longest FROM tokens"
    )
    with LedgerQueries(out.resolve()) as ledger:
        (row,) = ledger.rows(lengths)
    shortest, half, longest = row["shortest"], row["half"], row["longest"]
    if shortest is None:
        return None
    for name, fitting in (("tiny", shortest), ("small", half)):
        if fitting <= recipe(name).data.context:
            return f"{name} --data {{data}}"
    context = -(-longest // CONTEXT_STEP) * CONTEXT_STEP
    return f"small --data {{data}} --set data.context={context}"
