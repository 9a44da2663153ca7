"""One validator for what is said by those whom nobody vouches for: children that decode, endpoints, models.

A field says what it takes; `check` gives back the value, of plain Python types and within its bounds, or raises
Nonsense. What passes can be hashed, compared, encoded as UTF-8 and stored in any column that is made for it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from reelmill.errors import brief

MAX_MESSAGE_BYTES = 1024**3
"""What one message may hold in all; whoever listens may set a lower bound."""
MAX_JSON_BYTES = 1024**2
_NOTHING = object()


class Nonsense(Exception):
    """What was said is not what may be said."""


class Field(Protocol):
    """What one value may be."""

    def check(self, value: Any, name: str) -> Any:
        """`value` as it is kept; Nonsense names it `name`."""


@dataclass(frozen=True)
class Number:
    """A finite number, kept as float."""

    least: float = -sys.float_info.max
    most: float = sys.float_info.max

    def check(self, value: Any, name: str) -> float:
        """`value` as float."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Nonsense(f"{name} is {_shown(value)}; a number is wanted")
        if not self.least <= value <= self.most:  # NaN is not
            raise Nonsense(f"{name} is {_shown(value)}; {self.least:g} to {self.most:g} is allowed")
        return float(value)


@dataclass(frozen=True)
class Integer:
    """A whole number."""

    least: int
    most: int

    def check(self, value: Any, name: str) -> int:
        """`value` as it is."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise Nonsense(f"{name} is {_shown(value)}; a whole number is wanted")
        if not self.least <= value <= self.most:
            raise Nonsense(f"{name} is {_shown(value)}; {self.least} to {self.most} is allowed")
        return value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: Any, name: str) -> bool:
        """`value` as it is."""
        if not isinstance(value, bool):
            raise Nonsense(f"{name} is {_shown(value)}; true or false is wanted")
        return value


@dataclass(frozen=True)
class Text:
    """Text of at most so many characters that can be stored as UTF-8, all of it like `pattern` where there is one.

    Halves of surrogate pairs are refused, or with `repair` become question marks.
    """

    most: int
    pattern: str = ""
    repair: bool = False

    def check(self, value: Any, name: str) -> str:
        """`value` as it is, or repaired."""
        if not isinstance(value, str):
            raise Nonsense(f"{name} is {_shown(value)}; text is wanted")
        if len(value) > self.most:
            raise Nonsense(f"{name} has {len(value)} characters; {self.most} are allowed")
        text = value.encode("utf-8", "replace").decode() if self.repair else value
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Nonsense(f"{name} is no text: it holds half a surrogate pair") from None
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise Nonsense(f"{name} is {_shown(text)}, which is not like {self.pattern}")
        return text


@dataclass(frozen=True)
class Maybe:
    """Another field, or nothing: null and a missing key give None."""

    of: Field

    def check(self, value: Any, name: str) -> Any:
        """None, or what the field makes of `value`."""
        return None if value is None or value is _NOTHING else self.of.check(value, name)


@dataclass(frozen=True)
class List:
    """A list of at most so many entries, whatever they are."""

    most: int

    def check(self, value: Any, name: str) -> list[Any]:
        """`value` as it is."""
        if not isinstance(value, list) or len(value) > self.most:
            raise Nonsense(f"{name} is {_shown(value)}; a list of at most {self.most} is wanted")
        return value


@dataclass(frozen=True)
class Listed:
    """A list of at most so many entries, each of which the field takes."""

    of: Field
    most: int

    def check(self, value: Any, name: str) -> list[Any]:
        """What the field makes of each entry."""
        return [self.of.check(one, f"{name}[{n}]") for n, one in enumerate(List(self.most).check(value, name))]


@dataclass(frozen=True)
class First:
    """A list of which the first entry counts."""

    of: Field

    def check(self, value: Any, name: str) -> Any:
        """What the field makes of the first entry."""
        if not isinstance(value, list) or not value:
            raise Nonsense(f"{name} is {_shown(value)}; a list with an entry is wanted")
        return self.of.check(value[0], f"{name}[0]")


@dataclass(frozen=True)
class Record:
    """An object with these fields. Other keys are left out: what nobody checked nobody sees."""

    fields: Mapping[str, Field] = field(default_factory=dict)

    def check(self, value: Any, name: str) -> dict[str, Any]:
        """A new dict with the keys of `fields`."""
        if not isinstance(value, dict):
            raise Nonsense(f"{name} is {_shown(value)}; an object is wanted")
        return {key: wanted.check(value.get(key, _NOTHING), f"{name}.{key}") for key, wanted in self.fields.items()}


def load_json(data: bytes, name: str = "the answer") -> Any:
    """JSON as Python's types. Raises Nonsense for what is no JSON or nested too deep."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Nonsense(f"{name} is no JSON: {brief(error)}") from None


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "missing"
    if isinstance(value, bool | float) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else f"a number of {value.bit_length()} bits"
    if isinstance(value, str):
        return ascii(value[:40])
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else type(value).__name__
