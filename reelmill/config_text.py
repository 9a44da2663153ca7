"""A config as TOML that explains itself: each key that `--set` takes, with what its field's docstring says.

A field's docstring is the text under it in its class, read from the source. A key that is not set (its value is None)
stands as a comment, so that the text still is the config.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tomli_w

WIDTH = 118
OptionsOf = Callable[[str, str, Mapping[str, Any]], type | None]
"""From a table's path, the name of an entry and its values to the dataclass of its options, if there is one."""


def explained(config: Any, options_of: OptionsOf = lambda table, name, values: None) -> str:
    """TOML of a config with comments; `from_dict` reads it as an equal one.

    `options_of` knows the options of entries of tables that hold anything, such as scorers.
    """
    return "\n".join(_table("", config, options_of)) + "\n"


@cache
def field_docs(cls: type) -> dict[str, str]:
    """What the docstrings of a dataclass's fields say, those of its bases too, each on one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            words = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(words, str):
                found[field.target.id] = " ".join(words.split())
    return found


def class_doc(cls: type) -> str:
    """The first paragraph of a dataclass's docstring, on one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def key_docs(cls: type, name: str) -> str:
    """What a field's docstring says, and which values it takes where these are few."""
    words = field_docs(cls).get(name, "")
    hint = get_type_hints(cls)[name]
    options = [option for option in (hint, *get_args(hint)) if get_origin(option) is Literal]
    allowed = [str(value) for option in options for value in get_args(option)]
    return f"{words} One of: {', '.join(allowed)}.".strip() if allowed else words


def _table(path: str, config: Any, options_of: OptionsOf) -> Iterator[str]:
    """Its keys, then its tables: TOML wants them in this order."""
    cls = type(config)
    if path:
        yield ""
        yield from _comment(class_doc(cls))
        yield f"[{path}]"
    fields = dataclasses.fields(config)
    tables = {field.name for field in fields if _is_table(getattr(config, field.name), field)}
    for field in fields:
        if field.name not in tables:
            yield from _comment(key_docs(cls, field.name))
            yield from _line(field, getattr(config, field.name))
    for field in fields:
        if field.name in tables:
            value = getattr(config, field.name)
            place = path if "plugin_tables" in field.metadata else _join(path, field.name)
            if dataclasses.is_dataclass(value):
                yield from _table(place, value, options_of)
            else:
                yield from _entries(place, value, cls, field, options_of)


def _is_table(value: Any, field: dataclasses.Field[Any]) -> bool:
    return dataclasses.is_dataclass(value) or isinstance(value, Mapping) or "plugin_tables" in field.metadata


def _entries(
    path: str, values: Mapping[str, Any], cls: type, field: dataclasses.Field[Any], options_of: OptionsOf
) -> Iterator[str]:
    """A table whose entries have names that the recipe chooses."""
    yield ""
    yield from _comment(key_docs(cls, field.name))
    entry_type = _dataclass_in(get_type_hints(cls)[field.name])
    if entry_type is not None:
        yield from _comment(class_doc(entry_type))
        for name in field_docs(entry_type):
            yield from _comment(f"{name}: {key_docs(entry_type, name)}")
    plain = {name: value for name, value in values.items() if not _holds_keys(value)}
    if plain:
        yield f"[{path}]"
        yield from _keys(plain)
    for name, value in values.items():
        if name not in plain:
            yield ""
            yield f"[{_join(path, _quoted(name))}]"
            yield from _entry(value, None if entry_type else _options(path, name, value, options_of))


def _entry(value: Any, options: type | None) -> Iterator[str]:
    """The keys of an entry, and with `options` those that it could have."""
    set_ = _set(value)
    known = {field.name: field for field in _fields(options)} if options is not None else {}
    yield from _keys({key: entry for key, entry in set_.items() if key not in known})
    for name, field in known.items():
        assert options is not None
        yield from _comment(key_docs(options, name))
        yield from _line(field, set_.get(name, _default(field)), is_set=name in set_)


def _options(path: str, name: str, value: Any, options_of: OptionsOf) -> type | None:
    return type(value) if dataclasses.is_dataclass(value) else options_of(path, name, value)


def _dataclass_in(hint: Any) -> type | None:
    options = [option for option in get_args(hint) if isinstance(option, type) and dataclasses.is_dataclass(option)]
    return options[0] if options else None


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _holds_keys(value: Any) -> bool:
    return isinstance(value, Mapping) or dataclasses.is_dataclass(value)


def _set(value: Any) -> dict[str, Any]:
    """The keys of an entry that are set."""
    items = value if isinstance(value, Mapping) else {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {str(key): entry for key, entry in items.items() if entry is not None}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _line(field: dataclasses.Field[Any], value: Any, *, is_set: bool = True) -> Iterator[str]:
    if value is None:
        yield f"# {field.name} =    not set; {str(field.type).replace(' | None', '')}"
    else:
        for line in _keys({field.name: value}):
            yield line if is_set else f"# {line}"


def _keys(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, list | tuple) and not any(isinstance(entry, Mapping | list | tuple) for entry in value):
            yield f"{_quoted(key)} = [{', '.join(_scalar(entry) for entry in value)}]"
        else:
            yield from tomli_w.dumps({key: value}).rstrip("\n").splitlines()


def _scalar(value: Any) -> str:
    return tomli_w.dumps({"v": value}).removeprefix("v = ").rstrip("\n")


def _comment(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent="# ", subsequent_indent="# ") if words else []


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
