"""What the operating system refused, as an error of ours: what it was, and what to do about it."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

from reelmill.errors import DataError, MachineError, ReelmillError

_OF_THE_PATH = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file; check the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "choose another name",
    errno.ENOTEMPTY: "choose another name",
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ELOOP: "it is a link to itself; check the path",
}
"""The path is wrong: it will be so again."""
_OF_THE_MACHINE = {
    errno.ENOSPC: "free space or choose another folder",
    errno.EDQUOT: "the quota is used up: free space or choose another folder",
    errno.EFBIG: "the file system or `ulimit -f` bounds the size of a file: choose another folder",
    errno.EROFS: "it is mounted read-only: choose another folder",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the system's limit of open files (`sysctl fs.file-max`)",
    errno.ENOMEM: "free memory",
    errno.ESTALE: "the server of this network file system has lost the file: mount it anew",
    errno.ENOTCONN: "the program behind this mount has ended: mount it anew",
    errno.ENOLCK: "this file system has no locks: choose a folder on another one, or mount it with locks",
}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EPERM}
_DEVICE = "see that the disk or the network storage works (`dmesg`)"


def os_failure(error: OSError, doing: str = "", then: str = "") -> ReelmillError:
    """DataError where the path is wrong, MachineError where the machine fails; `doing` is "cannot read PLACE".

    The message says what to do; `then` follows it.
    """
    place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    doing = doing or (f"cannot use {place}" if place else "the system refused")
    message = f"{doing}: {error.strerror or error}"
    if error.errno in _OF_THE_PATH:
        return DataError(f"{message}; {_OF_THE_PATH[error.errno]}{then}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return MachineError(f"{message}; {_ownership(place)}change the permissions or choose another folder{then}")
    return MachineError(f"{message}; {_OF_THE_MACHINE.get(error.errno or 0, _DEVICE)}{then}")


def no_locks(error: OSError, path: Path) -> MachineError:
    """The error of a lock that could not be taken because there are none."""
    if error.errno not in _NO_LOCKS:
        return MachineError(str(os_failure(error, f"cannot lock {path}")))
    return MachineError(
        f"cannot lock {path}: {error.strerror}; {_OF_THE_MACHINE[errno.ENOLCK]}. Without a lock two runs could write "
        "to one folder."
    )


def _ownership(place: Path | None) -> str:
    """Whose the nearest thing there is, where it is not this user's."""
    if place is None:
        return ""
    for there in (place, *place.absolute().parents):
        try:
            owner = there.stat().st_uid
        except OSError:
            continue
        return f"{there} belongs to {_user(owner)}, this is {_user(os.geteuid())}: " if owner != os.geteuid() else ""
    return ""


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
