"""A program of the user's in a folder: `python -m reelmill.isolation.fenced FOLDER MAX_BYTES PROGRAM ARGUMENT...`.

It may write below the folder alone (Landlock, where Linux has it), no file longer than MAX_BYTES, and ends with whoever
started it. It may read and reach the network as its user may: that is what it is for.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from reelmill.isolation import landlock
from reelmill.isolation.confinement import die_with_parent, no_new_privileges

OPEN_FILES = 1024


def main() -> None:
    """Become the program, fenced in."""
    folder, most, *program = sys.argv[1:]
    del os.environ["PYTHONPATH"]  # of whoever started this, to find it
    die_with_parent(os.getppid())
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    if landlock.abi():
        no_new_privileges()
        landlock.restrict(landlock.writing_ruleset([Path(folder), Path(os.devnull)]))
    try:
        os.execvp(program[0], program)  # noqa: S606  (that is the point)
    except OSError as error:
        sys.exit(f"{program[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
