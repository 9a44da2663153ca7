"""Every cure that `verify` names works: what it says to remove is removed, the command run again, and all is sound."""

import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
from dumps import everything
from rich.console import Console
from typer.testing import CliRunner

from reelmill.errors import DataError
from reelmill.orchestration.repair import cure_of, cures
from reelmill.orchestration.runfolder import TABLES, RunFolder
from reelmill.pipelines.cli import app
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.verify import verify
from reelmill.written_log import CHECKSUMS, WRITTEN_LOG


@pytest.fixture(scope="module")
def made(still_run, tmp_path_factory):
    return still_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def out(made, tmp_path):
    """A copy of the run folder with a space in its name."""
    return shutil.copytree(made, tmp_path / "my out")


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    "table", ["samples", "items", "captions", "tokens", "timings", "verdicts", "schemas", "run.json"]
)
def test_the_cure_of_a_damaged_file(made, out, table):
    before = everything(out)
    damage(out / table if (out / table).is_file() else min((out / table).rglob("*.parquet")))
    with pytest.raises(DataError, match="What to do") as raised:
        CliRunner().invoke(app, ["verify", str(out)], catch_exceptions=False)
    commands = re.findall(r"rm -f (.*); then run the same `reelmill curate` again", str(raised.value))
    assert commands
    for path in map(Path, shlex.split(" ".join(commands))):
        assert path.is_relative_to(out)
        path.unlink(missing_ok=True)
    recipe = recipes.load(str(made.parent / "light.toml"), ["engine.executor=inline"])
    curate([made.parent / "dump"], out, recipe, CurateOptions(), Console(file=io.StringIO()))
    assert verify(RunFolder(out)).problems == []
    now = everything(out)
    assert {table: len(rows) for table, rows in now.items()} == {table: len(rows) for table, rows in before.items()}


def test_what_cannot_be_made_anew_is_to_be_put_back(out):
    damage(out / "plan.parquet")
    with pytest.raises(DataError, match=r"plan\.parquet: put it back from a copy; without one, curate into another"):
        CliRunner().invoke(app, ["verify", str(out)], catch_exceptions=False)


def test_every_table_has_a_cure_and_equal_ones_share_a_line():
    assert all(cure_of(f"{table}/unit-000000.parquet") for table in TABLES)
    problems = [f"tokens/ab/unit-00000{n}.parquet: gone" for n in (1, 2)] + ["2 samples have no item"]
    (line,) = cures(Path("o"), problems)
    assert line.startswith(f"rm -f o/tokens/ab/unit-000001.parquet o/{CHECKSUMS}/tokens/ab/unit-000001.parquet.sha256 ")


@pytest.mark.parametrize("name", [".epoch", f"{CHECKSUMS}/.epoch.sha256", f"{CHECKSUMS}/{WRITTEN_LOG}"])
def test_the_cure_of_what_is_written_about_files(out, name):
    damage(out / name)
    (line,) = cures(out, verify(RunFolder(out)).problems)
    for path in shlex.split(line.removeprefix("rm -f ").partition(";")[0]):
        Path(path).unlink()
    with RunFolder(out).lock():
        pass
    assert verify(RunFolder(out)).problems == []


def test_a_damaged_record_has_the_cure_of_its_file():
    assert cure_of(f"{CHECKSUMS}/items/unit-000000.parquet.sha256") == cure_of("items/unit-000000.parquet")
