"""A process that dies at its n-th commit, played within this one: from then on nothing of it changes a file."""

import itertools
import shutil
from pathlib import Path

MUTATORS = ((Path, "unlink"), (Path, "rmdir"), (Path, "mkdir"), (Path, "write_text"), (shutil, "rmtree"))


class Killed(BaseException):
    """The process ends here, whatever it holds."""


def dies_at(commit, monkeypatch):
    """The rename of that commit, counted from 1, never happens, and nothing after it."""
    left = [commit]

    def counted(rename):
        def renamed(self, target):
            left[0] -= 1
            if left[0] <= 0:
                raise Killed
            return rename(self, target)

        return renamed

    def mortal(change):
        def changed(*arguments, **options):
            if left[0] <= 0:
                raise Killed
            return change(*arguments, **options)

        return changed

    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    for owner, name in MUTATORS:
        monkeypatch.setattr(owner, name, mortal(getattr(owner, name)))


def deaths(made, place, monkeypatch, action, *, first=1, step=1):
    """Copies of the folder `made` in `place` in which `action(copy)` died: (commit, copy) of every `step`-th commit.

    Ends with the first copy in which `action` came to its end. A folder `made` that is not there is copied as nothing.
    """
    for commit in itertools.count(first, step):
        folder = place / str(commit) / made.name
        folder.parent.mkdir(parents=True)
        if made.exists():
            shutil.copytree(made, folder)
        with monkeypatch.context() as patched:
            dies_at(commit, patched)
            try:
                action(folder)
            except Killed:
                pass
            else:
                return
        yield commit, folder
