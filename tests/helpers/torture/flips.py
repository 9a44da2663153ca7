"""A damaged file in a run folder or a folder of preferences: `verify` sees it, and no command ends in a traceback."""

import shutil
from contextlib import contextmanager

from operations import OPERATIONS, pair_up, prepared, vote_and_sample

from reelmill.errors import ReelmillError
from torture.campaign import Tried
from torture.damage import damage_one
from torture.processes import command, complaint, ended, start
from torture.undisturbed import material_beside

WORDS = {"README.md", "reelmill.log"}
"""Words for people, which may be edited: `verify` does not look at them (docs/formats.md)."""
ABSENT = {"checksums/written.log", ".lock"}
"""What an earlier version did not write, so that without it nothing is known to be wrong."""


@contextmanager
def campaign(place):
    place.mkdir(parents=True)
    material = material_beside(place)
    kept = {"run": place / "run", "preferences": place / "preferences"}
    shutil.copytree(prepared("select --complete", material), kept["run"])
    OPERATIONS["select --complete"].act(material, kept["run"])
    vote_and_sample(material, kept["preferences"])
    pair_up(material, kept["preferences"])
    out = place / "out"

    def attempt(chance):
        kind = chance.choice([*kept])
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(kept[kind], out)
        done = damage_one(out, chance, spared=WORDS.__contains__)
        name, is_gone = done.partition(",")[0].partition(" ")[0], done.endswith(" gone")
        tried = Tried(1)
        if not problems(kind, out) and not (is_gone and name in ABSENT):
            tried.failures.append(f"{kind}: {done}: verify says all is sound")
        arguments = chance.choice(commands(kind, out, material))
        said = complaint(ended(start(command, arguments, said=place / "said")), place / "said")
        if said:
            tried.failures.append(f"{kind}: {done}: {arguments[0]}: {said}")
        return tried

    yield attempt


def problems(kind, out):
    """What verify says; an error of ours is an answer too."""
    operation = OPERATIONS["prefer build" if kind == "preferences" else "curate"]
    try:
        return operation.verify(out)
    except ReelmillError as error:
        return [str(error)]


def commands(kind, out, material):
    if kind == "preferences":
        return [("prefer", "build", out, "--name", "again"), ("prefer", "compare", out), ("verify", out)]
    again = ("curate", material / "dump", "--out", out, "--recipe", material / "light.toml", "--executor", "inline")
    return [
        (*again, "--update"),
        ("stats", out),
        ("sql", out, "SELECT * FROM samples"),
        ("sql", out, "SELECT sum(n_tokens) FROM tokens", "--check"),
        ("explain", out, "v.mp4"),
        ("report", out),
        ("select", out, "again", "--set", "rules.duration.min=2.0"),
        ("forget", out, "--uri", "i*.jpg"),
        ("verify", out),
    ]
