"""Tables of addresses as CSV or TSV (CC3M, CC12M, Koala-36M): a member a row. Members are numbered by row, from 0.

Wrong quoting costs the row that it is in: what lies behind a quote that is never closed is read as rows of their own.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator

from reelmill.archives.columns import Meaning, meaning
from reelmill.archives.compression import content_of
from reelmill.archives.contract import Archive, Member
from reelmill.archives.url_rows import address_row
from reelmill.media.source import Source

MAX_ROW = 1024 * 1024
"""Characters of a row."""
MAX_LINES = 100
"""Lines of a row: a value in quotes may go over several."""


class AddressTable(Archive):
    """The rows of a table."""

    format = "csv"

    def __init__(self, source: Source, columns: dict[str, str]) -> None:
        super().__init__(source)
        self._columns = columns

    def members(self, first: int = 0) -> Iterator[Member | None]:
        """As in the contract. A row that cannot be told into its columns is a member with a problem."""
        csv.field_size_limit(MAX_ROW)
        with content_of(self.source) as content:
            lines = _Lines(io.TextIOWrapper(content, "utf-8-sig", "replace", newline=""))
            head = lines.take()
            delimiter = "\t" if "\t" in head else ","
            if "://" in head:  # a row already: an address and a caption, in either order
                lines.put_back([head])
                names = ["url", "caption"] if "://" in head.partition(delimiter)[0] else ["caption", "url"]
            else:
                names = next(csv.reader([head], delimiter=delimiter), [])
            table = meaning(names, self._columns)
            number = 0
            while table is not None and (row := _row(lines, delimiter, len(names))) != []:
                yield self._member(number, names, row, table) if number >= first else None
                number += 1

    def _member(self, number: int, names: list[str], row: list[str] | str, table: Meaning) -> Member:
        if isinstance(row, str):
            return Member(number, f"{number:08d}", kind=table.kind, problem=row, is_address=True)
        values = dict(zip(names, row, strict=False))
        return address_row(number, f"{number:08d}", values, table, self._columns)


class _Lines:
    """The lines of a text, some of which are put back."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._back: deque[str] = deque()

    def take(self) -> str:
        """The next line with its end; nothing at the end. Of a line that is longer than MAX_ROW its beginning."""
        if self._back:
            return self._back.popleft()
        line = self._text.readline(MAX_ROW)
        rest = line
        while len(rest) == MAX_ROW and not rest.endswith("\n"):
            rest = self._text.readline(MAX_ROW)
        return line

    def put_back(self, lines: list[str]) -> None:
        """Take these again, in this order."""
        self._back.extendleft(reversed(lines))


def _row(lines: _Lines, delimiter: str, columns: int) -> list[str] | str:
    """The next row's values, or what is wrong with it; nothing at the end. Blank lines are no rows."""
    drawn: list[str] = []

    def draw() -> Iterator[str]:
        while len(drawn) <= MAX_LINES and (line := lines.take()):
            drawn.append(line)
            if len(line) == MAX_ROW:
                return
            yield line

    row: list[str] = []
    try:
        while not row:
            drawn.clear()
            row = next(csv.reader(draw(), delimiter=delimiter))
        if len(drawn) > 1:
            row = next(csv.reader(drawn, delimiter=delimiter, strict=True))
    except StopIteration:
        if not drawn:
            return []
        problem = f"malformed_csv: a line of {MAX_ROW} characters or more"
    except csv.Error:
        problem = "malformed_csv: a quote that is not closed"
    else:
        if len(row) <= columns and len(drawn) <= MAX_LINES:
            return row
        problem = f"malformed_csv: {len(row)} values in {columns} columns; a value with a separator needs quotes"
    lines.put_back(drawn[1:])
    return problem
