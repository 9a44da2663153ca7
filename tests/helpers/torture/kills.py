"""`kill -9` at a random moment of what writes a folder, or at a random rename; the same command must finish it."""

import os
from contextlib import contextmanager
from pathlib import Path

from operations import OPERATIONS

from torture.campaign import Tried
from torture.processes import kill_after, start
from torture.undisturbed import act, copy, material_beside, undisturbed

MOST_KILLS = 3
LONG_AGO = 0.0
"""When what a killed writer left was written: where others may be writing, only old files are swept."""


def act_to_the_rename(name, material, out, renames):
    """The operation, in a process that ends at that rename as if it had been killed."""
    real, left = Path.replace, [renames]

    def replace(self, target):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return real(self, target)

    Path.replace = replace
    act(name, material, out)


@contextmanager
def campaign(place):
    place.mkdir(parents=True)
    material, out = material_beside(place), place / "out" / "out"

    def attempt(chance):
        name = chance.choice([*OPERATIONS])
        usual = undisturbed(name, material)
        copy(usual.made, out)
        tried, how = Tried(), []
        for _ in range(chance.randint(1, MOST_KILLS)):
            if chance.random() < 0.5:
                renames = chance.randrange(usual.renames)
                how.append(f"at rename {renames}")
                process = start(act_to_the_rename, name, material, out, renames, said=place / "said")
                process.join()
            else:
                moment = chance.uniform(0, usual.seconds)
                how.append(f"after {moment:.2f} s")
                kill_after(start(act, name, material, out, said=place / "said"), moment)
            tried.tries += 1
        for path in out.rglob(".*.tmp"):
            os.utime(path, (LONG_AGO, LONG_AGO))
        OPERATIONS[name].act(material, out)
        if OPERATIONS[name].state(out) != usual.state:
            tried.failures.append(f"{name}, killed {', '.join(how)}: other rows than an undisturbed run")
        tried.failures += [f"{name}, killed {', '.join(how)}: {one}" for one in OPERATIONS[name].verify(out)]
        left = [path.name for path in out.rglob(".*.tmp")]
        tried.failures += [f"{name}, killed {', '.join(how)}: left over {one}" for one in left]
        return tried

    yield attempt
