"""Quotas: at most so many of each, the same ones at every rerun."""

from collections import Counter

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation.decide import decide
from reelmill.curation.ledger import ITEMS, VERDICTS, samples_schema
from reelmill.curation.quotas import Quota, check, keep_within
from reelmill.curation.rules import Rule
from reelmill.errors import ConfigError

SCHEMA = samples_schema({"language": "VARCHAR"})


def decided(urls, quotas, rules=None, **columns):
    """Verdicts of images named a, b, c, ... by their urls; `columns` hold a list each."""
    names = [chr(ord("a") + n) for n in range(len(urls))]
    samples = [
        {"sample_id": name, "item_id": name, "kind": "image", "width": 10, "height": 10, "start_s": 0.0, "end_s": 0.0}
        | {column: values[n] for column, values in columns.items()}
        for n, name in enumerate(names)
    ]
    items = [
        {**dict.fromkeys(ITEMS.names), "item_id": name, "uri": name, "sha256": name, "status": "done", "url": url}
        for name, url in zip(names, urls, strict=True)
    ]
    with duckdb.connect() as connection:
        connection.register("scored", pa.Table.from_pylist(samples, schema=SCHEMA))
        connection.register("items", pa.Table.from_pylist(items, schema=ITEMS))
        rows = decide(connection, rules or {}, quotas=quotas).to_pylist()
    return {row["sample_id"]: row for row in rows}


def kept(verdicts):
    return "".join(name for name, row in verdicts.items() if row["status"] == "kept")


URLS = ["http://a.test/1", "https://u:p@A.test:80/2", "https://a.test?x", "https://b.test/", None, "nonsense"]


def test_a_host_gives_so_many_and_what_has_none_is_let_be():
    found = decided(URLS, {"host": Quota("host", 2)})
    assert kept(found) == "abdef"
    assert {key: found["c"][key] for key in ("status", "stage", "rule", "value", "threshold")} == {
        "status": "rejected", "stage": "quotas", "rule": "host", "value": 3.0, "threshold": 2.0,
    }  # fmt: skip


def test_the_best_are_kept_and_others_by_a_draw_that_stays():
    quality = [0.1, 0.9, 0.5, None, None, None]
    assert kept(decided(URLS, {"host": Quota("host", 1, by="quality_score")}, quality_score=quality)) == "bdef"
    assert kept(decided(URLS, {"all": Quota("kind", 2, by="quality_score")}, quality_score=quality)) == "bc"
    assert kept(decided(URLS, {"all": Quota("kind", 2)})) == "ab"


def test_what_is_rejected_takes_no_place_and_quotas_follow_one_another():
    rules = {"quality": Rule("quality_score", min=0.3, kinds=["image"])}
    quality = [0.1, 0.9, 0.5, 0.9, 0.9, 0.9]
    quotas = {"host": Quota("host", 1), "language": Quota("language", 2)}
    found = decided(URLS, quotas, rules, quality_score=quality, language=["en", "en", "en", "en", "en", "de"])
    assert {name: row["rule"] for name, row in found.items()} == {
        "a": "quality", "b": None, "c": "host", "d": None, "e": "language", "f": None,
    }  # fmt: skip


def test_kinds_that_a_quota_does_not_count_stay():
    assert kept(decided(URLS, {"clips": Quota("kind", 1, kinds=["video"])})) == "abcdef"


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.sampled_from([0.1, 0.3, 0.5, 0.8]))
def test_a_share_is_that_of_what_is_kept_and_one_group_alone_stays(sizes, share):
    groups = [f"g{n}" for n, size in enumerate(sizes) for _ in range(size)]
    columns = {"sample_id": [str(n) for n in range(len(groups))], "language": groups}
    table = pa.table({**columns, "item_id": columns["sample_id"], "kind": ["image"] * len(groups)})
    verdict = pa.table({name: pa.nulls(len(groups)).cast(VERDICTS.field(name).type) for name in VERDICTS.names})
    verdict = verdict.set_column(0, "sample_id", table["sample_id"])
    verdict = verdict.set_column(1, "status", pa.array(["kept"] * len(groups)))
    with duckdb.connect() as connection:
        connection.register("scored", table)
        connection.register(
            "items",
            pa.Table.from_pylist(
                [{**dict.fromkeys(ITEMS.names), "item_id": n} for n in columns["sample_id"]], schema=ITEMS
            ),
        )
        rows = keep_within(connection, verdict, {"language": Quota("language", share=share)}).to_pylist()
    left = Counter(groups[int(row["sample_id"])] for row in rows if row["status"] == "kept")
    for n, size in enumerate(sizes):
        others = sum(sizes) - size
        wanted = size if not others else min(size, max(int(others * share / (1 - share) + 1e-9), 1))
        assert left[f"g{n}"] == wanted
    assert all(row["value"] > row["threshold"] == left[groups[int(row["sample_id"])]] for row in rows if row["stage"])


def test_wrong_quotas_are_named():
    with pytest.raises(ConfigError, match=r"a share of 1\.5; give one from 0 to 1, or most"):
        Quota("host", share=1.5)
    with pytest.raises(ConfigError, match="or most"):
        Quota("host", 3, share=0.5)
    with pytest.raises(ConfigError, match="most must be at least 1"):
        Quota("host", 0)
    with pytest.raises(ConfigError, match="empty per"):
        Quota(" ", 3)
    with pytest.raises(ConfigError, match=r"quotas\.host: .*hots"):
        check({"host": Quota("hots", 3)}, SCHEMA)
    check({"cluster": Quota("duplicate_cluster", 3, by="quality_score")}, SCHEMA)
