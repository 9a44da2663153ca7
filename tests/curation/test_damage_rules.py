"""The recipes' rules on damage reject the clips that it touches, and other bounds judge the same measurements anew."""

import duckdb
import pyarrow as pa
import pytest
from odd_media import film
from videos import scene_frames

from reelmill.curation.decide import decide
from reelmill.curation.ledger import ITEMS, PLAN, item_id
from reelmill.curation.scoring import ItemScorer
from reelmill.pipelines.curate import recipes

RULES = ("damage", "gaps", "impossible_colours")


def plan_row(path):
    here = {"item_id": item_id(path.name), "uri": path.name, "kind": "video", "path": str(path)}
    return {**dict.fromkeys(PLAN.names), **here, "size": path.stat().st_size, "unit": 0, "offset": 0}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """(scorer, items, samples) of two videos of two clips: a sound one, and one that is damaged in its second clip."""
    folder = tmp_path_factory.mktemp("damage")
    frames = list(scene_frames([(1, 40), (2, 40)], 96, 128))
    sound, damaged = (film(folder / f"{name}.mp4", frames, fps=20, options={"g": "10"}) for name in ("a", "b"))
    data = bytearray(damaged.read_bytes())
    at = len(data) * 3 // 4
    data[at : at + 40] = bytes(value ^ 0x55 for value in data[at : at + 40])
    damaged.write_bytes(data)
    recipe = recipes.sample()
    recipe.score.scorers = {}
    scorer = ItemScorer(recipe.score, recipe.rules)
    rows = [scorer.score(plan_row(path)) for path in (sound, damaged)]
    scorer.close()
    samples = [sample for _, found in rows for sample in found]
    return scorer, [item for item, _ in rows], samples


def verdicts(scored, **bounds):
    """The rule that rejects each clip, in order; None for one that is kept."""
    scorer, items, samples = scored
    rules = {name: rule for name, rule in recipes.sample().rules.items() if name in RULES}
    for name, most in bounds.items():
        rules[name].max = most
    with duckdb.connect(":memory:") as connection:
        connection.register("items", pa.Table.from_pylist(items, schema=ITEMS))
        connection.register("scored", pa.Table.from_pylist(samples, schema=scorer.samples_schema))
        found = {row["sample_id"]: row["rule"] for row in decide(connection, rules).to_pylist()}
    return [found[row["sample_id"]] for row in samples]


def test_the_clip_goes_and_the_others_stay(scored):
    _, (sound, damaged), _ = scored
    assert (sound["errors"], sound["damage"], damaged["status"]) == (0, None, "done")
    assert damaged["errors"] > 0 and "h#" in damaged["damage"]
    assert verdicts(scored) == [None, None, None, "damage"]


def test_another_bound_judges_the_same_measurements(scored):
    assert verdicts(scored, damage=40.0) == [None] * 4
    assert all(rule.null == "keep" for name, rule in recipes.sample().rules.items() if name in RULES)
