"""HTML pages as texts: the main text, by resiliparse, and what a page states of itself."""

from __future__ import annotations

import re
from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from reelmill.errors import Refused

MAX_PAGE = 16 * 1024**2
"""Bytes of a page."""
MAX_DEPTH = 1_000
"""Elements within one another. Browsers stop at about 512; finding the main text takes the square of it."""
_BEGINS = re.compile(
    rb"\s*(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html|head|body|title|meta|div|script)\b", re.I | re.S
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]{0,40})")
_DO_NOT_NEST = frozenset(
    [
        "p",
        "li",
        "td",
        "tr",
        "th",
        "dt",
        "dd",
        "option",
        "optgroup",
        "thead",
        "tbody",
        "tfoot",
        "colgroup",
        "rb",
        "rt",
        "rp",
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)
"""Elements that close one another, or that hold nothing."""
_LICENCES = (
    ("a[rel~=license], link[rel~=license]", "href"),
    ("meta[name='license'], meta[name='dc.rights'], meta[name='dcterms.license']", "content"),
)
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"'\s]*([\w.:-]{2,40})", re.I)


def begins_html(head: bytes) -> bool:
    """Whether a file's first bytes are a page's."""
    return _BEGINS.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def page_text(data: bytes, declared: str | None) -> tuple[str, dict[str, Any]]:
    """A page's main text, and `title` and `licence` where it states them; `declared`: the charset of its HTTP header.

    Raises Refused for a page that is nested too deep, or has no main text.
    """
    html = bytes_to_str(data, _encoding(data, declared), "replace")
    if (depth := _depth(html)) > MAX_DEPTH:
        raise Refused(f"too_deep: {depth} elements within one another, allowed {MAX_DEPTH}")
    tree = HTMLTree.parse(html)
    text = extract_plain_text(tree, main_content=True, alt_texts=False).strip()
    if not text:
        raise Refused("empty: the page has no main text")
    stated = {"title": tree.title.strip() if tree.title else None, "licence": _licence(tree)}
    return text, {name: value for name, value in stated.items() if value}


def _encoding(data: bytes, declared: str | None) -> str:
    """By byte order mark or as valid UTF-8, else as the header, the page or its bytes say."""
    try:
        data.decode("utf-8-sig")
        return "utf-8"
    except UnicodeDecodeError:
        pass
    named = _CHARSET.search(data[:4096])
    for name in (declared, named.group(1).decode() if named else None, detect_encoding(data)):
        if name and (known := map_encoding_to_html5(name, fallback_utf8=False)):
            return known
    return "cp1252"


def _depth(html: str) -> int:
    """The most elements that are open at a time, as a tag counts that is never closed."""
    depth = most = 0
    for tag in _TAG.finditer(html):
        if tag.group(2).lower() in _DO_NOT_NEST:
            continue
        depth = max(depth - 1, 0) if tag.group(1) else depth + 1
        most = max(most, depth)
    return most


def _licence(tree: HTMLTree) -> str | None:
    """What the page says under `rel=license` or in its meta tags."""
    for selector, attribute in _LICENCES:
        element = tree.document.query_selector(selector) if tree.document is not None else None
        if element is not None and (value := element.getattr(attribute)):
            return str(value)[:500]
    return None
