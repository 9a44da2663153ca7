"""HTML pages as texts: the main text, by resiliparse, and what a page states of itself."""

from __future__ import annotations

import re
from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from reelmill.archives.columns import BOILERPLATE, ENCODING, ENCODING_FROM, IMAGES
from reelmill.archives.page_images import mark_images, placed
from reelmill.errors import Refused
from reelmill.media.encoding import decode

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
WISHES = "wishes"
"""In what is known of a page, and in no table: the contents of its meta tags `robots` and `tdm-reservation`."""
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"'\s]*([\w.:-]{2,40})", re.I)


def begins_html(head: bytes) -> bool:
    """Whether a file's first bytes are a page's."""
    return _BEGINS.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def page_text(data: bytes, declared: str | None, page_url: str | None = None) -> tuple[str, dict[str, Any]]:
    """A page's main text, and what is known of it: `title` and `licence` where it states them, its encoding, and the
    share of its words that is no main text, its images, and `WISHES`. `declared`: the charset of its HTTP header.

    Raises Refused for a page that is nested too deep, or has no main text.
    """
    named = _CHARSET.search(data[:4096])
    decoded = decode(data, declared, named.group(1).decode() if named else None)
    html = decoded.text.replace("\0", "")
    if (depth := _depth(html)) > MAX_DEPTH:
        raise Refused(f"too_deep: {depth} elements within one another, allowed {MAX_DEPTH}")
    tree = HTMLTree.parse(html)
    text = extract_plain_text(tree, main_content=True, alt_texts=False).strip()
    if not text:
        raise Refused("empty: the page has no main text")
    everything = extract_plain_text(tree, main_content=False, alt_texts=False)
    images = mark_images(tree, page_url)
    places = placed(images, text, tree.body.text or "") if images and tree.body is not None else []
    stated: dict[str, Any] = {"title": tree.title.strip() if tree.title else None, "licence": _licence(tree)}
    found = {ENCODING: decoded.encoding, ENCODING_FROM: decoded.told_by, BOILERPLATE: _boilerplate(text, everything)}
    found |= {IMAGES: places} if places else {}
    wishes = {name: _meta(tree, name) for name in ("robots", "tdm-reservation")}
    return text, {**{name: value for name, value in stated.items() if value}, **found, WISHES: wishes}


def _boilerplate(text: str, everything: str) -> float:
    """The share of a page's visible characters that is no main text: menus, footers, what others said."""
    visible = len("".join(everything.split()))
    return round(1 - min(len("".join(text.split())) / visible, 1.0), 4) if visible else 0.0


def _depth(html: str) -> int:
    """The most elements that are open at a time, as a tag counts that is never closed."""
    depth = most = 0
    for tag in _TAG.finditer(html):
        if tag.group(2).lower() in _DO_NOT_NEST:
            continue
        depth = max(depth - 1, 0) if tag.group(1) else depth + 1
        most = max(most, depth)
    return most


def _meta(tree: HTMLTree, name: str) -> str | None:
    """The content of a meta tag, whatever the case of its name."""
    tags = tree.head.get_elements_by_tag_name("meta") if tree.head is not None else []
    found = [tag.getattr("content") for tag in tags if (tag.getattr("name") or "").strip().lower() == name]
    return ", ".join(str(one) for one in found if one)[:1000] or None


def _licence(tree: HTMLTree) -> str | None:
    """What the page says under `rel=license` or in its meta tags."""
    for selector, attribute in _LICENCES:
        element = tree.document.query_selector(selector) if tree.document is not None else None
        if element is not None and (value := element.getattr(attribute)):
            return str(value)[:500]
    return None
