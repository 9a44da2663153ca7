"""Quotas: at most so many of each, the same ones at every rerun."""

import duckdb
import pyarrow as pa
import pytest

from reelmill.curation.decide import decide
from reelmill.curation.ledger import ITEMS, samples_schema
from reelmill.curation.quotas import Quota, check
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


def test_wrong_quotas_are_named():
    with pytest.raises(ConfigError, match="most must be at least 1"):
        Quota("host", 0)
    with pytest.raises(ConfigError, match="empty per"):
        Quota(" ", 3)
    with pytest.raises(ConfigError, match=r"quotas\.host: .*hots"):
        check({"host": Quota("hots", 3)}, SCHEMA)
    check({"cluster": Quota("duplicate_cluster", 3, by="quality_score")}, SCHEMA)
