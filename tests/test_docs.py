"""Queries in the documents run as written: plain DuckDB, in the run folder. Commands of the walkthrough exist."""

import re
import shlex
from pathlib import Path

import click
import duckdb
import pytest
import typer
from dumps import light_recipe, write_dump

from reelmill.config import override
from reelmill.pipelines import recipes
from reelmill.pipelines.cli import app
from reelmill.pipelines.curate import CurateOptions, curate
from reelmill.tokenize.shards import ShardIndex
from reelmill.train import recipes as training
from reelmill.train.dryrun import Machine, estimate

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


def shell_commands(page):
    """Lines of a page's code blocks without a language that call reelmill, as lists of words after `reelmill`."""
    for block in re.findall(r"^```\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if "reelmill" in words:
                yield words[words.index("reelmill") + 1 :]


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=" ".join(words)) for words in shell_commands("docs/train-1b.md")]
)
def test_the_walkthrough_s_commands_and_settings_exist(words):
    command, name = typer.main.get_command(app), ""
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    found = command.make_context(name, words, resilient_parsing=False).params
    if name == "train":
        override(training.recipe(found["recipe"]), found["set_"] or [])
    if name == "curate":
        recipes.load(found["recipe"], found["set_"] or [])


def test_the_walkthrough_s_dry_runs_say_what_it_says():
    found = estimate(training.recipe("1b"), Machine(gpus=8, memory=80.0, mfu=0.4))
    text = (ROOT / "docs/train-1b.md").read_text(encoding="utf-8")
    assert f"{found.parameters:,} parameters" in text
    assert f"{found.flops_per_token / 1e9:.2f} GFLOPs a token" in text
    assert f"{found.memory_total / 2**30:.0f} GiB of the 80" in text
    assert f"{found.tokens_per_day / 1e9:.0f} billion tokens a day" in text


def test_the_example_that_writes_a_shard_runs_as_written(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/formats.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/formats.md", "exec"), {})
    assert len(ShardIndex(tmp_path / "mine")) == 2
