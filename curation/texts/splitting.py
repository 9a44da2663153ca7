"""Long texts become several documents, divided at ends of paragraphs."""

from __future__ import annotations

import re

_ENDS = tuple(map(re.compile, (r"\n\n", r"\n", r"[.!?…][\"'”’)\]]*\s|[。！？]", r"\s")))
"""Where a text is divided, the best first: paragraphs, lines, sentences, words."""
_SHORTEST = 0.5
"""Share of the bound below which no document ends while there is a later end of a lesser kind; ours."""


def spans(text: str, max_chars: int) -> list[tuple[int, int]]:
    """Characters (first, behind the last) of each document: at most `max_chars`, none blank, nothing between them lost.

    A document ends at the last end of a paragraph in its second half, else of a line, a sentence, a word, or anywhere.
    """
    found = []
    first = 0
    while max_chars and len(text) - first > max_chars:
        last = _end(text, first, first + max_chars)
        found.append((first, last))
        first = last
    return [(start, stop) for start, stop in (*found, (first, len(text))) if text[start:stop].strip()]


def _end(text: str, first: int, most: int) -> int:
    least = first + max(int((most - first) * _SHORTEST), 1)
    for end in _ENDS:
        last = None
        for last in end.finditer(text, least - 1, most):  # noqa: B007  (the last one is wanted)
            pass
        if last is not None:
            return last.end()
    return most
