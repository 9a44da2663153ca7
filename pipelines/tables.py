"""Rows as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from reelmill.terminal import cell, say

MAX_WIDTH = 2000
MANY = 12
"""Columns of a table that nobody asked for by name, as in `SELECT *`."""
LEAST_WIDTH = 120


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


def print_answer(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of a query. Of many columns those that are empty in every row are left out, and those that the width of the
    terminal has no room for; both are named."""
    if not rows or len(rows[0]) <= MANY:
        print_table(console, rows)
        return
    filled = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    left = max(console.width, LEAST_WIDTH) - 1
    shown: list[str] = []
    for name in filled:
        left -= max(cell_len(text) for text in (name, *(_text(row[name]) for row in rows))) + 3
        if left < 0 and shown:
            break
        shown.append(name)
    print_table(console, [{name: row[name] for name in shown} for row in rows])
    if more := filled[len(shown) :]:
        say(console, f"{len(more)} more columns; name those that you want, or add --json: {', '.join(more)}")
    if empty := [name for name in rows[0] if name not in filled]:
        say(console, f"{len(empty)} empty in all rows: {', '.join(empty)}")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list) and len(value) > 12:
        return f"[{', '.join(map(str, value[:12]))}, … {len(value)}]"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
