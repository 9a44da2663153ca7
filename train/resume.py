"""How a run takes over its folder: exclusively, and from the newest sound checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reelmill.errors import MachineError
from reelmill.locks import lock
from reelmill.train.checkpoint import complete, incomplete
from reelmill.train.manifest import damage, has_manifest
from reelmill.train.parallel import Ranks


@contextmanager
def sole_run(out: Path, ranks: Ranks) -> Iterator[None]:
    """Hold the folder `out` for this run; the first rank locks it. All ranks call this together.

    Raises MachineError on every rank, at once, where another run holds it.
    """
    with ExitStack() as held:
        with ranks.together():
            if ranks.is_first:
                out.mkdir(parents=True, exist_ok=True)
                lock(held.enter_context((out / ".lock").open("a")), out)
        yield


def last_sound(folder: Path, ranks: Ranks, log_fn: Callable[[str], None]) -> Path | None:
    """The newest sound checkpoint in a folder, or None. All ranks call this together.

    The first rank reads the files. It sets damaged checkpoints aside, so that a run can write their steps again.
    """
    step = -1
    with ranks.together():
        if ranks.is_first:
            step = _last_sound(folder, log_fn)
    step = ranks.highest(step)
    with ranks.together():
        if step >= 0 and step not in complete(folder):
            raise MachineError(
                f"rank {ranks.rank} does not see step {step} in {folder}, which the first rank found there; all ranks "
                "must see one file system"
            )
    return complete(folder)[step] if step >= 0 else None


def _last_sound(folder: Path, log_fn: Callable[[str], None]) -> int:
    """The step of the newest sound checkpoint, -1 without one. Damaged ones are set aside."""
    for path in incomplete(folder):
        _set_aside(path, ["state.json is gone"], log_fn)
    for step, path in reversed(complete(folder).items()):
        problems = damage(path)
        if not problems:
            if not has_manifest(path):
                log_fn(f"{path} is of an earlier version, which kept no hashes: its bytes are not checked")
            return step
        _set_aside(path, problems, log_fn)
    return -1


def _set_aside(path: Path, problems: Sequence[str], log_fn: Callable[[str], None]) -> None:
    aside = next(_free_names(path))
    path.rename(aside)
    log_fn(f"{path} is damaged ({'; '.join(problems[:3])}); it is set aside as {aside.name}")


def _free_names(path: Path) -> Iterator[Path]:
    """`step-000115.damaged`, or with the first free number appended."""
    number = 0
    while True:
        name = path.with_name(f"{path.name}.damaged{f'-{number}' if number else ''}")
        if not name.exists():
            yield name
        number += 1
