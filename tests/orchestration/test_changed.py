"""A dump that changes under one's feet: what was scored is what is tokenized, or it is scored again."""

import io
import os
import shutil

import pytest
from dumps import everything, jpeg, light_recipe
from rich.console import Console

from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate

AGAIN = ("tokens.fps=3.0",)
"""Other tokens, so that everything is tokenized again."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dump of two pictures and a text of which one picture is replaced by another of its size, and its run folder."""
    place = tmp_path_factory.mktemp("swapped")
    dump = place / "dump"
    dump.mkdir()
    pictures = [jpeg(seed) for seed in (1, 2, 3)]
    size = max(map(len, pictures)) + 64
    for name, picture in zip("ab", pictures, strict=False):
        (dump / f"{name}.jpg").write_bytes(picture.ljust(size, b"\0"))
    (place / "other.jpg").write_bytes(pictures[2].ljust(size, b"\0"))
    (dump / "c.txt").write_text("Words of a text that go on for a while. " * 5)
    light_recipe(place / "light.toml")
    run(place, out="made")
    return place


@pytest.fixture
def place(made):
    """The same, `out` being the run folder; put back afterwards."""
    shutil.copytree(made / "made", made / "out")
    picture = made / "dump" / "a.jpg"
    first, times = picture.read_bytes(), picture.stat()
    yield made
    picture.write_bytes(first)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(made / "out")


@pytest.fixture(scope="module")
def as_new(made):
    """What a run over the dump with the other picture makes."""
    picture = made / "dump" / "a.jpg"
    first, times = picture.read_bytes(), picture.stat()
    swap(made, keep_time=True)
    run(made, *AGAIN, out="new")
    picture.write_bytes(first)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    return everything(made / "new")


def run(place, *sets, out="out", update=False):
    recipe = recipes.load(str(place / "light.toml"), ["engine.executor=inline", *sets])
    console = Console(file=io.StringIO(), width=300)
    curate([place / "dump"], place / out, recipe, CurateOptions(update=update), console)
    return console.file.getvalue()


def swap(place, *, keep_time=False):
    path = place / "dump" / "a.jpg"
    times = path.stat()
    path.write_bytes((place / "other.jpg").read_bytes())
    if keep_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def assert_as_new(place, wanted):
    """The run folder holds what a run over the dump as it is now makes, beside the tokens of another recipe."""
    found = everything(place / "out")
    for table in ("items", "samples", "verdicts", "captions", "failures"):
        assert found[table] == wanted[table], table
    assert wanted["tokens"]
    assert set(map(repr, wanted["tokens"])) <= set(map(repr, found["tokens"]))


def test_an_item_of_the_same_size_is_noticed_and_goes_through_all_of_it_again(place, as_new):
    swap(place, keep_time=True)
    told = run(place, *AGAIN, update=True)
    assert "1 items changed since they were scored" in told
    assert_as_new(place, as_new)
    assert "changed" not in run(place, *AGAIN)


def test_trust_is_in_size_time_and_first_bytes(place):
    path = place / "dump" / "a.jpg"
    times = path.stat()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))  # another time, the same bytes
    assert "changed" not in run(place, *AGAIN, "tokens.trust_dump=true", update=True)
    swap(place)
    told = run(place, "tokens.fps=2.0", "tokens.trust_dump=true", update=True)
    assert "1 items changed since they were scored" in told


def test_trust_does_not_read_what_it_trusts(place, monkeypatch):
    from reelmill.media.source import Source

    monkeypatch.setattr(Source, "sha256", lambda _: pytest.fail("the bytes were read"))
    assert "changed" not in run(place, *AGAIN, "tokens.trust_dump=true", update=True)


@pytest.mark.parametrize(
    "commits", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_kill_on_the_way_back_to_scoring(place, as_new, monkeypatch, commits):
    """The command ends at each commit that follows the discovery; the next one finishes what it began."""
    swap(place, keep_time=True)
    real, left = RunFolder.commit, [commits]

    class Killed(BaseException):
        pass

    def commit(self, path, table):
        with LedgerQueries(self.root) as ledger:
            known = ledger.rows("SELECT 1 FROM failures WHERE starts_with(reason, 'changed')")
            known += ledger.rows("SELECT 1 FROM items WHERE starts_with(reason, 'changed')")
        if known:
            if not left[0]:
                raise Killed
            left[0] -= 1
        real(self, path, table)

    monkeypatch.setattr(RunFolder, "commit", commit)
    with pytest.raises(Killed):
        run(place, *AGAIN, update=True)
    monkeypatch.undo()
    run(place, *AGAIN, update=True)
    assert_as_new(place, as_new)
