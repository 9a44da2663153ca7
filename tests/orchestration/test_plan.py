"""Plans: units of fixed content, what a second look at a dump changes, and what it must not."""

import gzip
import io
import os
import shutil
import tarfile

import pyarrow as pa
import pytest

from reelmill.curation.ledger import PLAN, PLAN_SINCE, item_id
from reelmill.errors import DataError
from reelmill.orchestration.forgotten import bury
from reelmill.orchestration.plan import PlanConfig, Planned, extend_plan
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.score import score_tasks


@pytest.fixture
def dump(tmp_path):
    folder = tmp_path / "dump"
    folder.mkdir()
    for n in range(7):
        (folder / f"{n}.txt").write_text(f"text {n} " * (n + 1))
    return folder


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "out").lock() as locked:
        yield locked


def plan(folder):
    return folder.read(folder.plan_path)


def units(folder):
    with folder.plan() as reader:
        return [[row["uri"] for row in reader.unit(n)] for n in sorted(set(plan(folder)["unit"].to_pylist()))]


def test_a_unit_holds_so_many_items_or_bytes(folder, dump):
    assert extend_plan(folder, dump, PlanConfig(unit_items=3)) == Planned(7, 0, 3, {})
    assert units(folder) == [["0.txt", "1.txt", "2.txt"], ["3.txt", "4.txt", "5.txt"], ["6.txt"]]


def test_large_items_close_a_unit(folder, dump):
    for n in (1, 2, 5):
        with (dump / f"{n}.txt").open("r+b") as stream:
            stream.truncate(1024**2)  # a hole: no bytes on the disk
    extend_plan(folder, dump, PlanConfig(unit_items=64, unit_mb=1))
    assert units(folder) == [["0.txt"], ["1.txt"], ["2.txt"], ["3.txt", "4.txt"], ["5.txt"], ["6.txt"]]


def test_the_unit_of_the_most_bytes_is_scored_first(small_run, tmp_path):
    out = RunFolder(small_run(tmp_path))
    tasks = score_tasks(out, "another fingerprint")
    with out.plan() as reader:
        sizes = [sum(row["size"] for row in reader.unit(task["unit"])) for task in tasks]
    assert len(sizes) > 1
    assert sizes == sorted(sizes, reverse=True)
    assert sum(task["items"] for task in tasks) == len(plan(out))


def test_a_second_look_changes_nothing(folder, dump):
    extend_plan(folder, dump, PlanConfig(unit_items=3))
    before = folder.plan_path.read_bytes()
    assert extend_plan(folder, dump, PlanConfig(unit_items=2)) == Planned(0, 7, 0, {})
    assert folder.plan_path.read_bytes() == before


def test_what_has_not_changed_is_not_listed_again(folder, tmp_path):
    place = tmp_path / "dump" / "a.jsonl"
    place.parent.mkdir()
    for words in ("one", "two"):  # the same size and time: only a look inside would tell them apart
        place.write_text(f'{{"text": "{words}"}}\n')
        os.utime(place, (1e9, 1e9))
        assert extend_plan(folder, place.parent, PlanConfig()).new_items == (words == "one")
    place.write_text("not JSON at all\n")
    os.utime(place, (1e9, 1e9))
    assert extend_plan(folder, place.parent, PlanConfig(unit_items=1)) == Planned(0, 1, 0, {})
    place.write_text('{"text": "one"}\n{"text": "three"}\n')
    os.utime(place, (1e9, 1e9))
    assert extend_plan(folder, place.parent, PlanConfig()) == Planned(1, 1, 1, {})


def test_another_question_lists_again(folder, dump):
    assert extend_plan(folder, dump, PlanConfig(), limit=2) == Planned(2, 0, 1, {})
    assert extend_plan(folder, dump, PlanConfig()) == Planned(5, 2, 1, {})
    assert extend_plan(folder, dump, PlanConfig(), kinds=("image",)) == Planned(0, 0, 0, {".txt": 7})
    assert extend_plan(folder, dump, PlanConfig(), prefix="b") == Planned(7, 0, 1, {})
    folder.plan_path.unlink()  # and so does a plan that is gone
    assert extend_plan(folder, dump, PlanConfig()) == Planned(7, 0, 1, {})
    (folder.root / ".listed.json").write_text('{"cut off')
    assert extend_plan(folder, dump, PlanConfig()) == Planned(0, 7, 0, {})


def test_of_two_rows_with_one_name_the_first_counts(folder, tmp_path):
    place = tmp_path / "twice.tar"
    with tarfile.open(place, "w") as tar:
        for words in (b"first", b"other", b"third"):
            member = tarfile.TarInfo("a.txt" if words != b"other" else "b.txt")
            member.size = len(words)
            tar.addfile(member, io.BytesIO(words))
    planned = extend_plan(folder, place, PlanConfig())
    assert planned.new_items == len(plan(folder)) == len(set(plan(folder)["item_id"].to_pylist()))


