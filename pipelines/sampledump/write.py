"""Lays the sample dump out as crawls leave it: a folder tree with sidecars, a WebDataset tar, and packed files."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2

from reelmill.errors import DataError
from reelmill.pipelines.sampledump import crawls
from reelmill.pipelines.sampledump.contents import Entry, entries
from reelmill.pipelines.sampledump.facts import ItemFact
from reelmill.pipelines.sampledump.videos import TAR

TIME = 1_700_000_000
"""Modification time of every file, seconds since 1970."""
_BROKEN_JSON = b'{"alt": "A star of red, orange and blue rays", "licence": '


@dataclass(frozen=True)
class Manifest:
    """What was written: item uris by kind, and the size of everything on disk."""

    root: Path
    videos: tuple[str, ...]
    images: tuple[str, ...]
    texts: tuple[str, ...]
    bytes: int

    def summary(self) -> str:
        """One line for a user."""
        counts = f"{len(self.videos)} videos, {len(self.images)} images, {len(self.texts)} texts"
        return f"{counts}, {self.bytes / 1e6:.1f} MB"


def write_sample_dump(folder: Path) -> Manifest:
    """Write the sample dump to `folder`, whole or not at all; the same bytes on every run.

    Raises DataError when `folder` exists and is not empty, WeightsError when the real footage has not been pulled.
    """
    cv2.setNumThreads(1)
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty; give a new folder for the sample dump, or delete it first")
    listed = entries()
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():  # of a run that was killed
        shutil.rmtree(partial)
    try:
        _write(listed, partial)
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        partial.replace(folder)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    everything: list[Entry | ItemFact] = [*listed, *(fact for file in crawls.packed().values() for fact in file.facts)]
    uris = {kind: tuple(sorted(e.uri for e in everything if e.kind == kind)) for kind in ("video", "image", "text")}
    return Manifest(folder, uris["video"], uris["image"], uris["text"], size)


def _write(listed: list[Entry], root: Path) -> None:
    (root / TAR).parent.mkdir(parents=True)
    with tarfile.open(root / TAR, "w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in listed:
            files = {PurePosixPath(entry.uri).suffix: entry.data(), **_sidecars(entry)}
            for suffix, data in files.items():
                if entry.uri.startswith(f"{TAR}/"):
                    _add(tar, PurePosixPath(entry.uri).stem + suffix, data)
                else:
                    _put((root / entry.uri).with_suffix(suffix), data)
    for place, file in crawls.packed().items():
        _put(root / place, file.data)
    for place, subtitles in crawls.SUBTITLES.items():
        _put(root / place, subtitles.encode())
    for path in root.rglob("*"):
        os.utime(path, (TIME, TIME))


def _sidecars(entry: Entry) -> dict[str, bytes]:
    """Files beside an item, by suffix. A crawl into tars writes other names than one into folders."""
    if entry.sidecar == "none":
        return {}
    if entry.sidecar == "malformed":
        return {".json": _BROKEN_JSON}
    if entry.uri.startswith(f"{TAR}/"):
        known = {"key": PurePosixPath(entry.uri).stem, "status": "success", "license": entry.licence}
        return {".json": _json(known | _origin(entry)), ".txt": entry.caption.encode()}
    alt = {"alt": entry.caption} if entry.caption else {}
    return {".json": _json(alt | {"licence": entry.licence} | _origin(entry))}


def _origin(entry: Entry) -> dict[str, str]:
    return {"url": entry.url, "source": entry.source}


def _json(known: dict[str, str]) -> bytes:
    return (json.dumps(known, ensure_ascii=False, indent=2) + "\n").encode()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), TIME, 0o644
    tar.addfile(member, io.BytesIO(data))
