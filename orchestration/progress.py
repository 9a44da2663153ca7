"""Progress of a stage: a bar with rates and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from reelmill.errors import printable
from reelmill.orchestration.engine import Receipt, Task
from reelmill.terminal import say

SHOWN_EVERY_S = 5.0
UNCHANGED_EVERY_S = 60.0
"""Where nothing has changed, lines come as often as this."""


def follow(
    stage: str, tasks: list[Task], receipts: Iterable[Receipt], console: Console, doing: Callable[[], str] = str
) -> Counter[str]:
    """Show `receipts` as they come, and between them what `doing` says is being worked on; return their sums."""
    total = sum(task["items"] for task in tasks)
    sums: Counter[str] = Counter()
    began = time.monotonic()
    show = _bar if console.is_terminal else _lines
    for receipt in show(stage, total, receipts, console, doing) if tasks else ():
        _add(sums, receipt)
    if tasks:
        line = describe(sums, time.monotonic() - began)
        say(console, line, head=stage)
    return sums


def describe(sums: Counter[str], seconds: float) -> str:
    """`24 items, 41 samples, 3 refused in 12 s (2.0 items/s, 3.4 samples/s)`."""
    counts = [f"{value:.0f} {name}" for name, value in sums.items() if name != "cpu_s"]
    rates = [f"{sums[n] / max(seconds, 1e-9):.1f} {n}/s" for n in ("items", "samples", "documents") if sums.get(n)]
    return f"{', '.join(counts)} in {seconds:.0f} s ({', '.join(rates)})"


def _bar(
    stage: str, total: int, receipts: Iterable[Receipt], console: Console, doing: Callable[[], str]
) -> Iterator[Receipt]:
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(stage, total=total, text="starting")
        began, sums = time.monotonic(), Counter[str]()

        def show() -> None:
            text = ", ".join(filter(None, (describe(sums, time.monotonic() - began), printable(doing()))))
            bar.update(task, completed=sums["items"], text=escape(text))

        with _each(SHOWN_EVERY_S, show):
            for receipt in receipts:
                _add(sums, receipt)
                show()
                yield receipt


def _lines(
    stage: str, total: int, receipts: Iterable[Receipt], console: Console, doing: Callable[[], str]
) -> Iterator[Receipt]:
    began, sums = time.monotonic(), Counter[str]()
    said: list[tuple[float, str, str]] = [(began, "", "")]

    def show() -> None:
        now, counts = time.monotonic(), describe(sums, 0) if sums else ""
        where = doing()
        then, *before = said[-1]
        if before == [counts, where] and now - then < UNCHANGED_EVERY_S:
            return
        said[:] = [(now, counts, where)]
        done = sums["items"]
        left = f"{(now - began) * (total - done) / done:.0f} s left" if done else f"{now - began:.0f} s so far"
        counted = f"{describe(sums, now - began)}, " if sums else ""
        say(console, f"{stage} {done:.0f}/{total}: {counted}{left}{where and f', {where}'}")

    with _each(SHOWN_EVERY_S, show):
        for receipt in receipts:
            _add(sums, receipt)
            yield receipt


def _add(sums: Counter[str], receipt: Receipt) -> None:
    sums.update({k: v for k, v in receipt.items() if k != "unit" and isinstance(v, int | float)})


@contextmanager
def _each(seconds: float, show: Callable[[], None]) -> Iterator[None]:
    """Call `show` again and again, in a thread, until the end."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(seconds):
            show()

    thread = threading.Thread(target=again, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
