"""How a run takes its folder: alone, and from the newest checkpoint that is sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reelmill.errors import MachineError
from reelmill.locks import lock
from reelmill.train.checkpoint import complete
from reelmill.train.manifest import damage, has_manifest
from reelmill.train.parallel import Ranks


@contextmanager
def sole_run(out: Path, ranks: Ranks) -> Iterator[None]:
    """Hold the folder `out` for this run; the first rank locks it. All ranks call this together.

    Raises MachineError on every rank, at once, where another run holds it.
    """
    error: MachineError | None = None
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as handle:
        if ranks.is_first:
            try:
                lock(handle, out)
            except MachineError as caught:
                error = caught
        if ranks.any(error is not None):
            raise error or MachineError(f"another run is writing to {out}; see what the first rank says")
        yield


def last_sound(folder: Path, ranks: Ranks, log_fn: Callable[[str], None]) -> Path | None:
    """The newest sound checkpoint in a folder, or None. All ranks call this together.

    The first rank reads the files. It sets damaged checkpoints aside, so that a run can write their steps again.
    """
    step = -1
    if ranks.is_first:
        for number, path in reversed(complete(folder).items()):
            problems = damage(path)
            if not problems:
                if not has_manifest(path):
                    log_fn(f"{path} is of an earlier version, which kept no hashes: its bytes are not checked")
                step = number
                break
            aside = next(_free_names(path))
            path.rename(aside)
            log_fn(f"{path} is damaged ({'; '.join(problems[:3])}); it is set aside as {aside.name}")
    step = ranks.highest(step)
    return complete(folder)[step] if step >= 0 else None


def _free_names(path: Path) -> Iterator[Path]:
    """`step-000115.damaged`, or the first with a number behind it that there is not yet."""
    number = 0
    while True:
        name = path.with_name(f"{path.name}.damaged{f'-{number}' if number else ''}")
        if not name.exists():
            yield name
        number += 1
