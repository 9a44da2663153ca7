"""A reader of one's own, as CONTRIBUTING shows it: the file is taken from there and run."""

import io

import pytest
from command_line import CommandLine
from contributing import block
from dumps import light_recipe
from rich.console import Console

from reelmill.curation.readers import find_reader
from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate import run as curation

WORDS = b"An archive holds these words, and they are many enough. " * 9


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "my_readers.py").write_text(block("python", "(Reader)"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def archive(path, members):
    """An `ar` archive, as binutils writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(b"!<arch>\n")
        for name, data in members:
            stream.write(f"{name + '/':16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n".encode())
            stream.write(data + b"\n" * (len(data) % 2))
    return path


def test_the_file_is_small(place):
    assert len((place / "my_readers.py").read_text().splitlines()) <= 45


def test_the_command_reads_archives_wherever_they_lie(place, monkeypatch, capsys):
    members = [("one.txt", WORDS), ("two.md", WORDS[:-1]), ("two.json", b'{"licence": "CC0-1.0"}'), ("c.bin", b"c")]
    archive(place / "dump" / "deep" / "pages", members)
    (place / "dump" / "plain.txt").write_bytes(WORDS + b"beside it")
    recipe = light_recipe(place / "recipe.toml")
    how = ("--recipe", recipe, "--reader", "my_readers:ArReader", "--executor", "inline")
    done = CommandLine(monkeypatch, capsys)("curate", place / "dump", "--out", place / "out", *how)
    assert "3 new items in 1 units, 0 known; not read: 1 .bin" in " ".join(done.out.split())
    with LedgerQueries((place / "out").resolve()) as ledger:
        items = ledger.rows("SELECT uri, status, licence FROM items ORDER BY uri")
        tokens = ledger.rows("SELECT DISTINCT uri FROM tokens ORDER BY uri")
    assert items == [
        {"uri": "deep/pages/one.txt", "status": "done", "licence": None},
        {"uri": "deep/pages/two.md", "status": "done", "licence": "CC0-1.0"},
        {"uri": "plain.txt", "status": "done", "licence": None},
    ]
    assert [row["uri"] for row in tokens] == [row["uri"] for row in items]


def test_a_recipe_names_it_and_an_archive_is_a_dump_by_itself(place):
    path = archive(place / "pages", [("one.txt", WORDS)])
    assert [item.uri for item in find_reader(path, ["my_readers:ArReader"]).items(path)] == ["one.txt"]
    with pytest.raises(DataError, match=r"Give a folder tree or a WebDataset tar"):
        find_reader(path)
    with pytest.raises(DataError, match=r"Give an ar archive or a folder tree or a WebDataset tar"):
        find_reader(place / "my_readers.py", ["my_readers:ArReader"])


@pytest.mark.parametrize("name", ["ar", "my_readers", "my_readers:ar", "no_such_package:Reader", "my_readers:Source"])
def test_a_reader_that_is_not_there_stops_before_anything_is_made(place, name):
    (place / "dump").mkdir()
    recipe = recipes.load("sample", [f'plan.readers=["{name}"]'])
    with pytest.raises(ConfigError, match="reader"):
        curation.curate([place / "dump"], place / "out", recipe, curation.CurateOptions(), Console(file=io.StringIO()))
    assert not (place / "out").exists()
