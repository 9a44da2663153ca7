"""Configs that explain themselves: the text is the config, and no key of a recipe is without a sentence."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelmill.config import from_dict
from reelmill.config_text import explained, field_docs, key_docs
from reelmill.curation.scorers import SCORERS, scorer_class
from reelmill.errors import ConfigError
from reelmill.orchestration.recipe import Recipe
from reelmill.pipelines.curate import recipes as curation
from reelmill.pipelines.recipes.show import GROUPS, shown
from reelmill.train.objectives import OBJECTIVES, objective_class


@dataclass
class Bound:
    """Where it ends."""

    min: float | None = None
    """Least value,
    that is kept."""
    mode: Literal["a", "b"] = "a"


@dataclass
class Base:
    name: str = "x"
    """What it is called."""


@dataclass
class Config(Base):
    """All of it.

    More of it.
    """

    sizes: tuple[int, ...] = ()
    words: list[str] = field(default_factory=list)
    one: Bound = field(default_factory=Bound)
    bounds: dict[str, Bound] = field(default_factory=dict)
    """Bounds by name."""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)


text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)
bounds = st.builds(Bound, min=st.none() | st.floats(allow_nan=False, allow_infinity=False), mode=st.sampled_from("ab"))
configs = st.builds(
    Config,
    name=text,
    sizes=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    words=st.lists(text, max_size=3),
    one=bounds,
    bounds=st.dictionaries(text.filter(bool), bounds, max_size=3),
    tables=st.dictionaries(text.filter(bool), st.dictionaries(text.filter(bool), st.integers() | text), max_size=3),
)


@given(configs)
def test_the_text_is_the_config(config):
    assert from_dict(Config, tomllib.loads(explained(config))) == config


def test_keys_have_their_docstrings_and_what_is_not_set_is_a_comment():
    lines = explained(Config(bounds={"mine": Bound(1.0)})).splitlines()
    assert lines[:2] == ["# What it is called.", 'name = "x"']
    where = lines.index("[one]")
    assert lines[where - 1] == "# Where it ends."
    assert lines[where + 1 : where + 5] == [
        "# Least value, that is kept.",
        "# min =    not set; float",
        "# One of: a, b.",
        'mode = "a"',
    ]
    assert {"# Bounds by name.", "# min: Least value, that is kept.", "[bounds.mine]", "min = 1.0"} <= set(lines)


@dataclass
class Options:
    speed: int = 3
    """How fast."""
    place: str | None = None


def test_options_that_are_not_given_are_shown_with_their_default():
    config = Config(tables={"fast": {"place": "here", "use": "own"}, "other": {"x": 1}})
    told = explained(config, lambda table, name, values: Options if values.get("use") == "own" else None)
    assert from_dict(Config, tomllib.loads(told)) == config
    assert "# How fast.\n# speed = 3\n" in told
    assert 'place = "here"' in told


def named():
    for name, group in GROUPS.items():
        for recipe in group.recipes():
            yield pytest.param(name, recipe, id=recipe)


@pytest.mark.parametrize(("group", "name"), list(named()))
def test_every_recipe_shows_what_it_is(group, name):
    made = GROUPS[group].recipes()[name]()
    told = shown(name, [])
    assert from_dict(type(made), tomllib.loads(told)) == made
    tables, place = {}, ""
    for line in told.splitlines():
        place = line[1:-1] if line.startswith("[") else place
        tables.setdefault(place, []).append(line)
    for path, config in leaves(made):
        for key in dataclasses.fields(config):
            value = getattr(config, key.name)
            if not isinstance(value, dict) and not dataclasses.is_dataclass(value):
                at = [
                    n for n, line in enumerate(tables[path]) if line.startswith((f"{key.name} = ", f"# {key.name} = "))
                ]
                assert at, f"{path}.{key.name} is not shown"
                assert tables[path][at[0] - 1].startswith("# "), f"{path}.{key.name} is shown without a sentence"


def leaves(config, path=""):
    """Every table of a config that is a dataclass, with its path."""
    yield path, config
    for key in dataclasses.fields(config):
        value = getattr(config, key.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{path}.{key.name}".lstrip("."))


def test_options_of_scorers_and_objectives_are_explained():
    for cls in [
        *(scorer_class(name).Config for name in SCORERS),
        *(objective_class(name).Config for name in OBJECTIVES),
    ]:
        for key in dataclasses.fields(cls):
            assert key_docs(cls, key.name), (cls, key.name)
    assert "# Evenly spaced pairs, all, or all on a GPU only. One of: auto, spaced, all.\n# pairs = " in shown(
        "sample", []
    )
    assert "[preference]\n# NAME of pairs/NAME in the run folders" in shown("dpo", [])


def test_a_file_is_shown_as_what_it_is(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "video"\nname = "mine"\n[rules.duration]\nmin = 3.0\n')
    told = shown(str(tmp_path / "mine.toml"), ["rules.text.max=0.01"])
    recipe = from_dict(Recipe, tomllib.loads(told))
    assert (recipe.name, recipe.rules["duration"].min, recipe.rules["text"].max) == ("mine", 3.0, 0.01)
    (tmp_path / "small.toml").write_text(shown("tiny", ["steps=7"]))
    assert "steps = 7" in shown(str(tmp_path / "small.toml"), [])
    (tmp_path / "codes.toml").write_text(shown("reelmill-tok-xs", []))
    assert "tokenizer train" in shown(str(tmp_path / "codes.toml"), [])
    with pytest.raises(ConfigError, match="unknown recipe 'tinny'; did you mean 'tiny'"):
        shown("tinny", [])


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("rules.motoin.max=0.5", r"rules.motoin: missing key expr; did you mean 'rules.motion'\?"),
        ("rules.motion.maxx=0.5", "unknown key 'rules.motion.maxx'; did you mean 'max'"),
        ("score.scorers.qualty.skip_if=failed", "no scorer is called 'qualty'; did you mean 'quality'"),
        ("score.decode.sample_fsp=3", "did you mean 'sample_fps'"),
        ("captions.endpiont.model=x", "did you mean 'endpoint'"),
    ],
)
def test_a_mistyped_key_is_answered_with_the_nearest(assignment, words):
    with pytest.raises(ConfigError, match=words):
        curation.load("video", [assignment])


def test_a_mistyped_rule_of_a_file_too(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "video"\n[rules.duraton]\nmin = 3.0\n')
    with pytest.raises(ConfigError, match=r"did you mean 'rules\.duration'"):
        curation.load(str(tmp_path / "mine.toml"))


def test_docstrings_of_fields_are_those_of_the_source():
    assert field_docs(Config) == {"name": "What it is called.", "bounds": "Bounds by name."}
