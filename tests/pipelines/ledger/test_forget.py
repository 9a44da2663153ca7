"""Forgotten items are gone, stay gone, and leave a tombstone; licences and shares choose what comes in."""

import io
import shutil

import numpy as np
import pytest
from command_line import CommandLine
from dumps import light_recipe, rows
from killing import deaths
from rich.console import Console

from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.picture_spool import PictureSpool
from reelmill.orchestration.plan import extend_plan
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.curate.verdicts import recover
from reelmill.pipelines.ledger.forget import Criterion, forget
from reelmill.pipelines.ledger.verify import verify

QUIET = Console(file=io.StringIO())
BURIED = Criterion(uri="p0.*")


def run(dump, out, recipe, *sets, **options):
    loaded = recipes.load(str(recipe), ["engine.executor=inline", *sets])
    return curate([dump], out, loaded, CurateOptions(**options), QUIET)


def ask(folder, query):
    with LedgerQueries(folder.root) as ledger:
        return ledger.rows(query)


@pytest.fixture(scope="module")
def made(small_run, tmp_path_factory):
    place = tmp_path_factory.mktemp("forget")
    folder = RunFolder(small_run(place))
    return place / "dump", place / "light.toml", folder


def test_a_forgotten_video_its_copy_and_their_tokens_are_gone_for_good(made):
    dump, recipe, folder = made
    count = len(rows(folder.root, "items"))
    assert forget(folder, Criterion(uri="v0.*"), QUIET) == 2  # v0.mp4 and copy0.mp4, the same bytes
    gone = ask(folder, "SELECT uri, reason, alt, url, sha256 FROM items WHERE reason LIKE 'forgotten%' ORDER BY uri")
    assert [row["uri"] for row in gone] == ["copy0.mp4", "v0.mp4"]
    assert all(row["alt"] is row["url"] is row["sha256"] is None for row in gone)
    assert gone[0]["reason"] == "forgotten: by uri v0.*"
    for table in ("scored", "captions", "tokens", "verdicts"):
        left = ask(folder, f"SELECT * FROM {table}")
        assert not [row for row in left if row.get("uri") in ("v0.mp4", "copy0.mp4")]
    assert verify(folder).problems == []
    before = {table: rows(folder.root, table) for table in ("items", "samples", "tokens")}
    run(dump, folder.root, recipe)
    assert {table: rows(folder.root, table) for table in before} == before
    run(dump, folder.root, recipe, "score.scenes.max_s=0.9", update=True)  # scores everything again
    assert len(rows(folder.root, "items")) == count
    assert ask(folder, "SELECT count(*) AS n FROM scored JOIN items USING (item_id) WHERE uri = 'v0.mp4'") == [{"n": 0}]
    assert verify(folder).problems == []


def test_pictures_that_a_stopped_run_left_are_gone_too(still_run, tmp_path):
    folder = RunFolder(still_run(tmp_path))
    with folder.lock() as locked:
        spool = PictureSpool(locked, 0)
        spool.add("some item", 1.0, np.zeros((2, 2, 3), np.uint8))
        spool.commit()
    assert list((folder.root / "pictures").rglob("*.parquet"))
    forget(folder, BURIED, QUIET)
    assert not (folder.root / "pictures").exists()


def test_its_bytes_do_not_come_back_under_another_name(made, tmp_path):
    dump, recipe, folder = made
    more = tmp_path / "more"
    more.mkdir()
    (more / "again.mp4").write_bytes((dump / "v0.mp4").read_bytes())
    (more / "again.json").write_text('{"alt": "a caption of it", "licence": "CC0-1.0"}')
    run(more, folder.root, recipe, "score.scenes.max_s=0.9", update=True)
    [row] = ask(folder, "SELECT status, reason, alt, sha256, n_samples FROM items WHERE uri = 'again.mp4'")
    assert row == {"status": "refused", "reason": "forgotten: by uri v0.*", "alt": None, "sha256": None, "n_samples": 0}
    for table in ("scored", "captions", "tokens"):
        assert not [row for row in ask(folder, f"SELECT * FROM {table}") if row.get("uri") == "again.mp4"]
    assert verify(folder).problems == []


def test_what_was_forgotten_before_is_said(made):
    _, _, folder = made
    told = io.StringIO()
    assert forget(folder, Criterion(uri="v0.*"), Console(file=told)) == 0
    assert "forgotten before: 1 items" in told.getvalue()


