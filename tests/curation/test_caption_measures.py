"""Captions by numbers, and a recipe's bounds on them: the next good source is chosen."""

import json

import pytest
from dumps import curate_here, light_recipe, still_dump

from reelmill.curation.captions.measures import measures
from reelmill.errors import ConfigError
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes


def test_a_caption_is_measured():
    found = measures("A red mill. A red mill stands by the river.", "The mill by a lake, summer")
    assert found["words"] == 10
    assert found["distinct_words"] == pytest.approx(7 / 10)
    assert found["repeated_trigrams"] == pytest.approx(1 / 8)
    assert found["alt_overlap"] == pytest.approx(4 / 6)


def test_what_repeats_itself_shows():
    found = measures("the mill turns and the mill turns and the mill turns and", None)
    assert found["repeated_trigrams"] == pytest.approx(1 - 4 / 10)
    assert found["distinct_words"] == pytest.approx(4 / 12)
    assert found["alt_overlap"] is None


def test_chinese_characters_are_words():
    found = measures("红色的磨坊", "磨坊")
    assert found == {"words": 2.5, "distinct_words": 1.0, "repeated_trigrams": 0.0, "alt_overlap": 1.0}


@pytest.mark.parametrize("caption", [None, "", "!?"])
def test_of_nothing_nothing_is_said(caption):
    assert set(measures(caption, "a mill").values()) == {None}


def test_the_alt_text_does_not_overlap_itself():
    assert measures("a mill", "a mill")["alt_overlap"] is None


def test_a_bound_makes_the_next_source_speak_and_asks_nobody_again(tmp_path):
    dump, recipe = still_dump(tmp_path / "dump", pictures=2), light_recipe(tmp_path / "light.toml")
    (dump / "p1.json").write_text(json.dumps({"alt": "a texture, a texture, a texture of many colors"}))
    out = tmp_path / "out"
    chosen = "SELECT caption_source FROM samples WHERE uri = 'p1.jpg'"
    written = "SELECT max(created) AS created, count(*) AS captions FROM captions"
    curate_here(dump, out, recipe)
    with LedgerQueries(out) as ledger:
        assert ledger.rows(chosen) == [{"caption_source": "sidecar"}]
        made = ledger.rows(written)
    curate_here(dump, out, recipe, "captions.bounds.distinct_words.min=0.6", update=True)
    with LedgerQueries(out) as ledger:
        assert ledger.rows(chosen) == [{"caption_source": "facts"}]
        assert {"problem": "distinct_words"} in ledger.rows("SELECT problem FROM captions")
        assert ledger.rows(written) == made


@pytest.mark.parametrize("assignment", ["letters.max=3", "words.min=nan", "words={}", "words={min=3, max=2}"])
def test_bounds_that_cannot_be_are_refused(assignment):
    with pytest.raises(ConfigError, match=r"captions\.bounds"):
        recipes.load("video", [f"captions.bounds.{assignment}"])
