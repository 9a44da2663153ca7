"""The command line. Each command imports what it needs when it is called, so `reelmill --help` is instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperOption

import reelmill
from reelmill.errors import ConfigError, DataError, ReelmillError, is_utf8
from reelmill.os_errors import os_failure
from reelmill.pipelines.clips import commands as clips
from reelmill.pipelines.curate import caption_commands as caption
from reelmill.pipelines.curate import commands as curate
from reelmill.pipelines.doctor import commands as doctor
from reelmill.pipelines.generate import commands as generate
from reelmill.pipelines.imports import chat_command as chat
from reelmill.pipelines.imports import tokens_command as tokens
from reelmill.pipelines.ledger import commands as ledger
from reelmill.pipelines.models import commands as models
from reelmill.pipelines.prefer import commands as prefer
from reelmill.pipelines.recipes import commands as recipes
from reelmill.pipelines.report import commands as report
from reelmill.pipelines.sampledump import commands as sampledump
from reelmill.pipelines.serve import commands as serve
from reelmill.pipelines.tokenizer import commands as tokenizer
from reelmill.pipelines.tokenizer import evaluate
from reelmill.pipelines.train import commands as train
from reelmill.terminal import echo, say, set_up, set_verbosity

_UsageError: type[Any] = typer.BadParameter.__bases__[0]
"""Of whichever click Typer was built on: an option or argument that is wrong or missing."""

app = typer.Typer(
    name="reelmill",
    help="Raw web dumps of video, images and text to token shards, and one decoder trained on them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
curate.register(app)
sampledump.register(app)
caption.register(app)
ledger.register(app)
report.register(app)
doctor.register(app)
train.register(app)
generate.register(app)
serve.register(app)
app.add_typer(recipes.app, name="recipe", help="Recipes of curation and training: list, show.")
app.add_typer(tokens.app, name="tokens", help="Token shards: import codes that others made.")
app.add_typer(clips.app, name="clips", help="Kept clips and images as files: export them as WebDataset shards.")
app.add_typer(chat.app, name="chat", help="Conversations: import those about pictures that others wrote.")
app.add_typer(tokenizer.app, name="tokenizer", help="Vision tokenizers: list, show, train, encode, decode.")
app.add_typer(prefer.app, name="prefer", help="Preferences: candidates, votes, pairs, blind comparisons.")
app.add_typer(evaluate.app, name="eval", help="Measure tokenizers.")
app.add_typer(models.app, name="models", help="Weights and sample media: list, pull, verify.")


def _print_version(asked: bool) -> None:
    if asked:
        echo(reelmill.__version__)
        raise typer.Exit


def _more(count: int) -> None:
    if count:
        set_verbosity(count)


def _less(asked: bool) -> None:
    if asked:
        set_verbosity(-1)


_SAY_MORE = "Say more of what goes on; -vv: everything."
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, callback=_more, expose_value=False, help=_SAY_MORE)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_less, expose_value=False, help="Say nothing but results and errors.")
]


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, expose_value=False, help="The version.")
    ] = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Raw web dumps of video, images and text to token shards, and one decoder trained on them."""


@app.command("version")
def print_version() -> None:
    """Print the version."""
    echo(reelmill.__version__)


def command_line() -> Any:
    """The whole command line; `--verbose` and `--quiet` may stand after a command too."""
    donor = typer.Typer(add_completion=False)

    @donor.command()
    def said(verbose: Verbose = 0, quiet: Quiet = False) -> None:
        """Nothing."""

    options = typer.main.get_command(donor).params
    for option in options:
        if isinstance(option, TyperOption):
            option.hidden = True  # a command's own help is about the command
    command = typer.main.get_command(app)
    groups: list[Any] = [command]
    for group in groups:
        for inner in group.commands.values():
            if hasattr(inner, "commands"):
                groups.append(inner)
            else:
                inner.params.extend(options)
    return command


def main() -> None:
    """Run the command line: expected failures print one message and exit with their own code."""
    set_up()
    try:
        _require_text(sys.argv[1:])
        sys.exit(command_line()(prog_name="reelmill", standalone_mode=False))
    except ReelmillError as error:
        _end(str(error), error.exit_code)
    except _UsageError as error:
        message = error.format_message()
        if not message:  # a group of commands without a command: its help has been shown
            sys.exit(error.exit_code)
        help_ = f"\nSee `{error.ctx.command_path} --help`." if error.ctx else ""
        _end(f"{message}{help_}", error.exit_code)
    except typer.Abort:  # also what Typer makes of an EOFError
        _end("a file or the input ended too early", DataError.exit_code)
    except OSError as error:
        failure = os_failure(error)
        _end(str(failure), failure.exit_code)


def _require_text(arguments: Sequence[str]) -> None:
    """Names go into tables, which are UTF-8."""
    for argument in arguments:
        if not is_utf8(argument):
            raise ConfigError(f"an argument is not UTF-8: {argument}; rename the file, or set a UTF-8 locale")


def _end(message: str, code: int) -> NoReturn:
    say(Console(stderr=True), message, head="error:", style="bold red")
    sys.exit(code)


if __name__ == "__main__":
    main()
