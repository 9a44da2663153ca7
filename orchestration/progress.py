"""Progress of a stage: a bar with rates and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from reelmill.orchestration.engine import Receipt, Task
from reelmill.terminal import say

PLAIN_EVERY_S = 5.0


def follow(stage: str, tasks: list[Task], receipts: Iterable[Receipt], console: Console) -> Counter[str]:
    """Show `receipts` as they come and return the sums of their counts."""
    total = sum(task["items"] for task in tasks)
    sums: Counter[str] = Counter()
    began = time.monotonic()
    shown = _bar(stage, total, receipts, console) if console.is_terminal else _lines(stage, total, receipts, console)
    for receipt in shown:
        sums.update({k: v for k, v in receipt.items() if k != "unit" and isinstance(v, int | float)})
    if tasks:
        line = describe(sums, time.monotonic() - began)
        say(console, line, head=stage)
    return sums


def describe(sums: Counter[str], seconds: float) -> str:
    """`24 items, 41 samples, 3 refused in 12 s (2.0 items/s, 3.4 samples/s)`."""
    counts = [f"{value:.0f} {name}" for name, value in sums.items() if name != "cpu_s"]
    rates = [f"{sums[n] / max(seconds, 1e-9):.1f} {n}/s" for n in ("items", "samples", "documents") if sums.get(n)]
    return f"{', '.join(counts)} in {seconds:.0f} s ({', '.join(rates)})"


def _bar(stage: str, total: int, receipts: Iterable[Receipt], console: Console) -> Iterator[Receipt]:
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(stage, total=total, text="starting")
        began, sums = time.monotonic(), Counter[str]()
        for receipt in receipts:
            sums.update({k: v for k, v in receipt.items() if k != "unit" and isinstance(v, int | float)})
            bar.update(task, completed=sums["items"], text=describe(sums, time.monotonic() - began))
            yield receipt


def _lines(stage: str, total: int, receipts: Iterable[Receipt], console: Console) -> Iterator[Receipt]:
    began = shown = time.monotonic()
    sums: Counter[str] = Counter()
    for receipt in receipts:
        sums.update({k: v for k, v in receipt.items() if k != "unit" and isinstance(v, int | float)})
        now = time.monotonic()
        if now - shown > PLAIN_EVERY_S and sums["items"] < total:
            left = (now - began) * (total - sums["items"]) / max(sums["items"], 1)
            text = describe(sums, now - began)
            line = f"{stage} {sums['items']:.0f}/{total}: {text}, {left:.0f} s left"
            say(console, line)
            shown = now
        yield receipt
