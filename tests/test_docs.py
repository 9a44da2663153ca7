"""Queries in the documents run as written: plain DuckDB, in the run folder."""

import re
from pathlib import Path

import duckdb
import pytest
from dumps import light_recipe, write_dump

from reelmill.pipelines import recipes
from reelmill.pipelines.curate import CurateOptions, curate

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/formats.md", "docs/architecture.md")
_BLOCK = re.compile(r"```sql\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from rich.console import Console

    folder = tmp_path_factory.mktemp("docs")
    recipe = recipes.load(str(light_recipe(folder / "light.toml")), ["engine.executor=inline"])
    out = folder / "out"
    curate([write_dump(folder / "dump", videos=2)], out, recipe, CurateOptions(), Console(quiet=True))
    return out


def statements():
    for page in PAGES:
        for number, block in enumerate(_BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))):
            for query in (part.strip() for part in block.split(";")):
                if query:
                    yield pytest.param(query, id=f"{page}-{number}-{query[:30]}")


@pytest.mark.parametrize("query", list(statements()))
def test_the_query_runs_as_written(run, monkeypatch, query):
    monkeypatch.chdir(run)
    with duckdb.connect("reelmill.duckdb", read_only=True) as connection:
        connection.execute(query).fetchall()


def test_there_are_queries_to_run():
    assert len(list(statements())) >= 10
