"""Sidecars: what a crawl wrote beside an item. Untrusted text, bounded, never more than data."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from reelmill.archives.columns import BOILERPLATE, DIGEST, ENCODING, ENCODING_FROM, IMAGES, SIDE, SPANS, plain_name
from reelmill.archives.spans import MAX_S, MAX_SPANS
from reelmill.curation.text_cleaning import clean_text
from reelmill.isolation.untrusted import Field, Integer, List, Listed, Maybe, Number, Record, Text
from reelmill.media.source import Source

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 4
"""Lists and objects within one another that are looked into for a caption or a licence."""
_CAPTION = ("caption", "captions", "alt", "alttext", "text")
_TITLE, _DESCRIPTION = ("title",), ("description",)
_LICENCE = ("licence", "license", "licences", "licenses", "licencename", "licensename", "licenceurl", "licenseurl")
_URL = ("url", "webpageurl")
_SOURCE = ("source", "dataset")
_PAGE = ("pageurl", "originurl", "referer", "referrer")
_CRAWLED = ("crawled", "crawltime", "crawldate", "warcdate", "fetchtime", "timestamp", "date")
"""Names that crawls use, in the order of preference; written without case, hyphens, underscores and blanks."""
_NAMES = (
    "name",
    "title",
    "spdx",
    "spdxid",
    "identifier",
    "id",
    "code",
    "type",
    "label",
    "url",
    "href",
    "text",
    "value",
)
"""What an object that is a licence or a source calls itself by."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_KNOWN = {*_CAPTION, *_TITLE, *_DESCRIPTION, *_LICENCE, *_URL, *_SOURCE}

_HAVE_COLUMNS = {*_CAPTION, *_LICENCE, *_URL, *_SOURCE, *_PAGE}
_SECONDS = Number(0.0, MAX_S)
_IMAGE = Record({"position": Integer(0, 1 << 31), "url": Text(1000), "alt": Maybe(Text(1000, repair=True))})

