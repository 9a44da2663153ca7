"""What `curate` prints to run next fits what it made."""

import shlex
import shutil

import pyarrow as pa
import pytest
from dumps import small_run

from reelmill.curation.ledger import read_table, write_table
from reelmill.pipelines.curate.next_steps import next_commands


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("made"))


def with_lengths(made, out, tokens):
    """The run folder `made` in which every document says that it has so many tokens."""
    shutil.copytree(made, out)
    for path in (out / "tokens").rglob("unit-*.parquet"):
        table = read_table(path)
        column = table.schema.get_field_index("n_tokens")
        lengths = pa.array([tokens] * len(table), table.schema.field(column).type)
        write_table(path, table.set_column(column, table.schema.field(column), lengths))
    return out


@pytest.mark.parametrize(
    ("tokens", "training"),
    [(300, ["tiny"]), (4000, ["small"]), (9000, ["small", "--set", "data.context=9216"])],
)
def test_the_recipe_fits_the_documents(made, tmp_path, tokens, training):
    out = with_lengths(made, tmp_path / "my clips", tokens)
    commands = [shlex.split(command) for command in next_commands(out)]
    assert all(str(out) in words for words in commands), "paths with spaces are quoted"
    (train,) = (words for words in commands if words[1] == "train")
    assert [word for word in train[2:] if word not in ("--data", str(out))] == training


def test_without_documents_there_is_no_training(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    shutil.rmtree(out / "tokens")
    shutil.rmtree(out / "checksums" / "tokens")
    assert [command.split()[1] for command in next_commands(out)] == ["sql", "verify"]
