"""Typed configuration: dataclasses from and to TOML, dotted overrides, errors that name the nearest key.

A config is a dataclass whose fields are str, int, float, bool, `X | None`, `Literal`, list[X], dict[str, X], Any or
another such dataclass, or one of several, told apart by their keys. TOML has no null: a field whose value is None is
left out.

A field that changes no result (how many workers, where to run, how often to log) is declared with `free`. `identity`
leaves it out; fingerprints and the check that a run goes on with its own recipe use that, and nothing else.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from reelmill.errors import ConfigError

T = TypeVar("T")

PLUGIN_TABLES = {"plugin_tables": True}
"""Metadata of a field, a dict of tables: it takes the tables of a recipe that no other field takes, under their own
names. They are those of classes that the recipe names."""

_IDENTITY = "identity"


def free(default: T) -> T:
    """The default of a dataclass field that changes no result: `workers: int = free(4)`."""
    return dataclasses.field(default=default, metadata={_IDENTITY: False})


def free_table(factory: Callable[[], T]) -> T:
    """The same for a field with a default factory: `log: LogConfig = free_table(LogConfig)`."""
    return dataclasses.field(default_factory=factory, metadata={_IDENTITY: False})


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from a nested mapping.

    Raises ConfigError for an unknown key (naming the nearest one), a missing key or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    data = _with_plugin_tables(fields, data)
    for key in data:
        if key not in fields:
            raise ConfigError(_unknown(key, fields, where))
    values = {key: _convert(hints[key], value, _join(where, key)) for key, value in data.items()}
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where or cls.__name__}: missing key{'s' * (len(missing) > 1)} {', '.join(missing)}")
    return cls(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a config, with None values left out (TOML has no null)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            values = {f.name: getattr(value, f.name) for f in fields}
            for tables in [values.pop(f.name) for f in fields if "plugin_tables" in f.metadata]:
                values |= tables
            return plain(values)
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items() if v is not None}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return value

    result: dict[str, Any] = plain(config)
    return result


def identity(config: Any, cls: type | None = None) -> dict[str, Any]:
    """`to_dict` without the fields that are `free`: what the results depend on.

    `config` is a dataclass, or a nested mapping of the dataclass `cls`; keys that `cls` does not have stay.
    """

    def kept(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
        hints = get_type_hints(cls)
        dropped = {f.name for f in dataclasses.fields(cls) if not f.metadata.get(_IDENTITY, True)}
        return {
            key: kept(hints[key], value)
            if dataclasses.is_dataclass(hints.get(key)) and isinstance(value, Mapping)
            else value
            for key, value in data.items()
            if key not in dropped
        }

    return kept(cls or type(config), to_dict(config))


def to_toml(config: Any) -> str:
    """TOML text of a config; `from_dict(type(config), tomllib.loads(text))` gives an equal one."""
    import tomli_w  # needed to write alone: the benches of a bare GPU machine read

    return tomli_w.dumps(to_dict(config))


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; ConfigError names the file and the place when it is malformed or missing."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no recipe file at {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def override(config: T, assignments: Iterable[str]) -> T:
    """Apply dotted assignments such as `rules.motion.min=0.05`; values are read as TOML, else taken as text.

    A new entry may be added to a table of entries (`rules.mine.expr=...`); an unknown field is an error.
    """
    data = to_dict(config)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r}: write it as KEY=VALUE, e.g. rules.motion.min=0.05")
        *parents, last = key.strip().split(".")
        node = data
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"--set {assignment!r}: {parent} is a value, not a table")
            node = child
        node[last] = _value(text.strip())
    return from_dict(type(config), data)


def differences(old: Any, new: Any) -> list[str]:
    """Lines `key: old -> new` for every leaf in which two configs (or nested dicts) differ, in key order."""
    before, after = _leaves(to_dict(old)), _leaves(to_dict(new))
    return [
        f"{key}: {before.get(key, '(none)')} -> {after.get(key, '(none)')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def at_least(table: str, config: Any, **bounds: float) -> None:
    """Raise ConfigError for a field of a recipe's table that lies below its bound, as in `batch=1`."""
    for key, bound in bounds.items():
        value = getattr(config, key)
        if value is not None and not value >= bound:  # also what is no number
            raise ConfigError(f"{table}.{key} is {value:g}; it must be at least {bound:g}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint such as `did you mean 'motion'?` followed by the allowed names; for error messages."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(options) or '(none)'}"


def _with_plugin_tables(fields: Mapping[str, dataclasses.Field[Any]], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """`data` with the tables that are no field's brought together under the field that takes them, if there is one."""
    taker = next((name for name, field in fields.items() if "plugin_tables" in field.metadata), None)
    if taker is None:
        return data
    own = {key: value for key, value in data.items() if key in fields and key != taker}
    others = {key: value for key, value in data.items() if key not in own}
    tables = {key: value for key, value in others.items() if isinstance(value, Mapping)}
    return {**own, **{key: value for key, value in others.items() if key not in tables}, taker: tables}


def _leaves(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            leaves.update(_leaves(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _unknown(key: str, fields: Iterable[str], where: str) -> str:
    return f"unknown key {_join(where, key)!r}; {nearest(key, fields)}"


def _convert(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911  (one return per kind of type)
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        if value is None:
            return None
        return _convert(_best(options, value), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{where} is {value!r}; {nearest(str(value), map(str, get_args(hint)))}")
        return value
    if origin in (list, tuple):  # a tuple is tuple[item, ...]
        if not isinstance(value, list | tuple):
            raise ConfigError(_wrong(where, value, "a list"))
        inner = get_args(hint)[0]
        return origin(_convert(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(_wrong(where, value, "a table"))
        _, inner = get_args(hint)
        return {str(k): _entry(inner, v, where, str(k), value) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(_wrong(where, value, "a table"))
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    return _scalar(hint, value, where)


def _entry(hint: Any, value: Any, where: str, name: str, entries: Iterable[str]) -> Any:
    """An entry of a table whose names the recipe chooses. One that is incomplete may be another's name, mistyped."""
    try:
        return _convert(hint, value, _join(where, name))
    except ConfigError as error:
        close = difflib.get_close_matches(name, [other for other in map(str, entries) if other != name], n=1)
        if not close or "did you mean" in str(error):
            raise
        raise ConfigError(f"{error}; did you mean {_join(where, close[0])!r}?") from None


def _best(options: list[Any], value: Any) -> Any:
    """Of several dataclasses the first that has all keys of the value; else the first option."""
    tables = [option for option in options if dataclasses.is_dataclass(option)]
    if len(tables) < 2 or not isinstance(value, Mapping):
        return options[0]
    fitting = (table for table in tables if value.keys() <= {f.name for f in dataclasses.fields(table)})
    return next(fitting, options[0])


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(_wrong(where, value, {"str": "text"}.get(hint.__name__, f"of type {hint.__name__}")))
    return value


def _wrong(where: str, value: Any, wanted: str) -> str:
    return f"{where} is {value!r} ({type(value).__name__}); it must be {wanted}"
