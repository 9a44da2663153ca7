"""What is read a part at a time: plans by unit, rows that are left, queries that spill."""

import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation.ledger import FETCHES, FORGOTTEN, PLAN, PLAN_SINCE
from reelmill.errors import DataError
from reelmill.media.source import Source, place_of
from reelmill.orchestration import fetch, left
from reelmill.orchestration.forgotten import bury, forgotten_hashes
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

SCHEMA = pa.schema([("key", pa.int32()), ("number", pa.int32())])


def batched(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_rows_that_are_left_come_back_by_their_keys(tmp_path_factory, keys, size):
    rows = [{"key": key, "number": number} for number, key in enumerate(sorted(keys))]
    folder = RunFolder(tmp_path_factory.mktemp("out"))
    batches = [pa.RecordBatch.from_pylist(part, SCHEMA) for part in batched(rows, size)]
    path = left.set_aside(folder, SCHEMA, batches)
    found = [(key, wanted.count, wanted.rows()) for (key,), wanted in left.runs(path, ["key"])]
    wanted = [(key, list(same)) for key, same in itertools.groupby(rows, key=lambda row: row["key"])]
    assert found == [(key, len(same), same) for key, same in wanted]


def planned(folder, rows=40, of_a_group=7, without=()):
    """A plan of units of three rows, in row groups that end anywhere."""
    table = [
        {
            **dict.fromkeys(PLAN.names),
            **{
                "unit": n // 3,
                "position": n % 3,
                "item_id": f"{n:032x}",
                "uri": f"{n}.jpg",
                "kind": "image",
                "size": n,
            },
            **{"url": f"https://x.example/{n - n % 5 // 4}.jpg", "known": f'{{"side": {n}, "alt": "words"}}'},
        }
        for n in range(rows)
    ]
    schema = pa.schema([field for field in PLAN if field.name not in without])
    batches = [pa.RecordBatch.from_pylist(part, schema) for part in batched(table, of_a_group)]
    folder.commit_batches(folder.plan_path, schema, batches)
    return table


@pytest.mark.parametrize("without", [(), PLAN_SINCE])
def test_a_plan_is_read_by_unit_from_few_of_its_row_groups(tmp_path, without):
    with RunFolder(tmp_path).lock() as folder:
        rows = planned(folder, without=without)
        with folder.plan() as plan:
            for unit in (5, 0, 13, 4):
                wanted = [{**row, **dict.fromkeys(without)} for row in rows if row["unit"] == unit]
                assert plan.unit(unit) == wanted
            assert plan.unit(99) == []
            assert len(plan) == 40
            assert [row["uri"] for part in plan.batches(["uri", "url"]) for row in part.to_pylist()] == [
                row["uri"] for row in rows
            ]
        folder.commit(folder.plan_path, pa.table({"unit": [1]}))
        with pytest.raises(DataError, match="it is no plan"):
            folder.plan()


def test_a_part_of_a_plan_that_is_damaged_is_an_error_with_its_place(tmp_path):
    with RunFolder(tmp_path).lock() as folder:
        planned(folder)
        column = pq.read_metadata(folder.plan_path).row_group(2).column(PLAN.names.index("uri"))
        data = bytearray(folder.plan_path.read_bytes())
        data[column.dictionary_page_offset + 40] ^= 1
        folder.plan_path.write_bytes(data)
        with folder.plan() as plan:
            assert len(plan.unit(0)) == 3
            with pytest.raises(DataError, match=r"plan\.parquet is damaged"):
                plan.unit(6)


def test_items_are_buried_where_they_lie(tmp_path):
    with RunFolder(tmp_path).lock() as folder:
        rows = planned(folder)
        bury(folder, {rows[20]["item_id"]: "ab", rows[3]["item_id"]: None}, "asked to")
        with folder.plan() as plan:
            found = [row for part in plan.batches() for row in part.to_pylist()]
            assert forgotten_hashes(plan) == {"ab": f"{FORGOTTEN}asked to"}
            assert {row["item_id"] for row in plan.buried()} == {rows[3]["item_id"], rows[20]["item_id"]}
        changed = [n for n, (row, old) in enumerate(zip(found, rows, strict=True)) if row != old]
        assert changed == [3, 20]
        assert found[20]["known"] is None


def test_addresses_that_are_left_are_in_units_and_repeats_come_last(tmp_path):
    with RunFolder(tmp_path).lock() as folder:
        folder.prepare({"fetches": FETCHES})
        planned(folder)
        tasks = fetch.fetch_tasks(folder)
        rows = [(task["is_repeated"], row) for task in tasks for row in task["wanted"].rows()]
        repeated = [int(row["item_id"], 16) for again, row in rows if again]
        assert repeated == list(range(4, 40, 5))
        assert [int(row["first_item_id"], 16) for again, row in rows if again] == [n - 1 for n in repeated]
        assert [task["items"] for task in tasks] == [len(task["wanted"].rows()) for task in tasks]
        assert all((row["side"], row["digest"]) == (int(row["item_id"], 16), None) for _, row in rows)
        assert folder.sweep() == 1  # a run that was killed leaves the list


def test_a_query_that_is_bound_spills_and_leaves_nothing(tmp_path):
    with RunFolder(tmp_path).lock() as folder:
        planned(folder)
        query = "SELECT repeat(md5(i::VARCHAR), 8) AS words FROM range(200000) AS t(i) ORDER BY words"  # 51 MB
        spilled = False
        with LedgerQueries(folder.root, memory="64MB") as ledger:
            last = ""
            for batch in ledger.batches(query):
                spilled = spilled or any(path.stat().st_size for path in tmp_path.glob(".spilled*/*"))
                words = [last, *batch["words"].to_pylist()]
                assert words == sorted(words)
                last = words[-1]
        assert spilled
        assert not list(tmp_path.glob(".spilled*"))


def test_places_of_items_are_looked_up_among_those_of_the_plan_and_those_that_were_fetched(tmp_path):
    with RunFolder(tmp_path).lock() as folder:
        rows = planned(folder, rows=30)
        for n, row in enumerate(rows):
            row.update({"path": f"/dump/{n % 3}.zip", "offset": n, "member": n if n % 2 else None})
            row["url"] = row["url"] if n >= 20 else None
        folder.commit(folder.plan_path, pa.Table.from_pylist(rows[::-1], schema=PLAN))
        (folder.root / "fetched").mkdir()
        told = [
            {**dict.fromkeys(FETCHES.names), "item_id": rows[n]["item_id"], "tar": tar, "offset": 512, "bytes": 9}
            for n, tar in ((21, "unit-000007-a.tar"), (22, None))
        ]
        folder.commit(folder.unit_path("fetched", 7), pa.Table.from_pylist(told, schema=FETCHES))
        places = folder.sources()
    here = {row["item_id"]: place_of(row["path"], row["offset"], row["size"], row["member"]) for row in rows[:20]}
    fetched = Source(str(folder.root / "fetched" / "unit-000007-a.tar"), 512, 9)
    assert dict(places) == {**here, rows[21]["item_id"]: fetched}
    assert rows[22]["item_id"] not in places and "" not in places and "zz" not in places
    assert places.get(rows[25]["item_id"]) is None
