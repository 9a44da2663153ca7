"""Dumps at an address: `https://`, `s3://`, `gs://`, `az://`. What lies there is copied into the run folder, once.

obstore reads all of them; keys, regions and endpoints come from the environment, as for the providers' own tools. A
copy that was cut off goes on by a range where the object still has the same tag; one that is whole and the same is not
read again. Decoders need a file, in the untrusted child, which has no network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from reelmill.errors import ConfigError, DataError, brief
from reelmill.files import write_text
from reelmill.os_errors import os_failure
from reelmill.terminal import say

COPIES = "copies"
"""The folder of copies in the run folder."""
_SCHEMES = ("s3", "gs", "az", "https", "http")
_PART = ".part"
CHUNK = 8 * 1024**2
LOOKED_BYTES, LOOKED_OBJECTS = 64 * 1024**2, 256
"""What `--plan-only` reads of an address, at most."""


@dataclass(frozen=True)
class Object:
    """A thing at an address: its path below it, its bytes, and a tag that changes with them."""

    path: str
    size: int
    tag: str
    has_tag: bool = True
    """Whether its server gave the tag; otherwise it is the time of its last change."""


def is_remote(place: str) -> bool:
    """Whether a dump is named by an address."""
    return re.match(rf"({'|'.join(_SCHEMES)})://", place, re.I) is not None


def objects_at(place: str) -> list[Object]:
    """What lies at an address: below it, or the one thing that it names.

    Raises ConfigError for an address that cannot be, DataError where nothing is there or it cannot be read.
    """
    store, name = _opened(place)
    with _failures(place):
        if name is not None:
            return [_object(store.head(name), name)]
        found = [_object(meta, meta["path"]) for batch in store.list() for meta in batch]
        if not found:  # the address of one object
            store, name = _opened(place, as_one=True)
            assert name is not None
            return [_object(store.head(name), name)]
    return sorted(found, key=lambda one: one.path)


def copied(place: str, out: Path, console: Console) -> Path:
    """The copy of what lies at an address: a folder, or the file where it is one. Reads only what is not here yet."""
    found = objects_at(place)
    root = out / COPIES / hashlib.sha256(place.encode()).hexdigest()[:16]
    record = root.with_suffix(".json")
    kept = json.loads(record.read_text())["objects"] if record.is_file() else {}
    store, name = _store_of(place, found)
    left_out, read = 0, 0
    for one in found:
        target = root / one.path
        if not _is_plain(one.path):
            left_out += 1
            continue
        if target.is_file() and target.stat().st_size == one.size and kept.get(one.path) == one.tag:
            continue
        with _failures(place):
            _copy(store, one, target)
        read += 1
        kept[one.path] = one.tag
        write_text(record, json.dumps({"place": place, "objects": kept}, indent=1))
    size = sum(one.size for one in found)
    note = f"; {left_out} left out, whose names are no paths" if left_out else ""
    say(console, f"{place}: {len(found)} objects, {size / 1e6:,.1f} MB, {read} read now{note}", head="copy")
    return root / found[0].path if name is not None else root


@dataclass(frozen=True)
class Looked:
    """A part of what lies at an address, copied to be looked into: `bytes` of its `objects`, of `of_bytes` in all.

    `cut`: the one object that was too large to be taken whole, of which its beginning is here.
    """

    path: Path
    objects: int
    bytes: int
    of_bytes: int
    cut: Path | None = None


def looked_into(place: str, found: Sequence[Object], root: Path) -> Looked | None:
    """Copy some of the objects `found` at an address to `root`: drawn by their names, at most LOOKED_BYTES together.

    Where each is larger, the beginning of the smallest. None where there are no bytes.
    """
    plain = [one for one in found if _is_plain(one.path) and one.size]
    if not plain:
        return None
    store, name = _store_of(place, found)
    of_bytes = sum(one.size for one in found)
    taken = _drawn(plain)
    with _failures(place):
        for one in taken:
            _copy(store, one, root / one.path)
        if taken:
            path = root / taken[0].path if name is not None else root
            return Looked(path, len(taken), sum(one.size for one in taken), of_bytes)
        least = min(plain, key=lambda one: one.size)
        cut = root / least.path
        cut.parent.mkdir(parents=True, exist_ok=True)
        cut.write_bytes(_beginning(store, least))
    return Looked(cut, 1, LOOKED_BYTES, of_bytes, cut)


def _drawn(found: Sequence[Object]) -> list[Object]:
    """Objects that fit together into LOOKED_BYTES, in an order that their names draw: the same ones each time."""
    taken: list[Object] = []
    left = LOOKED_BYTES
    for one in sorted(found, key=lambda one: hashlib.sha256(one.path.encode()).digest()):
        if one.size <= left and len(taken) < LOOKED_OBJECTS:
            taken.append(one)
            left -= one.size
    return taken


def _beginning(store: Any, one: Object) -> bytes:
    import obstore

    data = bytearray()
    for chunk in obstore.get(store, one.path).stream(min_chunk_size=CHUNK):
        data += chunk
        if len(data) >= LOOKED_BYTES:
            break
    return bytes(data[:LOOKED_BYTES])


def _store_of(place: str, found: Sequence[Object]) -> tuple[Any, str | None]:
    """The store below an address, and the name in it where what was found there is that one thing."""
    store, name = _opened(place)
    if name is None and [one.path for one in found] == [PurePosixPath(urlsplit(place).path).name]:
        return _opened(place, as_one=True)
    return store, name


def _copy(store: Any, one: Object, target: Path) -> None:
    """Bring an object, going on where an earlier copy of the same one ended."""
    import obstore

    part = target.with_name(f".{target.name}.{hashlib.sha256(one.tag.encode()).hexdigest()[:12]}{_PART}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
        with part.open("ab") as file:
            if have < one.size:
                options: Any = {"range": {"offset": have}} if have else {}
                if one.has_tag:  # not the end of another one
                    options["if_match"] = one.tag
                for data in obstore.get(store, one.path, options=options).stream(min_chunk_size=CHUNK):
                    file.write(data)
        if part.stat().st_size != one.size:
            found = part.stat().st_size
            part.unlink()
            raise DataError(
                f"{one.path} has {found} bytes, where {one.size} were announced; run the same command again"
            )
        part.replace(target)
    except OSError as error:
        raise os_failure(error, f"cannot write {target}", ", then run the same command again") from None


def _opened(place: str, *, as_one: bool = False) -> tuple[Any, str | None]:
    """The store below an address, and the name in it where the address is that of one thing."""
    import obstore.store

    parts = urlsplit(place)
    if parts.username or parts.password:
        raise ConfigError("an address of a dump holds a name or a password; keys come from the environment")
    if not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"{place} is no address of a dump: write it as s3://BUCKET/PATH or https://HOST/PATH")
    one = as_one or parts.scheme.lower() in ("https", "http")
    folder, _, name = place.rpartition("/") if one else (place, "", "")
    if one and not name:
        raise ConfigError(f"{place} ends in a slash: a web server has no list of its files; name one of them")
    options: Any = {"allow_http": True} if parts.scheme.lower() == "http" else None
    try:
        return obstore.store.from_url(folder, client_options=options), name if one else None
    except Exception as error:  # obstore's errors share no base with a promise
        raise ConfigError(f"{place} cannot be read: {brief(error)}") from None


@contextlib.contextmanager
def _failures(place: str) -> Iterator[None]:
    """obstore's failures as ours."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{place}: nothing is there") from None
    except (BaseError, PermissionError) as error:
        raise DataError(f"{place} cannot be read: {brief(error)}") from None


def _object(meta: Any, path: str) -> Object:
    tag = meta.get("e_tag")
    return Object(path, int(meta["size"]), tag or str(meta.get("last_modified")), tag is not None)


def _is_plain(path: str) -> bool:
    """Whether an object's name is a path below a folder, and one that file systems take."""
    parts = path.split("/")
    return all(part not in ("", ".", "..") and "\0" not in part and len(part.encode()) < 200 for part in parts)


def total(found: Sequence[Object]) -> str:
    """`12 objects, 3.4 GB`."""
    return f"{len(found)} objects, {sum(one.size for one in found) / 1e9:,.2f} GB"
