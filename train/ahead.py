"""Results computed in a background thread, one ahead of the caller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """The results of `make` for consecutive numbers. One thread runs it, one call at a time."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next: tuple[int, Future[T]] | None = None

    def get(self, number: int, *, more: bool) -> T:
        """Return the result for `number`; with `more`, start the next one. Raises what `make` raises."""
        if self._next is None or self._next[0] != number:
            self._begin(number)
        assert self._next is not None
        result = self._next[1].result()
        self._next = None
        if more:
            self._begin(number + 1)
        return result

    def close(self) -> None:
        """Wait for the thread to end."""
        self._thread.shutdown(cancel_futures=True)

    def _begin(self, number: int) -> None:
        self._next = (number, self._thread.submit(self._make, number))