@pytest.fixture(scope="module")
def fresh(still_run, tmp_path_factory):
    """A dump of stills, its recipe, and its run folder, in which nothing is forgotten."""
    place = tmp_path_factory.mktemp("fresh")
    out = still_run(place)
    return place / "dump", place / "light.toml", out


def state(folder):
    tables = {table: rows(folder.root, table) for table in ("items", "samples", "captions", "failures", "tokens")}
    return tables | {"verdicts": ask(folder, "SELECT * FROM verdicts ORDER BY ALL")}


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_commit_it_is_finished_by_whatever_comes_next(fresh, tmp_path, monkeypatch, step):
    """At every commit; in the fast tests at every third."""
    dump, recipe, whole = fresh
    loaded = recipes.load(str(recipe), ["engine.executor=inline"])
    undisturbed = RunFolder(shutil.copytree(whole, tmp_path / "undisturbed"))
    forget(undisturbed, BURIED, QUIET)
    before, after = state(RunFolder(whole)), state(undisturbed)
    assert before["tokens"] != after["tokens"]
    died = 0
    for commit, out in deaths(
        whole, tmp_path, monkeypatch, lambda out: forget(RunFolder(out), BURIED, QUIET), step=step
    ):
        died, folder = commit, RunFolder(out)
        if commit in (2, 7):  # curate, which would score and tokenize what is not forgotten
            run(dump, folder.root, recipe)
        else:
            with folder.lock() as locked:
                recover(locked, loaded, QUIET)
        is_buried = bool(ask(folder, "SELECT 1 FROM plan WHERE starts_with(problem, 'forgotten: ')"))
        assert state(folder) == (after if is_buried else before), f"killed at commit {commit}"
        assert verify(folder).problems == []
        assert is_buried or commit <= 5  # three of the epoch, the record of the plan
    assert died > 10


def test_what_to_forget_must_be_said_once_and_exist(made):
    _, _, folder = made
    with pytest.raises(ConfigError, match="exactly one of"):
        forget(folder, Criterion(), QUIET)
    with pytest.raises(ConfigError, match="exactly one of"):
        forget(folder, Criterion(uri="a", item="b"), QUIET)
    with pytest.raises(DataError, match="no item of"):
        forget(folder, Criterion(licence="none-such"), QUIET)


def test_the_command_forgets_by_licence(made, monkeypatch, capsys):
    _, _, folder = made
    done = CommandLine(monkeypatch, capsys)("forget", folder.root, "--licence", "CC0-1.0")
    assert (done.code, "forgot" in done.out) == (0, True)
    assert ask(folder, "SELECT count(*) AS n FROM tokens WHERE licence = 'CC0-1.0'") == [{"n": 0}]


def test_only_allowed_licences_are_kept(made, tmp_path):
    dump, recipe, _ = made
    folder = run(dump, tmp_path / "out", recipe, 'licences=["CC0-1.0"]')
    found = ask(folder, "SELECT licence, status, rule FROM samples WHERE duplicate_of IS NULL")
    assert {row["licence"] for row in found if row["status"] == "kept"} == {"CC0-1.0"}
    assert {row["rule"] for row in found if row["licence"] is None} == {"licence"}


def test_a_share_of_the_dump_is_stable_and_nested(tmp_path):
    dump, recipe, uris = tmp_path / "dump", light_recipe(tmp_path / "light.toml"), []
    dump.mkdir()
    for n in range(12):
        (dump / f"t{n}.txt").write_text(f"words number {n}")
    for share in (0.3, 0.3, 0.7):
        with RunFolder(tmp_path / str(share)).lock() as folder:
            extend_plan(folder, dump, recipes.load(str(recipe)).plan, share=share)
            uris.append(set(folder.read(folder.plan_path)["uri"].to_pylist()))
    assert uris[0] == uris[1] < uris[2] < {path.name for path in dump.iterdir()}
    folder = run(dump, tmp_path / "out", recipe, "plan.unit_items=12", share=0.3)
    assert {row["uri"] for row in ask(folder, "SELECT uri FROM items")} == uris[0]


def test_a_run_folder_is_needed(tmp_path):
    with pytest.raises(DataError, match="no run folder"):
        RunFolder(tmp_path).require()
