"""A flag that several commands share means the same in all of them: one type, and one help text but for a reason."""

import typing
from collections import defaultdict

import typer

from reelmill.pipelines.cli import app

OWN_HELP = {
    "--out": "the place that a command writes to; its help says what the place is",
    "--data": "what is trained on; its help says what that can be",
    "--set": "one value of the command's recipe; the example is from that recipe",
    "--selection": "whose kept samples; `all` is for train alone",
    "--count": "how many for each prompt; what is counted is what the command makes",
    "--area": "pixels; encoding can also leave a picture as it is",
    "--page": "a page to write beside what is printed; what it shows is the command's",
    "--preset": "a named set of settings; the names are the command's",
    "--model": "a model to ask; caption run also loads one",
    "--tokenizer": "a vision tokenizer; its help says when it has to be named",
    "--temperature": "how tokens are sampled; generate has flags for codes and for text",
    "--top-k": "the same",
    "--top-p": "the same",
    "--dry-run": "nothing is done; what is said instead is the command's",
    "--json": "JSON for a script; curate and train say what they print while they work",
    "--context-tokens": "the longest sequence of a model, stated or served",
}


def commands(group, path=()):
    for command in group.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-").strip("-")
        yield " ".join((*path, name)), command.callback
    for inner in group.registered_groups:
        yield from commands(inner.typer_instance, (*path, inner.name or ""))


def flags(callback):
    """(flag, type, help) of each option."""
    for name, hint in typing.get_type_hints(callback, include_extras=True).items():
        options = [part for part in getattr(hint, "__metadata__", ()) if isinstance(part, typer.models.OptionInfo)]
        for option in options:
            kinds = [part for part in typing.get_args(hint.__origin__) if part is not type(None)] or [hint.__origin__]
            kind = str(kinds[0]).replace("pathlib.Path", "str")  # both are text
            # In Annotated, typer takes the first name of an option for its default.
            names = [decl for decl in (option.default, *option.param_decls) if str(decl).startswith("--")]
            for flag in names or [f"--{name.replace('_', '-')}"]:
                yield flag, kind, option.help


def uses():
    found = defaultdict(list)
    for command, callback in commands(app):
        for flag, kind, text in flags(callback):
            found[flag].append((command, kind, text))
    return {flag: used for flag, used in found.items() if len(used) > 1}


def test_a_flag_has_one_type_and_one_meaning():
    shared = uses()
    assert {"--seed", "--prompts", "--json", "--set", "--compile"} <= shared.keys(), "flags are found"
    assert not [(flag, used) for flag, used in shared.items() if len({kind for _, kind, _ in used}) > 1]
    differing = {flag: used for flag, used in shared.items() if len({text for *_, text in used}) > 1}
    assert not [(flag, used) for flag, used in differing.items() if flag not in OWN_HELP]
    assert not OWN_HELP.keys() - differing.keys(), "what needs no reason any more"
