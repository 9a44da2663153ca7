"""Killed at any of its commits, whatever takes several of them is finished by the same command: the same rows."""

import shutil
from itertools import islice

import pytest
from killing import deaths
from operations import OPERATIONS, prepared, write_material

KILLS = {"curate --update": 1, "select --complete": 1, "chat import": 2, "tokens import": 4, "prefer build": 4}
"""Of each operation in the fast tests, spread over its commits. `forget` has a test of its own for each commit."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


def undisturbed(name, place, tmp_path):
    """(its state, how many commits it takes)."""
    operation, out = OPERATIONS[name], tmp_path / "undisturbed" / "out"
    out.parent.mkdir()
    made = prepared(name, place)
    if made.exists():
        shutil.copytree(made, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")} if out.exists() else {}
    operation.act(place, out)
    assert operation.verify(out) == []
    changed = [path for path in out.rglob("*") if path.is_file() and before.get(path) != path.stat().st_mtime_ns]
    return operation.state(out), len(changed)


@pytest.mark.parametrize("name", KILLS)
def test_killed_at_some_of_its_commits(name, place, tmp_path, monkeypatch):
    wanted, commits = undisturbed(name, place, tmp_path)
    step = max(1, commits // (KILLS[name] + 1))
    died = finished(name, place, tmp_path, monkeypatch, wanted, first=step, step=step, most=KILLS[name])
    assert died == KILLS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_each_of_its_commits(name, place, tmp_path, monkeypatch):
    wanted, _ = undisturbed(name, place, tmp_path)
    assert finished(name, place, tmp_path, monkeypatch, wanted) > 4


def finished(name, place, tmp_path, monkeypatch, wanted, *, most=None, **which):
    """How many deaths there were, after each of which the same command led to the same state."""
    operation, died = OPERATIONS[name], 0
    made, act = prepared(name, place), lambda out: operation.act(place, out)
    for commit, out in islice(deaths(made, tmp_path, monkeypatch, act, **which), most):
        died += 1
        operation.act(place, out)
        assert operation.state(out) == wanted, f"killed at rename {commit}"
        assert operation.verify(out) == [], f"killed at rename {commit}"
        shutil.rmtree(out.parent)
    return died
