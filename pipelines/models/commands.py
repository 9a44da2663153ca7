"""`reelmill models`: list, pull and verify what the weights registry knows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from reelmill.terminal import echo, echo_json

app = typer.Typer(no_args_is_help=True, help="Model weights and sample media: list, pull, verify.")

Names = Annotated[list[str] | None, typer.Argument(help="Names of cards; without any, the default ones.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every card: what it is, its licence, and whether it is on this machine."""
    from reelmill import weights

    states = weights.verify()
    rows = [{**asdict(card), "state": states[name]} for name, card in weights.cards().items()]
    if as_json:
        echo_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "MB", "licence", "state")
    for row in rows:
        terms = row["licence"] if row["commercial_use"] else f"{row['licence']} (non-commercial)"
        state = f"{row['state']}{' (default)' if row['default'] else ''}"
        table.add_row(f"{row['name']}\n[dim]{row['description']}[/]", f"{row['bytes'] / 1e6:.1f}", terms, state)
    Console().print(table)


@app.command()
def pull(
    names: Names = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept a licence that forbids commercial use.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring weights to this machine."""
    from reelmill import weights

    chosen = names or [card.name for card in weights.cards().values() if card.default]
    paths = {}
    for name in chosen:
        paths[name] = str(weights.pull(name, consent=accept_licence))
        if not as_json:
            echo(f"{name}: {paths[name]}")
    if as_json:
        echo_json(paths)


@app.command()
def verify(names: Names = None, as_json: AsJson = False) -> None:
    """Hash what is on this machine; exit code 3 when a named or default file is missing or any is damaged."""
    from reelmill import weights

    required = set(names or [card.name for card in weights.cards().values() if card.default])
    states = weights.verify(names)
    if as_json:
        echo_json(states)
    else:
        for name, state in states.items():
            echo(f"{name}: {state}")
    bad = [name for name, state in states.items() if state == "damaged" or (state == "missing" and name in required)]
    if bad:
        from reelmill.errors import WeightsError

        raise WeightsError(f"not in order: {', '.join(bad)}. Run: reelmill models pull {' '.join(bad)}")
