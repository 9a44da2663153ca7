"""What the campaigns that act on run folders begin with, and what an undisturbed act makes of it; made once."""

import shutil
import sys
from functools import cache

from operations import OPERATIONS, prepared, write_material

from torture.processes import seconds_of


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


@cache
def undisturbed(name, material):
    """(folder to begin with, state after an undisturbed act, its seconds)."""
    made, out = prepared(name, material), material / "undisturbed" / name.replace(" ", "-") / "out"
    copy(made, out)
    seconds = seconds_of(act, name, material, out, said=material / "said")
    return made, OPERATIONS[name].state(out), seconds


def copy(made, out):
    """`out` as a copy of a folder that may not be there."""
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir(parents=True)
    if made.exists():
        shutil.copytree(made, out)
