"""Run folders of before stay readable: units without later columns, alone and beside units that have them."""

import pyarrow as pa
import pytest

from reelmill.curation.decide import decide
from reelmill.curation.ledger import CAPTIONS, FAILURES, ITEMS, OF_THE_ITEM, VERDICTS, samples_schema
from reelmill.curation.rules import Rule
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize.shards import TOKENS_SCHEMA

LATER = {"frames", "stream", "video_streams", *OF_THE_ITEM}


def rows(unit, **facts):
    """One item with one sample."""
    item = dict.fromkeys(ITEMS.names)
    name = f"item-{unit}"
    item.update(unit=unit, item_id=name, uri=f"{name}.mp4", sha256=name, kind="video", status="done", n_samples=1)
    sample = dict.fromkeys(samples_schema({}).names)
    sample.update(unit=unit, sample_id=f"sample-{unit}", item_id=name, kind="video", start_s=0.0, end_s=4.0, fps=24.0)
    return {**item, **facts}, {**sample, **{key: value for key, value in facts.items() if key in OF_THE_ITEM}}


def without(schema, names):
    return pa.schema([field for field in schema if field.name not in names])


def commit(folder, unit, left_out, **facts):
    schemas = {"items": without(ITEMS, left_out), "samples": without(samples_schema({}), left_out)}
    folder.prepare(
        {**schemas, "verdicts": VERDICTS, "captions": CAPTIONS, "failures": FAILURES, "tokens": TOKENS_SCHEMA}
    )
    for (table, schema), row in zip(schemas.items(), rows(unit, **facts), strict=True):
        one = pa.Table.from_pylist([{name: row[name] for name in schema.names}], schema=schema)
        folder.commit(folder.unit_path(table, unit), one)


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "out").lock() as locked:
        commit(locked, 0, LATER)
        yield locked


def test_a_folder_without_the_columns_is_queried_and_decided(folder):
    with LedgerQueries(folder.root) as ledger:
        (item,) = ledger.rows("SELECT * FROM items")
        (sample,) = ledger.rows("SELECT * FROM samples")
        verdicts = decide(
            ledger.connection("items", "scored"), {"duration": Rule("end_s - start_s", min=2.0)}
        ).to_pylist()
    assert item["uri"] == sample["uri"] == "item-0.mp4"
    assert not LATER & {*item, *sample}
    assert [row["status"] for row in verdicts] == ["kept"]


def test_beside_newer_units_what_was_not_recorded_is_null(folder):
    commit(folder, 1, set(), transfer="smpte2084", clock_steps=2, frames=96, interlaced=False)
    with LedgerQueries(folder.root) as ledger:
        found = ledger.rows("SELECT uri, transfer, clock_steps, frames, interlaced FROM items ORDER BY uri")
        seen = ledger.rows("SELECT uri, transfer FROM samples ORDER BY uri")
        rule = Rule("coalesce(transfer IN ('smpte2084', 'arib-std-b67'), false)::INTEGER", max=0.0)
        verdicts = decide(ledger.connection("items", "scored"), {"sdr": rule}).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("item-0.mp4", None, None, None, None),
        ("item-1.mp4", "smpte2084", 2, 96, False),
    ]
    assert [row["transfer"] for row in seen] == [None, "smpte2084"]
    assert [(row["status"], row["rule"]) for row in verdicts] == [("kept", None), ("rejected", "sdr")]
