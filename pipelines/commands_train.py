"""Commands that learn and draw: `train`, `generate`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
