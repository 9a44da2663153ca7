"""What the system refuses, as a line that says what to do."""

import errno
import os

import pytest
from other_user import may_not_write, open_place  # noqa: F401

from reelmill.errors import DataError, MachineError
from reelmill.files import write_text
from reelmill.os_errors import no_locks, os_failure


def failure(number, path="/x/y"):
    return os_failure(OSError(number, os.strerror(number), path))


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, MachineError, "free space"),
        (errno.EDQUOT, MachineError, "quota"),
        (errno.EROFS, MachineError, "mounted read-only"),
        (errno.EACCES, MachineError, "change the permissions"),
        (errno.EPERM, MachineError, "change the permissions"),
        (errno.EIO, MachineError, "disk or the network storage"),
        (errno.ESTALE, MachineError, "mount it anew"),
        (errno.ENOTCONN, MachineError, "mount it anew"),
        (errno.EMFILE, MachineError, "ulimit -n"),
        (errno.EFBIG, MachineError, "ulimit -f"),
        (errno.ENOENT, DataError, "check the path"),
        (errno.EISDIR, DataError, "name a file"),
        (errno.ENAMETOOLONG, DataError, "a shorter one"),
        (errno.EPROTO, MachineError, "disk or the network storage"),
    ],
)
def test_each_says_what_to_do(number, kind, advice):
    error = failure(number)
    assert type(error) is kind
    assert str(error).startswith(f"cannot use /x/y: {os.strerror(number)}; ")
    assert advice in str(error)
    assert "space" not in str(error) or number in (errno.ENOSPC, errno.EDQUOT)


def test_an_error_without_a_name_or_a_number_is_told_too():
    assert str(os_failure(OSError("odd"))).startswith("the system refused: odd; ")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, number):
    error = no_locks(OSError(number, os.strerror(number)), tmp_path)
    assert f"cannot lock {tmp_path}: {os.strerror(number)}; this file system has no locks: choose a folder" in str(
        error
    )


def test_a_file_of_another_user_says_whose_it_is(open_place):  # noqa: F811
    write_text(open_place / "x", "before")
    with may_not_write(open_place), pytest.raises(MachineError, match="Permission denied; ") as refused:
        write_text(open_place / "x", "after")
    assert "Free space" not in str(refused.value)
    if os.geteuid() == 0:
        assert f"{open_place} belongs to root, this is " in str(refused.value)
    assert (open_place / "x").read_text() == "before"


@pytest.mark.parametrize("name", ["", "folder", "file/x", "n" * 300])
def test_no_file_can_be_there(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError):
        write_text(tmp_path / name, "text")
    assert sorted(tmp_path.rglob("*")) == before
