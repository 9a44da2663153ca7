"""Scoring an item: whatever the child, a scorer or a skip says, rows come out and nothing is made up."""

import math
from typing import ClassVar

import numpy as np
import pytest

from reelmill.config import from_dict
from reelmill.curation import scoring
from reelmill.curation.interfaces import Scorer
from reelmill.curation.ledger import PLAN
from reelmill.curation.rules import Rule
from reelmill.curation.scoring import ItemScorer, ScoreConfig, make_scorers, score_columns
from reelmill.errors import ConfigError

ITEM = {**dict.fromkeys(PLAN.names), "unit": 0, "item_id": "i", "uri": "i.mp4", "kind": "video", "path": "i", "size": 1}
FACTS = {"duration_s": 4.0, "width": 64, "height": 48, "fps": 24.0, "codec": "h264", "sha256": "0" * 64}


class Bright(Scorer):
    columns: ClassVar = {"bright": "DOUBLE", "is_dark": "BOOLEAN"}

    def score(self, samples):
        means = [sample.frames.images.mean() for sample in samples]
        return [{"bright": mean, "is_dark": mean < 50} for mean in means]


class Words(Scorer):
    columns: ClassVar = {"words": "VARCHAR"}

    def score(self, samples):
        return [{"words": sample.alt} for sample in samples]


class Expensive(Scorer):
    columns: ClassVar = {"expensive": "BIGINT"}
    seen: ClassVar = []

    def score(self, samples):
        self.seen.extend(sample.sample_id for sample in samples)
        return [{"expensive": 7} for _ in samples]


class Quick(Scorer):
    """One of two measures of motion."""

    columns: ClassVar = {"quick": "DOUBLE"}
    shares: ClassVar = {"motion_score": "quick"}

    def score(self, samples):
        return [{"quick": 1.0} for _ in samples]


class Exact(Scorer):
    """The better one."""

    columns: ClassVar = {"exact": "DOUBLE"}
    shares: ClassVar = {"motion_score": "exact"}
    precedence: ClassVar = 1

    def score(self, samples):
        return [{"exact": 2.0} for _ in samples]


class Rough(Scorer):
    """Looks up to three times where a bound is near; gives the brightness, first rounded to hundreds, then to tens."""

    columns: ClassVar = {"rough": "DOUBLE", "rough_error": "DOUBLE"}
    shares: ClassVar = {"motion_score": "rough"}
    approximate: ClassVar = {"rough": "rough_error"}

    def score(self, samples):
        return [{"rough": round(self.mean(sample), -2), "rough_error": 0.5} for sample in samples]

    def refine(self, samples):
        return [self.nearer(sample) for sample in samples]

    def nearer(self, sample):
        if sample.columns.get("rough_error") == 0.5:
            return {"rough": round(self.mean(sample), -1), "rough_error": 0.1}
        return {"rough": self.mean(sample), "rough_error": 0.0}

    @staticmethod
    def mean(sample):
        return float(sample.frames.images.mean())


class Bad(Scorer):
    columns: ClassVar = {"bad": "DOUBLE"}
    give = staticmethod(lambda sample: {"bad": 1.0})

    def score(self, samples):
        return [self.give(sample) for sample in samples]


class Clash(Scorer):
    columns: ClassVar = {"Width": "DOUBLE"}

    def score(self, samples):
        return []


class Typo(Clash):
    columns: ClassVar = {"x": "DUOBLE"}


def use(cls):
    return f"{cls.__module__}:{cls.__name__}"


def frames(value=100):
    return {
        "images": np.full((2, 4, 4, 3), value, np.uint8),
        "times": np.zeros(2),
        "runs": np.zeros((0, 3, 4, 4), np.uint8),
        "details": np.full((2, 9, 4, 4), value, np.uint8),
    }


def clip(start, value=100, **facts):
    body = {"type": "sample", "start_s": start, "end_s": start + 2, "width": 64, "height": 48, "fps": 24.0}
    return {**body, **facts}, frames(value)


class FakeChild:
    """Stands for the untrusted process: says what it is told to."""

    messages: ClassVar = []

    def __init__(self, *_args, **_options):
        pass

    def opened(self, place):
        return place

    def run_all(self, *arguments):
        return arguments[-1](iter(self.messages))

    def close(self):
        pass


@pytest.fixture
def child(monkeypatch):
    monkeypatch.setattr(scoring, "Child", FakeChild)
    # classes of this module, which is imported under a name of pytest's
    monkeypatch.setattr(scoring.registry, "scorer_class", lambda name: globals()[name.partition(":")[2]])
    Expensive.seen = []
    return FakeChild


