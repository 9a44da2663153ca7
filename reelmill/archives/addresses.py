"""Tables of addresses as CSV or TSV (CC3M, CC12M, Koala-36M): their rows are counted, since nothing is fetched."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from reelmill.archives.columns import URLS
from reelmill.archives.compression import content_of
from reelmill.archives.contract import Archive, Member
from reelmill.errors import Refused, brief

MAX_FIELD = 1024 * 1024
"""Characters of a value."""


class AddressTable(Archive):
    """A table without members."""

    format = "csv"

    def members(self, first: int = 0) -> Iterator[Member | None]:
        """None: rows are counted. Raises Refused where a value is too long, as where a quote is never closed."""
        csv.field_size_limit(MAX_FIELD)
        with content_of(self.source) as content:
            text = io.TextIOWrapper(content, "utf-8-sig", "replace", newline="")
            names = text.readline(MAX_FIELD)
            if "://" in names:  # a row already
                self.pass_over(URLS)
            try:
                for row in csv.reader(text, delimiter="\t" if "\t" in names else ","):
                    if row:
                        self.pass_over(URLS)
                    yield None
            except csv.Error as error:
                raise Refused(f"malformed_csv: {brief(error)}") from None
