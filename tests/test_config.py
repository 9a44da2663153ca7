"""Configs: TOML in and out, dotted overrides, errors that name the nearest key."""

import tomllib
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelmill.config import differences, from_dict, override, to_toml
from reelmill.errors import ConfigError


@dataclass
class Bound:
    min: float | None = None
    mode: Literal["a", "b"] = "a"


@dataclass
class Config:
    name: str = "x"
    count: int = 1
    on: bool = False
    rates: list[float] = field(default_factory=list)
    sizes: tuple[int, ...] = ()
    bounds: dict[str, Bound] = field(default_factory=dict)


configs = st.builds(
    Config,
    name=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20),
    count=st.integers(-(2**60), 2**60),
    on=st.booleans(),
    rates=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    sizes=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    bounds=st.dictionaries(
        st.text("abc_-", min_size=1, max_size=5),
        st.builds(Bound, min=st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        max_size=3,
    ),
)


@given(configs)
def test_toml_round_trip(config):
    assert from_dict(Config, tomllib.loads(to_toml(config))) == config


def test_override_sets_and_adds():
    config = override(
        Config(bounds={"m": Bound(1.0)}), ["bounds.m.min=2", "bounds.new.mode=b", "name=hello", "on=true"]
    )
    assert config == Config("hello", on=True, bounds={"m": Bound(2.0), "new": Bound(mode="b")})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("coutn=3", "did you mean 'count'"),
        ("bounds.m.mni=3", "did you mean 'min'"),
        ("count=three", "must be of type int"),
        ("count=true", "must be of type int"),
        ("bounds.m.mode=c", "allowed: a, b"),
        ("name.x=1", "name is a value, not a table"),
        ("count", "write it as KEY=VALUE"),
    ],
)
def test_wrong_assignments_say_what_is_allowed(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(Config(bounds={"m": Bound()}), [assignment])


def test_differences_name_the_leaves():
    old, new = Config(bounds={"m": Bound(1.0)}), Config(count=2, bounds={"m": Bound(1.5)})
    assert differences(old, new) == ["bounds.m.min: 1.0 -> 1.5", "count: 1 -> 2"]


@dataclass
class Square:
    side: int = 1
    shape: Literal["square"] = "square"


@dataclass
class Circle:
    radius: float = 1.0


@dataclass
class Drawing:
    figure: Circle | Square = field(default_factory=Circle)


def test_one_of_several_tables_is_told_by_its_keys():
    for drawing in (Drawing(), Drawing(Square(3))):
        assert from_dict(Drawing, tomllib.loads(to_toml(drawing))) == drawing
    assert override(Drawing(Square(3)), ["figure.side=4"]) == Drawing(Square(4))
    with pytest.raises(ConfigError, match=r"figure\.shape is 'cube'; allowed: square"):
        from_dict(Drawing, {"figure": {"shape": "cube"}})
    with pytest.raises(ConfigError, match=r"unknown key .figure\.radios.; did you mean .radius."):
        from_dict(Drawing, {"figure": {"radios": 3}})
