"""A scorer of one's own, as CONTRIBUTING shows it: the file and the recipe are taken from there and run."""

import io

import pytest
from contributing import block
from dumps import light_recipe
from rich.console import Console
from videos import scene_frames, write_video

from reelmill.config import differences, to_toml
from reelmill.errors import ConfigError
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "my_scorers.py").write_text(block("python", "(Scorer)"))
    (tmp_path / "steady.toml").write_text(block("toml", "my_scorers:"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_file_is_small(place):
    assert len((place / "my_scorers.py").read_text().splitlines()) <= 45


def test_the_recipe_adds_a_scorer_and_a_rule_to_its_base(place):
    lines = differences(recipes.sample(), recipes.load(str(place / "steady.toml")))
    assert {line.partition(":")[0] for line in lines} == {
        "name",
        "score.scorers.flicker.use",
        "score.scorers.flicker.border",
        *(f"rules.flicker.{key}" for key in ("expr", "max", "stage", "kinds", "null", "unless")),
    }


def test_it_makes_columns_and_its_rule_decides(place):
    (place / "dump").mkdir()
    write_video(place / "dump" / "calm.mp4", scene_frames([(1, 72)]))
    blinking = (frame // (1 + 3 * (i // 12 % 2)) for i, frame in enumerate(scene_frames([(2, 72)])))
    write_video(place / "dump" / "blinks.mp4", blinking, options={"crf": "18", "g": "12", "threads": "1"})
    steady = recipes.load(str(place / "steady.toml"))
    light = recipes.load(
        str(light_recipe(place / "light.toml")), ["engine.executor=inline", "score.scenes.threshold=99"]
    )
    light.score.scorers["flicker"], light.rules["flicker"] = steady.score.scorers["flicker"], steady.rules["flicker"]
    (place / "mine.toml").write_text(to_toml(light))
    mine = recipes.load(str(place / "mine.toml"))
    curate([place / "dump"], place / "out", mine, CurateOptions(), Console(file=io.StringIO()))
    with LedgerQueries((place / "out").resolve()) as ledger:
        found = {row["uri"]: row for row in ledger.ask("SELECT * FROM samples").to_pylist()}
    calm, blinks = found["calm.mp4"], found["blinks.mp4"]
    assert 0 <= calm["flicker"] < 5 < 12 < blinks["flicker"]
    assert 20 < blinks["brightness"] < calm["brightness"] * 2 < 510
    assert (calm["status"], calm["rule"]) == ("kept", None)
    assert (blinks["status"], blinks["stage"], blinks["rule"]) == ("rejected", "looks", "flicker")
    assert (blinks["value"], blinks["threshold"]) == (blinks["flicker"], 12.0)


def test_a_wrong_option_is_named_before_anything_runs(place):
    with pytest.raises(ConfigError, match=r"unknown key 'scorers\..*bordr'; did you mean 'border'"):
        recipes.load(str(place / "steady.toml"), ["score.scorers.flicker.bordr=0.1"])
    with pytest.raises(ConfigError, match=r"rules\.flicker\.expr = 'flickr'"):
        recipes.load(str(place / "steady.toml"), ["rules.flicker.expr=flickr"])