def test_what_an_archive_says_of_a_forgotten_item_is_forgotten_too(folder, tmp_path):
    place = tmp_path / "a.jsonl"
    place.write_text('{"text": "words", "url": "https://secret.test/"}\n{"text": "more", "url": "https://x.test/"}\n')
    extend_plan(folder, place, PlanConfig())
    assert ["secret.test" in known for known in plan(folder)["known"].to_pylist()] == [True, False]
    bury(folder, {plan(folder)["item_id"][0].as_py(): None}, "by request")
    (tmp_path / "moved").mkdir()
    for there in (place, tmp_path / "moved" / "a.jsonl"):  # the same again, then from another place
        if there != place:
            shutil.move(place, there)
        assert extend_plan(folder, there, PlanConfig()).new_items == 0
        assert [known and "x.test" in known for known in plan(folder)["known"].to_pylist()] == [None, True]
    assert plan(folder)["path"].to_pylist() == [str(there)] * 2


def test_new_items_make_new_units_and_old_units_keep_their_content(folder, dump):
    extend_plan(folder, dump, PlanConfig(unit_items=3))
    before = units(folder)
    (dump / "00.txt").write_text("sorts first")
    (dump / "zz.txt").write_text("sorts last")
    assert extend_plan(folder, dump, PlanConfig(unit_items=3)) == Planned(2, 7, 1, {})
    assert units(folder) == [*before, ["00.txt", "zz.txt"]]


def test_a_limit_takes_the_first_items_and_is_stable(folder, dump):
    assert extend_plan(folder, dump, PlanConfig(), limit=3) == Planned(3, 0, 1, {})
    assert extend_plan(folder, dump, PlanConfig(), limit=3) == Planned(0, 3, 0, {})
    assert extend_plan(folder, dump, PlanConfig(), limit=5) == Planned(2, 3, 1, {})
    assert units(folder) == [["0.txt", "1.txt", "2.txt"], ["3.txt", "4.txt"]]


def test_a_second_dump_and_its_prefix(folder, dump, tmp_path):
    extend_plan(folder, dump, PlanConfig())
    other = tmp_path / "other"
    other.mkdir()
    (other / "new.txt").write_text("a new one")
    assert extend_plan(folder, other, PlanConfig()).new_items == 1
    (other / "0.txt").write_text("another text under a known name")
    with pytest.raises(DataError, match=r"0\.txt is already in this run, from .*/dump, with 7 bytes.*--prefix NAME"):
        extend_plan(folder, other, PlanConfig())
    assert extend_plan(folder, other, PlanConfig(), prefix="crawl-2").new_items == 2
    with folder.plan() as reader:
        assert [row["uri"] for row in reader.unit(2)] == ["crawl-2/0.txt", "crawl-2/new.txt"]
    assert plan(folder)["item_id"].to_pylist()[-1] == item_id("crawl-2/new.txt")


def test_another_item_of_the_same_name_and_size_is_not_taken_for_the_known_one(folder, dump, tmp_path):
    extend_plan(folder, dump, PlanConfig())
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.txt").write_text("TEXT 0 ")
    with pytest.raises(DataError, match="is not the same"):
        extend_plan(folder, other, PlanConfig())


def test_a_dump_that_moved_or_was_copied_keeps_its_items(folder, dump, tmp_path):
    extend_plan(folder, dump, PlanConfig(unit_items=3))
    shutil.copytree(dump, tmp_path / "copy")
    assert extend_plan(folder, tmp_path / "copy", PlanConfig()) == Planned(0, 7, 0, {})
    assert all(path.startswith(f"{tmp_path}/copy/") for path in plan(folder)["path"].to_pylist())
    shutil.rmtree(dump)
    (tmp_path / "copy").rename(tmp_path / "moved")
    extend_plan(folder, tmp_path / "moved", PlanConfig(), limit=1)
    assert all(path.startswith(f"{tmp_path}/moved/") for path in plan(folder)["path"].to_pylist())
    assert units(folder)[0] == ["0.txt", "1.txt", "2.txt"]


def test_a_problem_stays_when_the_dump_moves(folder, dump, tmp_path):
    extend_plan(folder, dump, PlanConfig())
    rows = [{**row, "problem": "forgotten" if row["uri"] == "3.txt" else None} for row in plan(folder).to_pylist()]
    folder.commit(folder.plan_path, pa.Table.from_pylist(rows, schema=PLAN))
    before = folder.plan_path.read_bytes()
    extend_plan(folder, dump, PlanConfig())
    assert folder.plan_path.read_bytes() == before
    dump.rename(tmp_path / "moved")
    extend_plan(folder, tmp_path / "moved", PlanConfig())
    assert [row["uri"] for row in plan(folder).to_pylist() if row["problem"]] == ["3.txt"]
    assert all("/moved/" in path for path in plan(folder)["path"].to_pylist())


