"""Queries in the documents run as written: plain DuckDB, from any folder. Commands of the walkthrough exist."""

import re
import shlex
from pathlib import Path

import duckdb
import pytest
import typer

from reelmill.config import override
from reelmill.pipelines.cli import app
from reelmill.pipelines.curate import recipes
from reelmill.tokenize.shards import ShardIndex
from reelmill.train import recipes as training
from reelmill.train.dryrun import Machine, estimate
from reelmill.train.vision import recipes as tokenizers

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/formats.md", "docs/architecture.md", "docs/interleaved.md")
_BLOCK = re.compile(r"```sql\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("docs"))


def statements():
    for page in PAGES:
        for number, block in enumerate(_BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))):
            for query in (part.strip() for part in block.split(";")):
                if query:
                    yield pytest.param(query, id=f"{page}-{number}-{query[:30]}")


@pytest.mark.parametrize("query", list(statements()))
def test_the_query_runs_as_written(run, query):
    with duckdb.connect(str(run / "reelmill.duckdb"), read_only=True) as connection:
        connection.execute(query).fetchall()


def test_there_are_queries_to_run():
    assert len(list(statements())) >= 10


SHELL_PAGES = (
    "README.md",
    "docs/cookbook.md",
    "docs/train-1b.md",
    "docs/training.md",
    "docs/generation.md",
    "docs/post-training.md",
    "docs/tokenizer.md",
)
_LINE = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:torchrun .* -m |\.venv/bin/)?reelmill ")


def shell_commands(page):
    """The words of every `reelmill` command in the page's blocks of shell lines, continued lines joined."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines() if language in ("", "bash") else ():
            if found := _LINE.match(line):
                yield shlex.split(line[found.end() :], comments=True)


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=" ".join(words)) for page in SHELL_PAGES for words in shell_commands(page)]
)
def test_the_pages_commands_and_settings_exist(words):
    command, name = typer.main.get_command(app), ""
    while hasattr(command, "commands"):  # a group; typer may bring its own click
        name, *words = words
        command = command.commands[name]
    found = command.make_context(name, words, resilient_parsing=False).params
    recipe = found.get("recipe", ".toml")
    if not recipe.endswith(".toml"):
        load = {"curate": recipes.load, "train": training_recipe if "ray" in found else tokenizer_recipe}[name]
        load(recipe, found["set_"] or [])


def training_recipe(name, changes):
    return override(training.recipe(name), changes)


def tokenizer_recipe(name, changes):
    return override(tokenizers.recipe(name), changes)


def test_the_walkthrough_s_dry_runs_say_what_it_says():
    found = estimate(training.recipe("1b"), Machine(gpus=8, memory=80.0, mfu=0.4))
    text = (ROOT / "docs/train-1b.md").read_text(encoding="utf-8")
    assert f"{found.parameters:,} parameters" in text
    assert f"{found.flops_per_token / 1e9:.2f} GFLOPs per token" in text
    assert f"{found.memory_total / 2**30:.0f} of 80 GiB on each GPU" in text
    assert f"{found.tokens_per_day / 1e9:.0f} billion tokens a day" in text


def test_the_examples_of_formats_run_as_written(tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs/formats.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "docs/formats.md", "exec"), {})
    assert len(ShardIndex(tmp_path / "mine")) == 2
    assert capsys.readouterr().out == "[('text', 'Morning.'), ('thought', 'a cat on a bed'), ('block', '')]\n"
