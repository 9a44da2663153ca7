"""What campaigns have in common, and the table of what they found."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


@dataclass
class Tried:
    """How many tries there were, and what failed."""

    tries: int = 0
    failures: list[str] = field(default_factory=list)

    def note(self, *failures):
        """One more try."""
        self.tries += 1
        self.failures.extend(failure for failure in failures if failure)


Campaign = Callable[[Path], AbstractContextManager[Callable[[Random], Tried]]]
"""Given a folder of its own: a context with the function that tries once, or a few times."""

CAMPAIGNS = {  # name: (module, share of the time)
    "malformed files": ("corpus", 4),
    "kills of what writes run folders": ("kills", 8),
    "kills of training": ("training", 2),
    "storage faults": ("storage", 8),
    "flipped bits in run folders": ("flips", 3),
    "flipped bits in checkpoints": ("checkpoints", 1),
    "hostile names": ("names", 1),
    "messages of a child": ("messages", 0.5),
    "requests to serve": ("serving", 0.5),
}
"""A try of the first five takes seconds; of the last two, thousands a minute."""


def campaign(name) -> Campaign:
    """The campaign of that name."""
    return importlib.import_module(f"torture.{CAMPAIGNS[name][0]}").campaign


def groups(names, jobs):
    """The campaigns in so many groups, or fewer, that have about as much of the time each."""
    dealt = [[] for _ in range(min(jobs, len(names)))]
    for name in sorted(names, key=lambda name: -CAMPAIGNS[name][1]):
        min(dealt, key=lambda group: sum(CAMPAIGNS[one][1] for one in group)).append(name)
    return dealt


def chance(seed, name, number):
    """The random numbers of a try: a function of the seed, the campaign and the try's number."""
    return Random(f"{seed} {name} {number}")


def upper_bound(tries, failures):
    """Of the rate of failures, at 95 %: 3/n where none was found (the rule of three)."""
    return 3 / tries if tries and not failures else None


def table(found, seconds):
    """Markdown: a line for each campaign."""
    lines = ["| attack | tries | failures | at most, at 95 % | seconds |", "|---|---|---|---|---|"]
    for name, tried in found.items():
        bound = upper_bound(tried.tries, len(tried.failures))
        rate = "-" if bound is None else f"1 in {1 / bound:,.0f}" if bound < 1 else "unknown"
        lines.append(f"| {name} | {tried.tries:,} | {len(tried.failures):,} | {rate} | {seconds[name]:,.0f} |")
    return "\n".join(lines)
