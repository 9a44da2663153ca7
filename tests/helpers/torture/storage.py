"""A system that refuses a random call, or files of some size: one message, and the same command finishes it later."""

import errno
import fcntl
import os
import resource
import sys
from contextlib import contextmanager
from pathlib import Path

from operations import OPERATIONS

from torture.campaign import Tried
from torture.processes import complaint, ended, start
from torture.undisturbed import EVENTS, act, copy, material_beside, undisturbed

CODES = ("EIO", "ENOSPC", "EACCES", "ESTALE", "EROFS", "EDQUOT", "EMFILE", "EPERM")
NO_LOCKS = ("ENOLCK", "ENOSYS", "EOPNOTSUPP")
FILE_SIZES = (1_000, 2_000, 3_000, 10_000, 100_000)  # what a command says goes to a file too


def refusing(name, place, out, code, calls, once):
    """The operation, while the system refuses: the call of that number below `out`, and all after it unless `once`."""
    number, left = getattr(errno, code), [calls]

    def refuses(path):
        if not str(path).startswith(str(out)):
            return
        left[0] -= 1
        if left[0] == 0 or (left[0] < 0 and not once):
            raise OSError(number, os.strerror(number), str(path))

    def hook(event, arguments):
        if event in EVENTS and arguments and isinstance(arguments[0], str | bytes | os.PathLike):
            refuses(os.fsdecode(arguments[0]))

    fsync = os.fsync

    def failing_fsync(file):
        refuses(Path(f"/proc/self/fd/{file}").readlink())
        fsync(file)

    os.fsync = failing_fsync
    sys.addaudithook(hook)
    act(name, place, out)


def without_locks(name, place, out, code, *_):
    """The same on a file system that has no locks."""
    number = getattr(errno, code)

    def flock(*_):
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock
    act(name, place, out)


def with_small_files(name, place, out, size, *_):
    """The same where no file may be larger, whoever writes it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    act(name, place, out)


@contextmanager
def campaign(place):
    place.mkdir(parents=True)
    material, out = material_beside(place), place / "out" / "out"

    def attempt(chance):
        name = chance.choice([*OPERATIONS])
        usual = undisturbed(name, material)
        copy(usual.made, out)
        kind = chance.choices([refusing, without_locks, with_small_files], [8, 1, 3])[0]
        if kind is with_small_files:
            facts = (chance.choice(FILE_SIZES),)
        elif kind is without_locks:
            facts = (chance.choice(NO_LOCKS),)
        else:
            facts = (chance.choice(CODES), chance.randint(1, usual.calls), chance.random() < 0.5)
        what = f"{name}, {kind.__name__} {', '.join(map(str, facts))}"
        tried = Tried(1)
        code = ended(start(kind, name, material, out, *facts, said=place / "said"))
        if said := complaint(code, place / "said"):
            tried.failures.append(f"{what}: {said}")
        try:
            OPERATIONS[name].act(material, out)
        except Exception as error:
            tried.failures.append(f"{what}: the same command then ended in {error!r}")
            return tried
        if OPERATIONS[name].state(out) != usual.state:
            tried.failures.append(f"{what}: other rows than an undisturbed run")
        tried.failures += [f"{what}: {one}" for one in OPERATIONS[name].verify(out)]
        return tried

    yield attempt
