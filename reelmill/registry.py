"""Classes that a recipe names: one of ours by its short name, or anybody's as `package.module:Class`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import TypeVar

from reelmill.config import nearest
from reelmill.errors import ConfigError

T = TypeVar("T")

_MOVED = {
    "reelmill.curation.stage": "reelmill.curation.interfaces",
    "reelmill.curation.captioners": "reelmill.curation.captions.contract",
    "reelmill.curation.scorers.looks": "reelmill.curation.scorers.image_quality",
}
"""Modules that a scorer or a recipe of one's own may still name."""


def find_class(what: str, name: str, known: Mapping[str, str], base: type[T]) -> type[T]:
    """The class behind a name of `known` (short name to `package.module:Class`), or behind `package.module:Class`.

    `what` is the word for errors ("scorer"). Raises ConfigError when there is no such class, or when it is not a
    subclass of `base`. A module is imported only when one of its names is asked for.
    """
    target = known.get(name, name)
    module, _, attribute = target.partition(":")
    package = module.partition(".")[0]
    if not (package and attribute):
        raise ConfigError(f"no {what} is called {name!r}; {nearest(name, known)}, or package.module:Class")
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"{what} {name!r}: there is no package {package!r} on this machine; install it, or put its folder on "
            "PYTHONPATH"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        moved = f"; it is now {_MOVED[error.name]}" if error.name in _MOVED else ""
        raise ConfigError(f"{what} {name!r}: {module} cannot be imported: {error}{moved}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{target} is not a {base.__module__}.{base.__qualname__}")
    return found
