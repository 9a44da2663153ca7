"""Rows as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from reelmill.terminal import cell, say

MAX_WIDTH = 2000


def print_table(console: Console, rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Rows as a table, as wide as its values: nothing is cut or folded, a terminal may wrap the lines."""
    if not rows:
        say(console, "(no rows)")
        return
    table = Table(title=cell(title) if title else None, title_justify="left", title_style="bold")
    for name, value in rows[0].items():
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        table.add_column(cell(name), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(cell(_text(value)) for value in row.values()))
    wide = Console(file=console.file, width=MAX_WIDTH, force_terminal=console.is_terminal, quiet=console.quiet)
    wide.print(table, soft_wrap=True)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list) and len(value) > 12:
        return f"[{', '.join(map(str, value[:12]))}, … {len(value)}]"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
