"""Commands about recipes: `recipe list`, `recipe show`."""

from __future__ import annotations

from typing import Annotated

import typer

from reelmill.terminal import echo

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Names of the recipes and what they are for."""
    from reelmill.pipelines.recipes.show import GROUPS

    for group in GROUPS.values():
        recipes = group.recipes()
        echo(f"{group.use}:")
        for name, make in recipes.items():
            echo(f"  {name:{max(map(len, recipes))}}  {(make.__doc__ or '').splitlines()[0]}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Recipe name or TOML file.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change one value: rules.motion.min=0.05")] = None,
) -> None:
    """The whole recipe as TOML, ready to be changed: every key that --set takes, and what it means."""
    from reelmill.pipelines.recipes.show import shown

    echo(shown(name, set_ or []))
