"""The contract of an archive's format: the members of a file, one after another, each with its bytes when asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from reelmill.media.source import Source

CHUNK_BYTES = 1024 * 1024
MAX_NAME = 4096
"""Characters of a member's name."""


@dataclass(frozen=True)
class Member:
    """One thing in an archive.

    `number`: rises from member to member, and finds this one again. `chunks`: its bytes, to be read before the next
    member is asked for; raises Refused where they are broken. `offset` and `size`: where its bytes lie in the file as
    they are, for members that nothing is packed around. `kind`: what it is where its name does not tell. `known`: what
    the archive says of it, under the names that JSON sidecars use. `problem`: why it cannot be used. `is_address`: it
    is not here, but at the `url` that is known of it.
    """

    number: int
    name: str
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()))
    offset: int | None = None
    size: int | None = None
    kind: str | None = None
    known: Mapping[str, Any] | None = None
    problem: str | None = None
    is_address: bool = False


class Archive(ABC):
    """An opened archive. `passed_over` counts what is in it and is no member, by what it is."""

    format: ClassVar[str]
    is_keyed: ClassVar[bool] = False
    """Whether members with one key belong together (WebDataset), and may be sidecars of one another."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.passed_over: dict[str, int] = {}

    def pass_over(self, what: str, count: int = 1) -> None:
        """Count what is no member."""
        self.passed_over[what] = self.passed_over.get(what, 0) + count

    @abstractmethod
    def members(self, first: int = 0) -> Iterator[Member | None]:
        """Members from number `first` on, in order; None for each thing that is passed over on the way.

        So whoever waits hears that work goes on. Raises Refused where the archive is broken.
        """
