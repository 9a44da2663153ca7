"""A corpus of odd files through the command line: each has the right length, size, colours, samples, or reason."""

import json
import sys

import corpus_clocks
import corpus_dump
import corpus_pictures
import corpus_videos
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corners import CORNER_COLUMNS
from dumps import curate_here, light_recipe

from reelmill.config import override
from reelmill.curation.ledger import ITEMS
from reelmill.curation.rules import Rule
from reelmill.curation.scoring import ItemScorer, ScoreConfig
from reelmill.isolation.confinement import available
from reelmill.orchestration.recipe import load_recipe

PARTS = {
    "containers": corpus_videos.containers,
    "framed": corpus_videos.framed,
    "turned": corpus_videos.turned,
    "motion_jpeg": corpus_videos.motion_jpeg,
    "oblong": corpus_videos.oblong,
    "formats": corpus_videos.formats,
    "clocks": corpus_clocks.clocks,
    "cuts": corpus_clocks.cuts,
    "streams": corpus_clocks.streams,
    "grades": corpus_clocks.grades,
    "turnings": corpus_pictures.turnings,
    "modes": corpus_pictures.modes,
    "depths": corpus_pictures.depths,
    "colours": corpus_pictures.colours,
    "clear": corpus_pictures.clear,
    "animations": corpus_pictures.animations,
    "damaged": corpus_pictures.damaged,
}


@pytest.fixture(scope="module", params=[3, pytest.param(1, marks=pytest.mark.slow)], ids=["a third", "whole"])
def run(tmp_path_factory, request):
    """(run folder, cases by part, what is to be said of the rest)."""
    root = tmp_path_factory.mktemp("corpus")
    dump, cases = root / "dump", {part: list(made())[:: request.param] for part, made in PARTS.items()}
    for part, listed in cases.items():
        (dump / part).mkdir(parents=True)
        for case in listed:
            case.make(dump / part / case.name)
    said = corpus_dump.write(dump)
    nothing = {"nothing": Rule("1", max=0.0)}  # the corpus is about reading: no sample is tokenized
    seen = ScoreConfig(scorers={"corners": {"use": "corners:Corners"}})
    recipe = light_recipe(root / "light.toml", score=seen, rules=nothing)
    curate_here(dump, root / "out", recipe, "plan.unit_items=200")
    return root / "out", cases, said


@pytest.fixture(scope="module")
def corpus(run):
    """(rows of `items` by uri, rows of `samples` by item, cases by part, what is to be said of the rest)."""
    out, cases, said = run
    items, samples = table(out, "items"), table(out, "samples")
    by_item = {}
    for row in sorted(samples, key=lambda row: row["start_s"]):
        by_item.setdefault(row["item_id"], []).append(row)
    return {row["uri"]: row for row in items}, by_item, cases, said


def table(out, name):
    return duckdb.read_parquet(str(out / name / "*.parquet"), union_by_name=True).to_arrow_table().to_pylist()


@pytest.mark.parametrize("part", PARTS)
def test_each_file_is_what_a_person_sees(corpus, part):
    items, samples, cases, _ = corpus
    found = {case.name: difference(case, items[f"{part}/{case.name}"], samples) for case in cases[part]}
    assert {name: said for name, said in found.items() if said} == {}


def difference(case, item, samples):
    """How a row differs from what is expected; empty where it does not."""
    if case.reason:
        return "" if (item["reason"] or "").startswith(case.reason) else f"{item['status']}: {item['reason']}"
    if item["status"] != "done":
        return f"{item['status']}: {item['reason']}"
    expected = {"n_samples": case.samples, **case.facts}
    if case.width is not None:
        expected |= {"width": case.width, "height": case.height}
    wrong = [f"{name} is {item[name]}, not {value}" for name, value in expected.items() if item[name] != value]
    if case.seconds is not None and abs(item["duration_s"] - case.seconds) > 0.011:
        wrong.append(f"duration_s is {item['duration_s']}, not {case.seconds}")
    for row in samples[item["item_id"]] if case.corners else ():
        colours = np.array([row[name] for name in CORNER_COLUMNS]).reshape(4, 3)
        if np.abs(colours - case.corners).max() > case.within:
            wrong.append(f"corners are {colours.tolist()}")
    return "; ".join(wrong)


def test_what_is_said_beside_a_file(corpus):
    items, _, _, said = corpus
    found = {case.uri: items.get(case.uri) for case in said}
    assert [uri for uri, row in found.items() if row is None] == []
    columns = ("alt", "licence", "sidecar_problem")
    rows = {uri: tuple(row[name] for name in columns) for uri, row in found.items()}
    rows = {uri: (alt, licence, problem and problem.partition(":")[0]) for uri, (alt, licence, problem) in rows.items()}
    assert rows == {case.uri: (case.alt, case.licence, case.problem) for case in said}


def test_every_file_is_an_item(corpus):
    items, _, cases, said = corpus
    assert len(items) == sum(map(len, cases.values())) + len(said)


def test_all_of_it_was_decoded_in_confinement_and_without_it_the_rows_are_the_same(run):
    out, *_ = run
    layers = available()
    assert json.loads((out / "run.json").read_text())["confinement"] == str(layers)
    if sys.platform == "linux":
        assert layers.seccomp, "any kernel that tests run on has it"
    recipe = override(load_recipe(out), ["score.isolation.confine=false"])
    scorer = ItemScorer(recipe.score, recipe.rules)
    try:
        scored = [scorer.score(row) for row in pq.read_table(out / "plan.parquet").to_pylist()]
    finally:
        scorer.close()
    schemas = {"items": ITEMS, "samples": scorer.samples_schema}
    found = {"items": [row for row, _ in scored], "samples": [row for _, rows in scored for row in rows]}
    for name, rows in found.items():
        stored = pa.Table.from_pylist(rows, schema=schemas[name]).to_pylist()
        assert sorted(map(repr, stored)) == sorted(map(repr, table(out, name)))