def scored(child, messages, scorers, rules=None):
    child.messages = messages
    scorer = ItemScorer(ScoreConfig(scorers=scorers), rules or {})
    item, rows = scorer.score(ITEM)
    return scorer, item, rows


def test_scores_are_plain_values_of_their_types(child):
    _, item, rows = scored(
        child, [clip(0.0), clip(2.0, 10), ({"type": "item", **FACTS}, {})], {"b": {"use": use(Bright)}}
    )
    assert (item["status"], item["n_samples"], item["sha256"]) == ("done", 2, "0" * 64)
    assert [(row["bright"], row["is_dark"]) for row in rows] == [(100.0, False), (10.0, True)]


@pytest.mark.parametrize(
    ("scorers", "motion"),
    [
        ({"q": {"use": use(Quick)}}, 1.0),
        ({"e": {"use": use(Exact)}, "q": {"use": use(Quick)}}, 2.0),
        ({"q": {"use": use(Quick)}, "e": {"use": use(Exact), "skip_if": "true"}}, None),
        ({"b": {"use": use(Bright)}}, None),
    ],
)
def test_the_scorer_of_the_highest_precedence_fills_a_shared_column(child, scorers, motion):
    """Also where it was skipped: such a sample stays undecided rather than judged by another measure."""
    _, _, (row,) = scored(child, [clip(0.0), ({"type": "item", **FACTS}, {})], scorers)
    assert row.get("motion_score") == motion


def test_a_scorer_sees_the_text_that_came_with_the_item(child, tmp_path):
    (tmp_path / "i.txt").write_text("a windmill\n")
    child.messages = [clip(0.0), clip(2.0), ({"type": "item", **FACTS}, {})]
    scorer = ItemScorer(ScoreConfig(scorers={"w": {"use": use(Words)}}), {})
    beside = {"text_path": str(tmp_path / "i.txt"), "text_offset": 0, "text_size": 11}
    assert [row["words"] for row in scorer.score({**ITEM, **beside})[1]] == ["a windmill"] * 2
    assert [row["words"] for row in scorer.score(ITEM)[1]] == [None] * 2


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda _: {}, "gave [], its columns are ['bad']"),
        (lambda _: {"bad": 1.0, "more": 2}, "gave ['bad', 'more']"),
        (lambda _: {"bad": "text"}, "ArrowInvalid"),
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_scorer_that_fails_leaves_null_and_its_words(child, monkeypatch, give, message):
    monkeypatch.setattr(Bad, "give", staticmethod(lambda s: {"bad": 1.0} if s.start_s else give(s)))
    scorers = {"mine": {"use": use(Bad)}, "b": {"use": use(Bright)}}
    _, item, (first, second) = scored(child, [clip(0.0), clip(2.0), ({"type": "item", **FACTS}, {})], scorers)
    assert item["status"] == "done"
    assert first["bad"] is None
    assert first["score_error"].startswith("mine: ")
    assert message in first["score_error"]
    assert (second["bad"], second["score_error"]) == (1.0, None)
    assert first["bright"] == 100.0


def test_the_words_of_two_failures_are_both_kept(child, monkeypatch):
    monkeypatch.setattr(Bad, "give", staticmethod(lambda _: 1 / 0))
    monkeypatch.setattr(Bright, "score", lambda *_: [])
    scorers = {"mine": {"use": use(Bad)}, "b": {"use": use(Bright)}}
    _, _, (row,) = scored(child, [clip(0.0), ({"type": "item", **FACTS}, {})], scorers)
    assert row["score_error"] == "mine: ZeroDivisionError: division by zero; b: ValueError: 0 results for 1 samples"


def test_nan_is_no_score(child, monkeypatch):
    monkeypatch.setattr(Bad, "give", staticmethod(lambda _: {"bad": np.float64(math.nan)}))
    _, _, (row,) = scored(child, [clip(0.0), ({"type": "item", **FACTS}, {})], {"mine": {"use": use(Bad)}})
    assert (row["bad"], row["score_error"]) == (None, None)