def test_a_tar_packed_anew_keeps_its_items_at_their_new_places(folder, dump, tmp_path):
    place = tmp_path / "crawl.tar"
    for names in ([1, 2], [0, 1, 2]):
        with tarfile.open(place, "w") as tar:
            for n in names:
                tar.add(dump / f"{n}.txt", f"{n}.txt")
        planned = extend_plan(folder, place, PlanConfig())
    assert planned == Planned(1, 2, 1, {})
    for row in plan(folder).to_pylist():
        with place.open("rb") as stream:
            stream.seek(row["offset"])
            assert stream.read(row["size"]) == (dump / row["uri"]).read_bytes()


def test_a_broken_tar_is_an_item_under_its_own_name(folder, tmp_path):
    (tmp_path / "broken.tar").write_bytes(b"no tar at all")
    extend_plan(folder, tmp_path / "broken.tar", PlanConfig())
    extend_plan(folder, tmp_path / "broken.tar", PlanConfig(), prefix="again")
    rows = plan(folder).to_pylist()
    assert [row["uri"] for row in rows] == ["broken.tar", "again/broken.tar"]
    assert all(row["problem"].startswith("corrupt_tar") for row in rows)


def test_a_broken_archive_is_a_row_whatever_the_recipe_reads(folder, tmp_path):
    place = tmp_path / "dump"
    place.mkdir()
    (place / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "The mill grinds slowly."}\n' * 99)[:-20])
    (place / "b.parquet").write_bytes(b"PAR1" + bytes(100) + b"\x9f\x86\x01\0PAR1")
    (place / "c.tar").write_bytes(b"no tar at all")
    extend_plan(folder, place, PlanConfig(), kinds=("text",))
    problems = {row["uri"]: row["problem"].partition(":")[0] for row in plan(folder).to_pylist() if row["problem"]}
    assert problems == {"a.jsonl.gz": "corrupt", "b.parquet": "corrupt_parquet", "c.tar": "corrupt_tar"}
    assert set(plan(folder)["kind"].to_pylist()) == {"text"}


def test_an_address_that_is_no_text_is_a_row(folder, tmp_path):
    (tmp_path / "t.csv").write_bytes(b"url,caption\nhttps://x.test/1.jpg,fine\n\0\0,none\n")
    extend_plan(folder, tmp_path / "t.csv", PlanConfig())
    assert [(row["problem"] or "").partition(":")[0] for row in plan(folder).to_pylist()] == ["", "no_url"]


def test_other_files_are_counted(folder, dump):
    for n in range(12):
        (dump / f"picture.t{n}").write_text("x")
    for n in range(3):
        (dump / f"{n}.heic").write_text("x")
    planned = extend_plan(folder, dump, PlanConfig())
    assert planned == Planned(7, 0, 1, {".heic": 3} | {f".t{n}": 1 for n in range(12)})
    assert str(planned).startswith("7 new items in 1 units, 0 known; not read: 3 .heic, 1 .t0, ")
    assert str(planned).endswith(", 5 others")


def test_an_empty_dump_is_an_empty_plan(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert extend_plan(folder, tmp_path / "empty", PlanConfig()) == Planned(0, 0, 0, {})
    assert plan(folder).num_rows == 0


def test_a_plan_of_before_archives_opens_and_grows(folder, dump):
    extend_plan(folder, dump, PlanConfig())
    folder.commit(folder.plan_path, plan(folder).drop_columns(list(PLAN_SINCE)))
    assert {place.path for place in folder.sources().values()} == {str(path) for path in dump.iterdir()}
    (dump / "more.jsonl").write_text('{"text": "words"}\n')
    grown = extend_plan(folder, dump, PlanConfig())
    assert (grown.new_items, grown.known_items) == (1, 7)
    assert plan(folder)["member"].to_pylist() == [None] * 7 + [0]


@pytest.mark.parametrize(("workers", "sizes"), [(1, [7]), (2, [2, 2, 2, 1]), (3, [2, 2, 2, 1]), (64, [1] * 7)])
def test_a_small_dump_has_units_for_all_workers(dump, folder, workers, sizes):
    """One unit of seven items would keep one worker busy and the others idle."""
    extend_plan(folder, dump, PlanConfig(), workers=workers)
    units = folder.read(folder.plan_path)["unit"].to_pylist()
    assert [units.count(unit) for unit in sorted(set(units))] == sizes
