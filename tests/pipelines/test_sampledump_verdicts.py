"""What `curate` says of the sample dump, with recipe `sample`, is what its facts say."""

import pytest
from dumps import curate

from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.sampledump import FACTS, write_sample_dump
from reelmill.pipelines.sampledump.real import REAL


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """The run folder that `make curate` makes: the command, on Ray, with the recipe's own settings."""
    folder = tmp_path_factory.mktemp("curated")
    write_sample_dump(folder / "dump")
    done = curate(folder / "dump", folder / "out", "sample")
    assert "kept" in done.stdout
    with LedgerQueries(folder / "out") as queries:
        yield queries


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_item_and_samples_are_as_stated(ledger, fact):
    [item] = ledger.rows("SELECT * FROM items WHERE uri = ?", [fact.uri])
    assert item["status"] == fact.status, item["reason"]
    if fact.status == "refused":
        assert item["reason"].split(":")[0] == fact.reason and item["reason_class"] == "item"
        return
    samples = ledger.rows("SELECT * FROM samples WHERE item_id = ? ORDER BY start_s", [item["item_id"]])
    assert len(samples) == len(fact.samples)
    assert (item["width"], item["height"]) == (fact.width, fact.height)
    near = 2 / fact.fps + 0.01 if fact.fps else 0
    for sample, stated in zip(samples, fact.samples, strict=True):
        assert abs(sample["start_s"] - stated.start_s) <= near and abs(sample["end_s"] - stated.end_s) <= near
        assert sample["rule"] == stated.rule
        assert sample["status"] == ("kept" if stated.rule is None else "rejected")
        if stated.side:
            assert (sample["value"] < sample["threshold"]) == (stated.side == "low")
        if stated.rule is None and fact.kind != "text":
            assert sample["caption"] == fact.caption if fact.caption else sample["caption_source"] == "facts"


def test_nothing_else_is_in_the_ledger(ledger):
    assert {row["uri"] for row in ledger.rows("SELECT uri FROM items")} == set(FACTS) | {real.uri for real in REAL}


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.uri)
def test_real_footage_is_kept(ledger, real):
    query = (
        "SELECT s.status, t.licence FROM items i JOIN samples s USING (item_id) LEFT JOIN tokens t USING (sample_id)"
    )
    found = ledger.rows(f"{query} WHERE i.uri = ?", [real.uri])
    assert any(row["status"] == "kept" and row["licence"] for row in found)


def test_duplicates_point_at_the_smallest_uri(ledger):
    query = """SELECT i.uri AS copy, first.uri AS original FROM samples s JOIN items i USING (item_id)
        JOIN items first ON first.item_id = s.duplicate_of"""
    found = {row["copy"]: row["original"] for row in ledger.rows(query)}
    assert found == {fact.uri: fact.duplicate_of for fact in FACTS.values() if fact.duplicate_of}
