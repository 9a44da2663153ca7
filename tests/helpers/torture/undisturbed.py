"""What the campaigns that act on run folders begin with, and what an undisturbed act makes of it; made once."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from operations import OPERATIONS, prepared, write_material

from torture.processes import seconds_of

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.listdir", "os.scandir"}
"""Calls of the system that may be refused, by the names under which Python audits them."""


@dataclass(frozen=True)
class Undisturbed:
    """The folder to begin with, the state after the act, its seconds, and its renames and calls in the folder: what is
    drawn from these numbers does hit the act."""

    made: Path
    state: object
    seconds: float
    renames: int
    calls: int


def act(name, material, out):
    """The operation; what it raises becomes what the command line says."""
    from reelmill.pipelines import cli

    cli.command_line = lambda: lambda **_: OPERATIONS[name].act(material, out) and 0
    sys.argv = ["reelmill"]
    cli.main()


def material_beside(place):
    """The material for the campaign in `place` and for those beside it."""
    return _material(place.parent / "material")


@cache
def _material(place):
    return write_material(place)


def counting(name, material, out, report):
    """The operation; the file `report` then says how often it renamed a file, and asked the system for one."""
    real, counts = Path.replace, {"renames": 0, "calls": 0}

    def replace(self, target):
        counts["renames"] += 1
        return real(self, target)

    def hook(event, arguments):
        if event in EVENTS and arguments and isinstance(arguments[0], str | bytes | os.PathLike):
            counts["calls"] += os.fsdecode(arguments[0]).startswith(str(out))

    Path.replace = replace
    sys.addaudithook(hook)
    try:
        act(name, material, out)
    finally:  # the command line ends the process
        report.write_text(json.dumps(counts))


@cache
def undisturbed(name, material):
    """What the act makes of its folder where nothing happens."""
    made, out = prepared(name, material), material / "undisturbed" / name.replace(" ", "-") / "out"
    copy(made, out)
    report = out.parent / "counts.json"
    seconds = seconds_of(counting, name, material, out, report, said=material / "said")
    return Undisturbed(made, OPERATIONS[name].state(out), seconds, **json.loads(report.read_text()))


def copy(made, out):
    """`out` as a copy of a folder that may not be there."""
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir(parents=True)
    if made.exists():
        shutil.copytree(made, out)