def test_a_dear_scorer_skips_what_is_lost(child):
    scorers = {"b": {"use": use(Bright)}, "expensive": {"use": use(Expensive), "skip_if": "failed"}}
    rules = {"bright": Rule("bright", min=50.0), "expensive": Rule("expensive", min=1.0)}
    messages = [clip(0.0, 10), clip(2.0, 100), ({"type": "item", **FACTS}, {})]
    scorer, _, (dark, bright) = scored(child, messages, scorers, rules)
    assert (dark.get("expensive"), dark["skipped"]) == (None, "expensive")
    assert (bright["expensive"], bright["skipped"]) == (7, None)
    assert Expensive.seen == [bright["sample_id"]]
    before = {row["sample_id"]: {**row, "expensive": 8} for row in (dark, bright)}
    before[dark["sample_id"]]["skipped"] = None
    scorer.keep_known(rows := [dict(dark), dict(bright)], before)
    assert [(row["expensive"], row["skipped"]) for row in rows] == [(8, None), (7, None)]
    failed = {**bright, "expensive": None, "bright": None, "score_error": "expensive: ValueError: a, b; b: KeyError: c"}
    before[bright["sample_id"]]["bright"] = None
    scorer.keep_known(rows := [failed], before)
    assert (rows[0]["expensive"], rows[0]["bright"], rows[0]["score_error"]) == (8, None, "b: KeyError: c")


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ({}, [(100.0, 0.5), (200.0, 0.5)]),
        ({"min": 40.0}, [(100.0, 0.5), (200.0, 0.5)]),
        ({"min": 80.0}, [(90.0, 0.1), (200.0, 0.5)]),
        ({"min": 88.0}, [(91.0, 0.0), (200.0, 0.5)]),
        ({"min": 88.0, "max": 290.0}, [(91.0, 0.0), (210.0, 0.1)]),
        ({"max": 500.0}, [(100.0, 0.5), (200.0, 0.5)]),
    ],
)
def test_an_approximate_value_is_enough_far_from_every_bound(child, rule, values):
    rules = {"motion": Rule("motion_score", **rule)} if rule else {}
    messages = [clip(0.0, 91), clip(2.0, 211), ({"type": "item", **FACTS}, {})]
    scorer, _, found = scored(child, messages, {"r": {"use": use(Rough)}}, rules)
    assert [(row["rough"], row["rough_error"]) for row in found] == values
    assert [row["motion_score"] for row in found] == [value for value, _ in values]
    exact = {row["sample_id"]: {**row, "rough": 1.0, "rough_error": 0.0} for row in found}
    scorer.keep_known(found, exact)
    for row, (value, error) in zip(found, values, strict=True):
        assert row["rough"] == row["motion_score"] == (1.0 if error else value)


@pytest.mark.parametrize(
    ("scorers", "message"),
    [
        ({"b": {"use": use(Clash)}}, "scorer 'b' writes column 'Width', which another part writes"),
        ({"b": {"use": use(Bright)}, "c": {"use": use(Bright)}}, "scorer 'c' writes column 'bright'"),
        ({"b": {"use": use(Typo)}}, "column 'x' is 'DUOBLE'; did you mean 'DOUBLE'"),
    ],
)
def test_columns_that_cannot_be(child, scorers, message):
    with pytest.raises(ConfigError, match=message):
        score_columns(ScoreConfig(scorers=scorers))


@pytest.mark.parametrize(
    ("scorers", "message"),
    [
        ({"colourfulnes": {}}, "no scorer is called 'colourfulnes'.*colourfulness"),
        ({"mine": {"use": 3}}, "score.scorers.mine.use is 3; it must be text"),
        ({"quality": {"skip_if": True}}, "score.scorers.quality.skip_if is True"),
        ({"two words": {"use": "quality"}}, "a name has no spaces"),
        ({"quality": {"sharpnes": 1}}, "unknown key 'scorers.quality.sharpnes'"),
        ({"mine": {"use": "no_such_package:Thing"}}, "no package 'no_such_package'"),
        ({"mine": {"use": "reelmill.curation.no_such:Thing"}}, "reelmill.curation.no_such"),
        ({"mine": {"use": "reelmill.curation.interfaces:Sample"}}, "is not a reelmill.curation.interfaces.Scorer"),
    ],
)
def test_scorers_that_are_not_there(scorers, message):
    with pytest.raises(ConfigError, match=message):
        make_scorers(from_dict(ScoreConfig, {"scorers": scorers}))


def test_an_item_that_is_gone_is_the_machine_s_failure(tmp_path):
    scorer = ItemScorer(ScoreConfig(), {})
    gone = {**ITEM, "kind": "text", "path": str(tmp_path / "gone.txt"), "offset": 0, "size": 3}
    gone.update(json_path=str(tmp_path / "gone.json"), json_offset=0, json_size=2)
    try:
        row, rows = scorer.score(gone)
        (tmp_path / "gone.txt").write_text("all")
        back, _ = scorer.score(gone)
        (tmp_path / "gone.json").write_text('{"licence": "CC0"}')
        whole, samples = scorer.score({**gone, "json_size": 18})
    finally:
        scorer.close()
    assert (row["status"], row["reason_class"], rows) == ("refused", "machine", [])
    assert row["reason"].startswith("unreadable: ")
    assert (back["status"], back["reason_class"]) == ("refused", "machine")
    assert back["reason"].startswith("unreadable: a sidecar: ")
    assert (whole["status"], whole["licence"], len(samples)) == ("done", "CC0", 1)