_OF_THE_READER: dict[str, tuple[str, Field]] = {
    ENCODING: ("encoding", Maybe(Text(40, r"[\w.+-]+"))),
    ENCODING_FROM: ("encoding_from", Maybe(Text(10, r"[a-z0-9-]+"))),
    BOILERPLATE: ("boilerplate", Maybe(Number(0.0, 1.0))),
    DIGEST: ("digest", Maybe(Text(71, r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}"))),
    SIDE: ("side", Maybe(Number(0.0, 1e7))),
    SPANS: ("spans", Maybe(List(MAX_SPANS))),
    IMAGES: ("images", Maybe(Listed(_IMAGE, 100))),
}

Values = Mapping[str, Sequence[tuple[str, Any]]]
"""Values of a JSON object by plain name, each with the name as it was written."""


class Span(NamedTuple):
    """A clip of a video, seconds, and its own caption."""

    start_s: float
    end_s: float
    alt: str | None


@dataclass(frozen=True)
class Sidecar:
    """What is known about an item from beside it; `problem` says what of it could not be read or used."""

    alt: str | None = None
    licence: str | None = None
    url: str | None = None
    source: str | None = None
    page_url: str | None = None
    crawled: str | None = None
    encoding: str | None = None
    encoding_from: str | None = None
    boilerplate: float | None = None
    meta: str | None = None
    """What else a URL table says of the item, as JSON."""
    digest: str | None = None
    side: float | None = None
    spans: tuple[Span, ...] = ()
    """The clips of a video, where its table states them."""
    images: list[dict[str, Any]] | None = None
    problem: str | None = None

    def alt_at(self, start_s: float) -> str | None:
        """The caption of the span that begins there, else of one that holds that time."""
        inside = [span for span in self.spans if span.start_s <= start_s + 1e-6 and start_s < span.end_s]
        return max(inside, key=lambda span: span.start_s).alt if inside else None

    def to_json(self) -> str:
        """What is known, for the plan."""
        return json.dumps({name: value for name, value in vars(self).items() if value not in (None, ())})

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """What `to_json` wrote."""
        found = json.loads(text)
        return cls(**{**found, "spans": tuple(Span(*span) for span in found.get("spans", ()))})


@dataclass(frozen=True)
class Oversized:
    """A sidecar of more than MAX_BYTES, which is not read."""

    size: int


def read_sidecar(json_source: Source | None, text_source: Source | None) -> Sidecar:
    """Join a JSON and a text sidecar; the JSON's caption wins over the text's.

    DataError where one is gone or cannot be read: that is no fault of the item's.
    """
    return join_sidecars(_bytes(json_source), _bytes(text_source))


def join_sidecars(json_data: bytes | Oversized | None, text_data: bytes | Oversized | None) -> Sidecar:
    """The same from the bytes of both, None for one that is not there."""
    problems: list[str] = []
    known: dict[str, Any] = _known(_json(json_data, problems), problems) if json_data is not None else {}
    if text_data is not None and not known.get("alt"):
        known["alt"] = _text(text_data, problems)
    return Sidecar(**known, problem="; ".join(problems) or None)


def stated(found: Mapping[str, Any]) -> Sidecar:
    """What an archive says of a member, as a JSON sidecar would."""
    problems: list[str] = []
    known = _known({name: value for name, value in found.items() if name not in _OF_THE_READER}, problems)
    of_the_reader = {name: read.check(found.get(key), key) for key, (name, read) in _OF_THE_READER.items()}
    of_the_reader["spans"] = tuple(map(_span, of_the_reader["spans"] or ()))
    return Sidecar(**known, **of_the_reader, problem="; ".join(problems) or None)


def stated_by_row(found: Mapping[str, Any]) -> Sidecar:
    """The same of a row of a URL table, of which all that has no column of its own is kept."""
    rest = {
        name: value
        for name, value in found.items()
        if name not in _OF_THE_READER and plain_name(name) not in _HAVE_COLUMNS and not _is_blank(value)
    }
    return replace(stated(found), meta=json.dumps(rest, ensure_ascii=False) if rest else None)


def _span(value: Any) -> Span:
    start, end, alt = List(3).check(value, "a span")
    text = Maybe(Text(MAX_BYTES)).check(alt, "a span's caption")
    return Span(_SECONDS.check(start, "a span"), _SECONDS.check(end, "a span"), clean_text(text) if text else None)


def _json(data: bytes | Oversized, problems: list[str]) -> dict[str, Any]:
    if isinstance(data, Oversized):
        problems.append(f"json_too_large: {data.size} bytes, allowed {MAX_BYTES}")
        return {}
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        problems.append(f"malformed_json: {' '.join(str(error).split())[:200]}")
        return {}
    if not isinstance(found, dict):
        problems.append(f"malformed_json: an object is wanted, found {type(found).__name__}")
        return {}
    return found


def _text(data: bytes | Oversized, problems: list[str]) -> str | None:
    if isinstance(data, Oversized):
        problems.append(f"text_too_large: {data.size} bytes, allowed {MAX_BYTES}")
        return None
    try:
        return clean_text(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problems.append(f"text_not_utf8: byte {error.start}")
        return clean_text(data.decode("utf-8-sig", "replace"))


def _bytes(source: Source | None) -> bytes | Oversized | None:
    if source is None:
        return None
    if source.size > MAX_BYTES:
        return Oversized(source.size)
    with source.open() as stream:
        return stream.read()


def _known(found: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Caption, licence, URL and source of a JSON sidecar. What is there and is none of them is a problem."""
    values: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for name, value in found.items():
        values[plain_name(name)].append((name, value))
    if found and not _KNOWN & values.keys():
        problems.append(f"unknown_keys: {_shown(', '.join(found))}")
    return {
        "alt": _pick(values, _CAPTION, _caption, problems) or _title_and_description(values, problems),
        "licence": _pick(values, _LICENCE, _licence, problems),
        "url": _pick(values, _URL, _address, problems),
        "source": _pick(values, _SOURCE, _named, problems),
        "page_url": _pick(values, _PAGE, _address, []),
        "crawled": _pick(values, _CRAWLED, _time, []),
    }


def _pick(values: Values, names: Sequence[str], read: Callable[[Any], str | None], problems: list[str]) -> str | None:
    """The first value that `read` makes something of; one that is not empty and gives nothing is a problem."""
    for name in names:
        for written, value in values.get(name, ()):
            if text := read(value):
                return text
            if not _is_blank(value):
                problems.append(f"unusable_{names[0]}: {_shown(written)} is {_described(value)}")
    return None


def _title_and_description(values: Values, problems: list[str]) -> str | None:
    title = _pick(values, _TITLE, _caption, problems)
    description = _pick(values, _DESCRIPTION, _caption, problems)
    if not (title and description):
        return title or description
    if description.startswith(title):
        return description
    return clean_text(f"{title}{'' if re.search(r'[.!?…:。！？]$', title) else '.'} {description}")


def _caption(value: Any, depth: int = MAX_DEPTH) -> str | None:
    """A text, the first one of a list, or the caption of an object."""
    if isinstance(value, str):
        return clean_text(value)
    inner = value if isinstance(value, list) else list(_members(value, _CAPTION))
    return next(filter(None, (_caption(one, depth - 1) for one in inner if depth)), None)


def _licence(value: Any) -> str | None:
    """The names of all licences that are stated: one of several may be the stricter."""
    return clean_text("; ".join(dict.fromkeys(_names(value, MAX_DEPTH))))


def _named(value: Any) -> str | None:
    """The first name that a value states."""
    return next(_names(value, MAX_DEPTH), None)


def _address(value: Any) -> str | None:
    """The first name that a value states, unless it is a number."""
    return None if isinstance(value, int | float) else _named(value)


def _time(value: Any) -> str | None:
    """A day or a time as ISO 8601 writes it; nothing else is taken for one."""
    return value.strip() if isinstance(value, str) and _TIME.fullmatch(value.strip()) else None


def _names(value: Any, depth: int) -> Iterator[str]:
    """A text or number, all of a list, and the first name of each object."""
    if isinstance(value, list) and depth:
        for one in value:
            yield from _names(one, depth - 1)
    elif isinstance(value, dict) and depth:
        named = (name for member in _members(value, _NAMES) for name in _names(member, depth - 1))
        yield from (name for name in [next(named, None)] if name)
    elif isinstance(value, str) and (text := clean_text(value)):
        yield text
    elif isinstance(value, float) and math.isfinite(value):
        yield f"{value:g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def _members(value: Any, names: Sequence[str]) -> Iterator[Any]:
    """Values of an object under `names`, in the order of those."""
    if isinstance(value, dict):
        plain = {plain_name(name): member for name, member in reversed(value.items())}
        yield from (plain[name] for name in names if name in plain)


def _is_blank(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether a value states nothing: null, an empty list or object, no visible text."""
    if isinstance(value, str):
        return clean_text(value) is None
    if isinstance(value, list) and depth:
        return all(_is_blank(one, depth - 1) for one in value)
    return value is None or value == {}


def _described(value: Any) -> str:
    """A value that cannot be used, as a problem tells of it."""
    if isinstance(value, dict):
        return f"an object of {_shown(', '.join(value))}"
    return f"a list of {len(value)}" if isinstance(value, list) else json.dumps(value)[:80]


def _shown(text: str) -> str:
    """A part of a sidecar inside a problem."""
    return (clean_text(text) or "")[:80]
