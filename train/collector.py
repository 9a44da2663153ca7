"""Python's garbage collector between steps: on all ranks after the same step, and never within one.

Left alone, each rank's collector runs when its own count of objects says so, for up to tenths of a second, and all
other ranks wait in the next collective: of many ranks one collects in nearly every step.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 50
"""Steps between collections."""


@contextmanager
def collected_between_steps() -> Iterator[Callable[[int], None]]:
    """Turns automatic collection off; yields what is called after each step with the number of steps made.

    What exists already (modules, graphs) is not looked at again, so that a collection is short.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield _collect
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def _collect(made: int) -> None:
    if made % EVERY == 0:
        gc.collect()
