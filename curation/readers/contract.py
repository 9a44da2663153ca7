"""The reader contract: a place in, items with the byte ranges of their sources and sidecars out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from reelmill.curation.readers import names
from reelmill.curation.readers.item import Item
from reelmill.curation.readers.pairing import pair
from reelmill.media.source import Place as Bytes
from reelmill.media.source import Source

HEAD_BYTES = 4096


@dataclass(frozen=True)
class Place:
    """A folder or a file that a reader may read. `columns`: the recipe's `plan.columns`."""

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def head(self) -> bytes:
        """The first 4,096 bytes of a file; nothing for what is no file, or cannot be read."""
        if not self.path.is_file():
            return b""
        try:
            with self.path.open("rb") as stream:
                return stream.read(HEAD_BYTES)
        except OSError:
            return b""


class Reader(ABC):
    """Reads the places that it accepts. Opens no media: bytes are read later, by workers and in the untrusted child.

    `reads` says what it reads, as a message puts it ("a folder tree"). `ignored` counts the files met so far that are
    neither items nor sidecars, by suffix. `readers` are all readers of the run, for places within a place; `columns`
    and `opt_outs` are the recipe's, of its table `[plan]`. With `is_named` the uris of a place that is given by itself
    begin with its name, as they do where it lies in a folder.
    """

    reads: ClassVar[str]
    is_named: ClassVar[bool] = False

    def __init__(
        self, readers: Sequence[type[Reader]], columns: Mapping[str, str] | None = None, *, opt_outs: bool = True
    ) -> None:
        self.readers, self.columns, self.opt_outs = readers, columns or {}, opt_outs
        self.ignored: Counter[str] = Counter()

    @classmethod
    @abstractmethod
    def accepts(cls, place: Place) -> bool:
        """Whether this reader reads `place`; told by its first bytes, and by its name where bytes do not tell."""

    @abstractmethod
    def items(self, place: Path) -> Iterator[Item]:
        """The items of `place`, uris relative to it, in an order that depends on names alone."""

    def paired(self, files: Mapping[str, Bytes], key: str = "") -> Iterator[Item]:
        """The items among files that lie together (names within the place), each with its sidecars (`pairing.pair`)."""
        items, ignored = pair(files, key)
        self.ignored.update(map(names.label, ignored))
        return iter(items)

    def items_within(self, reader: Reader, place: Path, uri: str) -> Iterator[Item]:
        """The items that another reader finds in a place within this one, which is called `uri` here."""
        for item in reader.items(place):
            yield replace(item, uri=f"{uri}/{item.uri}" if item.uri else uri)
        self.ignored.update(reader.ignored)

    def no_file(self, name: str, path: str, facts: str, problem: str = "not_a_file") -> Iterator[Item]:
        """A refused item, where the name says that one was meant; a counted file elsewhere."""
        if kind := names.KINDS.get(names.suffix(name)):
            yield Item(names.uri(name), kind, Source(path, 0, 0), problem=f"{problem}: {facts}")
        else:
            self.ignored[names.label(name)] += 1


def reader_of(
    place: Path,
    readers: Sequence[type[Reader]],
    columns: Mapping[str, str] | None = None,
    *,
    opt_outs: bool = True,
) -> Reader | None:
    """The first of `readers` that accepts `place`."""
    looked_at = Place(place, columns or {})
    return next((reader(readers, columns, opt_outs=opt_outs) for reader in readers if reader.accepts(looked_at)), None)
