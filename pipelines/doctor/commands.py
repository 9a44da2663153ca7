"""The command `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from reelmill.terminal import echo_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False) -> None:
    """What this machine has: versions, threads, GPU, weights, disk, Ray, decoding. Exit code 1 when work would fail."""
    from rich.console import Console

    from reelmill.pipelines.doctor.checks import examine, print_checks

    checks = examine()
    if as_json:
        echo_json([check.as_dict() for check in checks])
    else:
        print_checks(checks, Console())
    if any(check.state == "bad" for check in checks):
        raise typer.Exit(1)
