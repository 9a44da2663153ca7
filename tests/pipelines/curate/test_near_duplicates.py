"""Near copies in a run folder: of each picture the best stays, the others say whose copies they are."""

import json

import copies
import numpy as np
import pytest
from dumps import curate_here, light_recipe
from PIL import Image

from reelmill import weights
from reelmill.curation.duplicates.config import DuplicatesConfig
from reelmill.curation.rules import Rule
from reelmill.curation.scoring import ScoreConfig
from reelmill.orchestration.duplicates import find_duplicates
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

MILL = """The mill in the valley grinds the corn of seven farms between two stones, and when the wind is still, the
miller mends his sails, oils the wheel, sweeps the floor and waits for the evening. His sister keeps the books: who has
brought how many sacks, who paid in coin, who paid in flour, and who has promised to pay when the harvest is in."""


def photograph(card):
    return np.asarray(Image.open(weights.path(card)).convert("RGB"))


def save(folder, name, image, **sidecar):
    folder.mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / name, quality=90)
    (folder / name).with_suffix(".json").write_text(json.dumps(sidecar))


def recipe_of(folder):
    score = ScoreConfig(scorers={"quality": {}, "phash": {}, "minhash": {}})
    rules = {"area": Rule("width * height", min=40_000.0, kinds=["image"])}
    return light_recipe(folder / "near.toml", score=score, rules=rules, duplicates=DuplicatesConfig(near=True))


def verdicts(out):
    with LedgerQueries(out) as ledger:
        return {
            row["uri"]: row
            for row in ledger.rows(
                """SELECT s.*, o.uri AS original FROM samples s
                LEFT JOIN items o ON o.item_id = s.duplicate_of ORDER BY s.uri"""
            )
        }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A dump, its run, and one more dump that comes later."""
    folder = tmp_path_factory.mktemp("near")
    china, flower = photograph("media-china"), photograph("media-flower")
    save(folder / "first", "china.jpg", china, alt="a temple")
    save(folder / "first", "china_small.jpg", copies.scaled(china, 0.8))
    save(folder / "first", "flower_cut.jpg", copies.cut(flower, 0.05, 0.05, 0.05, 0.05))
    save(folder / "first", "thumb.jpg", copies.scaled(china, 0.3))
    (folder / "first" / "same.jpg").write_bytes((folder / "first" / "china.jpg").read_bytes())
    (folder / "first" / "mill.txt").write_text(MILL)
    (folder / "first" / "mill_again.txt").write_text(f"{MILL} Reprinted.")
    out, recipe = folder / "out", recipe_of(folder)
    curate_here(folder / "first", out, recipe)
    first = verdicts(out)
    save(folder / "second", "flower.png", flower)
    save(folder / "second", "rocket.jpg", photograph("media-rocket"))
    curate_here(folder / "second", out, recipe)
    return out, first, verdicts(out)


def test_the_best_copy_stays_and_the_others_are_explained(run):
    _, first, _ = run
    assert {uri: (row["status"], row["rule"]) for uri, row in first.items() if row["kind"] == "image"} == {
        "china.jpg": ("kept", None),
        "china_small.jpg": ("rejected", "near_duplicate"),
        "flower_cut.jpg": ("kept", None),
        "same.jpg": ("rejected", "exact_duplicate"),
        "thumb.jpg": ("rejected", "area"),
    }
    china, copy, thumb, same = (first[uri] for uri in ("china.jpg", "china_small.jpg", "thumb.jpg", "same.jpg"))
    assert copy["original"] == same["original"] == "china.jpg"
    assert copy["value"] == copy["duplicate_similarity"] >= copy["threshold"] == 0.85
    assert (copy["duplicate_method"], same["duplicate_method"]) == ("pdq", "exact")
    assert copy["stage"] == "duplicates"
    cluster = {row["duplicate_cluster"] for row in (china, copy, thumb, same)}
    assert cluster == {china["sample_id"]}
    assert copy["duplicate_reason"] == china["duplicate_reason"]
    assert thumb["duplicate_of"] is None  # a rule rejects it
    assert first["flower_cut.jpg"]["duplicate_cluster"] is None


def test_a_text_that_says_the_same_goes(run):
    _, first, _ = run
    again = first["mill_again.txt"]
    assert first["mill.txt"]["status"] == "kept"
    assert (again["rule"], again["original"], again["duplicate_method"]) == ("near_duplicate", "mill.txt", "minhash")
    assert (again["duplicate_reason"], again["threshold"]) == ("name", 0.7)


def test_a_later_crawl_is_compared_with_what_was_there(run):
    _, first, later = run
    assert first["flower_cut.jpg"]["status"] == "kept"
    assert later["flower.png"]["status"] == "kept"
    assert later["flower_cut.jpg"]["original"] == "flower.png"
    assert later["flower_cut.jpg"]["duplicate_reason"] == "resolution"
    assert later["rocket.jpg"]["duplicate_cluster"] is None
    assert {uri for uri, row in later.items() if row["rule"] == "near_duplicate"} == {
        "mill_again.txt",
        "china_small.jpg",
        "flower_cut.jpg",
    }


def test_copies_of_what_is_elsewhere_go(run, tmp_path):
    """An evaluation set holds a mirrored cut of a photograph, and another run keeps one more and a text."""
    flower, china = photograph("media-flower"), photograph("media-china")
    save(tmp_path / "test_set", "q1.png", copies.mirrored(copies.cut(flower, 0, 0, 0.1, 0.05)))
    recipe = recipe_of(tmp_path)
    curate_here(tmp_path / "test_set", tmp_path / "benchmark", recipe)
    save(tmp_path / "dump", "flower.jpg", copies.compressed(flower, 60))
    save(tmp_path / "dump", "china.jpg", copies.captioned(china))
    save(tmp_path / "dump", "rocket.jpg", photograph("media-astronaut"))
    (tmp_path / "dump" / "china_copy.jpg").write_bytes((tmp_path / "dump" / "china.jpg").read_bytes())
    (tmp_path / "dump" / "grinding.txt").write_text(f"Yesterday. {MILL}")
    lists = [f"duplicates.against={json.dumps([str(run[0])])}"]
    lists += [f"duplicates.exclude={json.dumps([str(tmp_path / 'benchmark')])}"]
    curate_here(tmp_path / "dump", tmp_path / "out", recipe, *lists)
    found = verdicts(tmp_path / "out")
    assert {uri: (row["rule"], row["duplicate_reason"]) for uri, row in found.items()} == {
        "china.jpg": ("copy_elsewhere", "out"),
        "china_copy.jpg": ("exact_duplicate", "name"),
        "flower.jpg": ("excluded", "benchmark"),
        "grinding.txt": ("copy_elsewhere", "out"),
        "rocket.jpg": (None, None),
    }
    assert all(row["status"] == "rejected" for uri, row in found.items() if uri != "rocket.jpg")
    curate_here(tmp_path / "dump", tmp_path / "out", recipe, update=True)
    found = verdicts(tmp_path / "out")
    assert [uri for uri, row in found.items() if row["status"] == "rejected"] == ["china_copy.jpg"]


def test_what_was_compared_is_not_compared_again(run):
    out, _, _ = run
    with RunFolder(out).lock() as folder:
        assert find_duplicates(folder) == 0
        before = (out / "duplicates" / "pairs.parquet").read_bytes()
        folder.remove(out / "duplicates" / "pairs.parquet")
        assert find_duplicates(folder) > 0
    assert (out / "duplicates" / "pairs.parquet").read_bytes() == before
