"""One writer of a folder at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

from reelmill.errors import MachineError
from reelmill.os_errors import no_locks


def lock(handle: TextIO, root: Path) -> None:
    """Lock the open file `.lock` of a folder until it is closed, or its process ends.

    Raises MachineError at once where another process holds it, or where the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MachineError(f"another run is writing to {root}; wait for it, stop it, or choose another --out") from None
    except OSError as error:
        raise no_locks(error, root / ".lock") from None
