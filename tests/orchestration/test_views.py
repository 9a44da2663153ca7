"""The views over a run folder: from anywhere, while it grows, and over folders of earlier versions."""

import shutil
from pathlib import Path
from typing import ClassVar

import duckdb
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from dumps import TABLES, everything, light_recipe, still_dump
from rich.console import Console
from toy_run import reelmill

from reelmill.curation.interfaces import Scorer
from reelmill.errors import DataError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import VIEWS, LedgerQueries, write_database
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.forget import Criterion, forget

LATER = (
    *("timings", "audio", "transcripts", "judgements", "annotations"),
    *("duplicates", "alike", "fetches", "embeddings"),
)
"""Tables that a small run has no rows of, or that came after the others."""


@pytest.fixture(scope="module")
def out(small_run, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("it's [1]"))


def counts(database, *before):
    """Rows of every view, by plain DuckDB."""
    with duckdb.connect(str(database), read_only=True) as connection:
        for statement in before:
            connection.execute(statement)
        return {view: connection.execute(f"SELECT count(*) FROM {view}").fetchone()[0] for view in VIEWS}


def test_the_database_opens_from_any_folder(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = counts(out / "reelmill.duckdb")
    assert (found["plan"], found["items"], found["samples"], found["tokens"], found["failures"]) == (9, 9, 11, 9, 0)
    with LedgerQueries(out) as ledger:
        assert found == {view: ledger.rows(f"SELECT count(*) AS n FROM {view}")[0]["n"] for view in VIEWS}


def test_a_folder_that_has_moved_is_named_by_a_variable(out, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    for table in ("items", "samples"):
        (moved / table / "unit-000000.parquet").unlink()
    assert counts(moved / "reelmill.duckdb")["samples"] == 11  # those of the place where it was written
    named = counts(moved / "reelmill.duckdb", f"SET VARIABLE run_folder = '{moved}'")
    assert named["samples"] < 11
    write_database(moved)
    assert counts(moved / "reelmill.duckdb") == named


def test_a_link_out_of_the_folder_is_named(out, tmp_path):
    inside = shutil.copytree(out, tmp_path / "out")
    shutil.move(inside / "samples", tmp_path / "elsewhere")
    (inside / "samples").symlink_to(tmp_path / "elsewhere")
    with LedgerQueries(inside) as ledger, pytest.raises(DataError, match="samples is a link, and queries read this f"):
        ledger.rows("SELECT count(*) FROM samples")
    (tmp_path / "whole").symlink_to(out)
    with LedgerQueries(RunFolder(tmp_path / "whole").root) as ledger:
        assert ledger.rows("SELECT count(*) AS n FROM samples")[0]["n"] == 11


class Peek(Scorer):
    """How many items the run's own database shows while it is scored."""

    columns: ClassVar = {"shown": "BIGINT"}
    database: ClassVar[Path]

    def score(self, samples):
        return [{"shown": counts(self.database)["items"]}] * len(samples)


def test_rows_are_seen_while_the_run_goes_on(tmp_path):
    recipe = recipes.load(str(light_recipe(tmp_path / "light.toml")), ["engine.executor=inline"])
    recipe.score.scorers = {"peek": {"use": f"{__name__}:Peek"}}
    recipe.rules = {}
    Peek.database = tmp_path / "out" / "reelmill.duckdb"
    curate([still_dump(tmp_path / "dump")], tmp_path / "out", recipe, CurateOptions(), Console(quiet=True))
    samples = f"'{tmp_path}/out/samples/*.parquet'"
    rows = duckdb.sql(f"SELECT DISTINCT unit, shown FROM {samples} WHERE shown IS NOT NULL ORDER BY unit").fetchall()
    assert rows == [(unit, 3 * unit) for unit in range(len(rows))]
    assert len(rows) > 1


def test_no_file_of_a_table_is_without_rows_and_an_empty_table_has_none(out):
    for table in TABLES:
        files = list((out / table).rglob("*.parquet"))
        assert all(pq.read_metadata(path).num_rows for path in files)
        assert bool(files) == bool(counts(out / "reelmill.duckdb")[table])
    assert {path.stem for path in (out / "schemas").iterdir()} == {*TABLES, *LATER}


def test_a_unit_without_samples_has_no_row_group(out, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    forget(RunFolder(copy), Criterion(uri="*"), Console(quiet=True))
    assert {pq.read_metadata(path).num_row_groups for path in (copy / "samples").iterdir()} == {0}
    assert ds.dataset(copy / "samples").to_table().num_rows == 0
    assert (counts(copy / "reelmill.duckdb")["samples"], counts(copy / "reelmill.duckdb")["items"]) == (0, 9)
    assert RunFolder(copy).damaged() == []


def test_a_folder_with_the_empty_files_among_the_others_opens_and_is_brought_up_to_date(out, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(out, earlier)
    for table in (*TABLES, *LATER):
        for place, suffix in ((earlier, ".parquet"), (earlier / "checksums", ".parquet.sha256")):
            (place / table).mkdir(exist_ok=True)
            (place / "schemas" / f"{table}{suffix}").rename(place / table / f"schema{suffix}")
        record = earlier / "checksums" / table / "schema.parquet.sha256"
        record.write_text(record.read_text().replace(f"schemas/{table}.parquet", f"{table}/schema.parquet"))
    for folder in (earlier, earlier / "checksums"):  # with those of later tables
        shutil.rmtree(folder / "schemas")
    (earlier / "checksums" / "written.log").unlink()
    with LedgerQueries(earlier) as ledger:
        for view, n in counts(out / "reelmill.duckdb").items():
            assert ledger.rows(f"SELECT count(*) AS n FROM {view}") == [{"n": n}]
    assert RunFolder(earlier).damaged() == []
    recipe = recipes.load(str(out.parent / "light.toml"), ["engine.executor=inline"])
    curate([out.parent / "dump"], earlier, recipe, CurateOptions(), Console(quiet=True))
    assert not list(earlier.rglob("schema.parquet*"))
    assert everything(earlier) == everything(out)
    assert RunFolder(earlier).damaged() == []


def test_imported_codes_have_a_database_that_works(tmp_path):
    (tmp_path / "codes.jsonl").write_text('{"text": "a cat", "codes": [[0, 1, 2], [3, 4, 5]]}\n')
    imported = tmp_path / "imported"
    reelmill("tokens", "import", tmp_path / "codes.jsonl", "--out", imported, "--tokenizer", "reelmill-tok-xs")
    with duckdb.connect(str(imported / "reelmill.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT status, caption FROM samples").fetchall() == [("kept", "a cat")]
        assert connection.execute("SELECT kind, grid_h FROM tokens").fetchall() == [("image", 2)]
