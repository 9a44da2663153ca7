"""Images of a page in reading order: address, alternative text, and where in the main text each one stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import urljoin

from resiliparse.parse.html import HTMLTree

MOST = 60
"""Images of a page; OBELICS drops pages with more than 30."""
LOOKED_AT = 200
"""Elements that are asked for an address."""
MAX_URL, MAX_ALT = 800, 300
MAX_SAID = 40_000
"""Characters of all of them."""
_OUTSIDE = "nav, header nav, footer, aside, noscript, template"
_SOURCES = ("data-src", "data-original", "data-lazy-src", "src")
"""Where a page keeps an image's address; pages that load late have a placeholder in `src`."""
_MARK = re.compile("\ufffc(\\d{1,3})\ufffc")


class _Element(Protocol):
    """An element of a page, as far as it is asked."""

    def getattr(self, qualified_name: str) -> str | None:
        """The value of one of its attributes."""


PageImage = dict[str, Any]
"""`position`: characters of the text before it; `url`; `alt`."""


def mark_images(tree: HTMLTree, page_url: str | None) -> list[PageImage]:
    """Images of a parsed page outside menus and footers, in order; before each the page gets a mark of its number."""
    document = tree.document
    if document is None:
        return []
    base = document.query_selector("base[href]")
    root = urljoin(page_url or "", (base.getattr("href") or "") if base is not None else "")
    found: list[PageImage] = []
    left = MAX_SAID
    for element in document.query_selector_all("img")[:LOOKED_AT]:  # going through all of them takes their square
        url, parent = _address(element, root), element.parent
        if url is None or len(found) == MOST or element.closest(_OUTSIDE) is not None or parent is None:
            continue
        alt = " ".join((element.getattr("alt") or "").split())[:MAX_ALT]
        left -= len(url) + len(alt)
        if left < 0:
            break
        parent.insert_before(document.create_text_node(f"\ufffc{len(found)}\ufffc"), element)
        found.append({"position": 0, "url": url, "alt": alt or None})
    return found


def joined(texts: Iterable[Any], urls: Iterable[Any]) -> tuple[str, list[PageImage]]:
    """A document of OBELICS' and MINT-1T's layout: two lists of one length, in each place a text or an address."""
    paragraphs: list[str] = []
    images: list[PageImage] = []
    size = 0
    for text, url in zip(texts, urls, strict=False):
        if isinstance(text, str) and text.strip():
            paragraphs.append(text.strip())
            size += len(paragraphs[-1]) + 2
        if isinstance(url, str) and url.startswith(("http://", "https://")) and len(url) <= MAX_URL:
            images.append({"position": size, "url": url, "alt": None})
    whole = "\n\n".join(paragraphs)
    return whole, [{**image, "position": min(image["position"], len(whole))} for image in images[:MOST]]


def placed(images: list[PageImage], text: str, marked: str) -> list[PageImage]:
    """The images that came out with their marks, each before the line of `text` that it precedes in the page.

    `marked`: all words of the page, with the marks. The main text's lines are among them, in their order, whatever
    blanks are between the words.
    """
    parts = _MARK.split("".join(marked.split()))
    words, marks = "", []
    for place, part in enumerate(parts):
        if place % 2:
            marks.append((len(words), int(part)))
        else:
            words += part
    lines = list(_lines(text, words))
    first: dict[int, int] = {}
    for position, number in marks:  # a page may hold marks of its own: the first of each counts, and their order stays
        if number < len(images):
            first.setdefault(number, position)
    known, behind = [], 0
    for number in sorted(first):
        behind = max(behind, first[number])
        at = next((start for start, line_at in lines if line_at >= behind), len(text))
        known.append({**images[number], "position": at})
    return known


def _lines(text: str, words: str) -> Iterable[tuple[int, int]]:
    """Where each line of the main text begins, in it and in the page's words; those that are not found are left out."""
    start = cursor = 0
    for line in text.split("\n"):
        letters = "".join(line.split())
        if letters and (at := words.find(letters, cursor)) >= 0:
            yield start, at
            cursor = at + len(letters)
        start += len(line) + 1


def _address(element: _Element, root: str) -> str | None:
    """The absolute address of an image; None where there is none on the web."""
    for name in _SOURCES:
        stated = (element.getattr(name) or "").strip()
        try:
            url = urljoin(root, stated) if stated else ""
        except ValueError:  # an address that is none
            continue
        if url.startswith(("http://", "https://")) and len(url) <= MAX_URL:
            return url
    return None
