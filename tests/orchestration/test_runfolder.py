"""The run folder: one driver, epochs, commits whole or not at all, every flipped bit found, dead workers counted."""

import os

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import ConfigError, DataError, MachineError
from reelmill.files import checksum_path
from reelmill.orchestration.attempts import Attempts
from reelmill.orchestration.runfolder import RunFolder, StaleEpoch

TABLE = pa.table({"n": [1, 2, 3], "text": ["a", "b", None]})


@pytest.fixture
def root(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def folder(root):
    with RunFolder(root).lock() as locked:
        yield locked


def test_one_driver_at_a_time(root):
    with RunFolder(root).lock(), pytest.raises(MachineError, match="another run is writing to"), RunFolder(root).lock():
        pass
    with RunFolder(root).lock() as again:
        assert again.epoch == 2


def test_the_lock_of_a_driver_that_died_is_free(root):
    child = os.fork()
    if child == 0:
        with RunFolder(root).lock():
            os._exit(0)
    os.waitpid(child, 0)
    with RunFolder(root).lock() as locked:
        assert locked.epoch == 2


def test_nothing_is_written_without_the_lock(root):
    with pytest.raises(DataError, match="under its lock only"):
        _ = RunFolder(root).epoch


def test_a_worker_of_an_earlier_driver_commits_nothing(root):
    with RunFolder(root).lock() as first:
        worker = RunFolder(root, first.epoch)
        worker.commit(worker.unit_path("items", 1), TABLE)
    with RunFolder(root).lock() as second:
        with pytest.raises(StaleEpoch, match="belongs to a newer run"):
            worker.commit(worker.unit_path("items", 1), TABLE.slice(1))
        with pytest.raises(StaleEpoch):
            worker.commit(worker.unit_path("items", 2), TABLE)
        assert second.read(second.unit_path("items", 1)) == TABLE
        assert [path.name for path in root.rglob("*unit-*")] == ["unit-000001.parquet", "unit-000001.parquet.sha256"]
    assert second.damaged() == []


def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch):
    path = folder.unit_path("items", 1)
    folder.commit(path, TABLE)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MachineError, match=r"No space left on device.*run the same command again"):
        folder.commit(path, TABLE.slice(2))
    monkeypatch.undo()
    assert folder.read(path) == TABLE
    assert folder.damaged() == []
    assert folder.sweep() == 0


def test_the_next_driver_takes_away_what_killed_writers_left(root):
    with RunFolder(root).lock() as folder:
        folder.commit(folder.unit_path("items", 1), TABLE)
    left = [root / "items" / ".unit-000002.parquet.0a1b2c3d.tmp", root / "checksums" / ".x.sha256.00.tmp"]
    for path in left:
        path.write_text("half")
    with RunFolder(root).lock() as folder:
        assert not any(path.exists() for path in left)
        assert folder.read(folder.unit_path("items", 1)) == TABLE


def test_prepare_makes_every_table_readable_and_follows_the_schema(folder):
    earlier = folder.root / "items" / "schema.parquet"
    folder.commit(earlier, TABLE.schema.empty_table())
    folder.prepare({"items": TABLE.schema})
    assert not earlier.exists()
    assert folder.damaged() == []
    path = folder.root / "schemas" / "items.parquet"
    before = path.stat().st_mtime_ns
    folder.prepare({"items": TABLE.schema})
    assert path.stat().st_mtime_ns == before
    wider = TABLE.schema.append(pa.field("more", pa.int32()))
    folder.prepare({"items": wider})
    assert folder.read(path).schema == wider
    assert folder.read(path).num_rows == 0


def test_a_place_that_cannot_be_a_run_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(ConfigError, match=r"cannot be a run folder: .*choose another --out"),
            RunFolder(place).lock(),
        ):
            pass
    with pytest.raises(DataError, match=r"holds no recipe\.toml\. Make one with `reelmill curate`"):
        RunFolder(tmp_path).require()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with RunFolder(tmp_path_factory.mktemp("small") / "out").lock() as folder:
        folder.commit(folder.unit_path("items", 0), TABLE)
        folder.commit(folder.unit_path("tokens/0123456789ab", 0, "tag"), TABLE)
        folder.commit(folder.plan_path, TABLE)
        folder.commit_text(folder.recipe_path, "name = 'small'\n")
        yield folder


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found(small, data):
    files = [path for path in small.root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    # An entry of the log that does not fit its check is passed over: it only says what to miss.
    checked = sorted(path for path in files if path.name != "written.log")
    path = data.draw(st.sampled_from(checked))
    whole = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    if path.suffix == ".sha256" and place >= 64:
        return  # the name beside the digest, for people
    damaged = bytearray(whole)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    found = small.damaged()
    path.write_bytes(whole)
    name = path.relative_to(small.root / "checksums").with_suffix("") if path.suffix == ".sha256" else path
    other = f"{small.root.joinpath(name).relative_to(small.root)}: its bytes are not those that were written"
    no_digest = f"{path.relative_to(small.root)}: it is no list of SHA-256 and names"  # a digit became a space
    assert found in ([other], [no_digest])
    assert small.damaged() == []


def test_missing_cut_and_unrecorded_files_are_found(folder):
    for n in range(4):
        folder.commit(folder.unit_path("samples", n), TABLE)
    folder.commit_text(folder.root / "run.json", "{}")
    folder.unit_path("samples", 0).unlink()
    folder.unit_path("samples", 1).write_bytes(b"")
    folder.unit_path("samples", 9).write_bytes(folder.unit_path("samples", 2).read_bytes())
    (folder.root / "checksums/samples/unit-000003.parquet.sha256").write_bytes(b"")
    (folder.root / "run.json").unlink()
    assert folder.damaged() == [
        "run.json: gone",
        "samples/unit-000000.parquet: gone",
        "samples/unit-000001.parquet: its bytes are not those that were written",
        "samples/unit-000003.parquet: its bytes are not those that were written",
        "samples/unit-000009.parquet: no checksum",
    ]


def test_a_file_that_is_gone_with_its_checksum_is_missed(folder):
    path = folder.unit_path("tokens/0123456789ab", 1, "tag")
    folder.commit(path, TABLE)
    folder.commit(path, TABLE)
    checksum_path(folder.root, path).unlink()
    path.unlink()
    assert folder.damaged() == ["tokens/0123456789ab/unit-000001-tag.parquet: gone"]
    log = folder.root / "checksums/written.log"
    written = log.read_bytes()
    end = written.index(b"\n", written.index(b"+ tokens"))
    log.write_bytes(written[: end - 6])  # cut off: nothing is missed that was perhaps not written
    assert folder.damaged() == []
    folder.commit(folder.unit_path("captions", 1), TABLE)
    checksum_path(folder.root, folder.unit_path("captions", 1)).unlink()
    folder.unit_path("captions", 1).unlink()
    assert folder.damaged() == ["captions/unit-000001.parquet: gone"]


def test_a_file_taken_away_is_not_missed(folder):
    path = folder.unit_path("failures", 1, "tag")
    folder.commit(path, TABLE)
    folder.remove(path)
    assert folder.damaged() == []
    assert not path.exists()


def test_an_item_that_kills_its_worker_twice_is_given_up(folder):
    for deaths in range(2):
        worker = Attempts(RunFolder(folder.root, folder.epoch), 3)
        assert not worker.retries_exhausted("bad"), deaths
        worker.begin("good")
        worker.begin("bad")  # and here the worker dies
    third = Attempts(RunFolder(folder.root, folder.epoch), 3)
    assert third.retries_exhausted("bad")
    assert not third.retries_exhausted("good")
    third.begin("next")
    fourth = Attempts(RunFolder(folder.root, folder.epoch), 3)
    assert fourth.retries_exhausted("bad"), "deaths are remembered while the unit is not done"
    assert not Attempts(folder, 4).retries_exhausted("bad")
    fourth.end()
    assert not Attempts(RunFolder(folder.root, folder.epoch), 3).retries_exhausted("bad")


def test_notes_of_an_earlier_driver_count_for_nothing(root):
    with RunFolder(root).lock() as first:
        for _ in range(2):
            Attempts(first, 0).begin("item")
        assert Attempts(first, 0).retries_exhausted("item")
    with RunFolder(root).lock() as second:
        assert not Attempts(second, 0).retries_exhausted("item")


@pytest.mark.parametrize("note", ["", "{", '{"epoch": 1, "curr'])
def test_a_note_cut_short_counts_for_nothing(folder, note):
    Attempts(folder, 0).begin("item")
    (folder.root / "running/unit-000000.json").write_text(note)
    assert not Attempts(folder, 0).retries_exhausted("item")
