"""What an answer's headers say: wishes not to be used, licences, how long to wait, what the bytes were."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from reelmill.curation.fetching.outcome import Said, refused
from reelmill.opt_outs import opt_out

MAX_VALUE = 1000
"""Characters of a header that are kept."""
_LICENCE = re.compile(r"<([^<>]{1,500})>[^<>]*?;\s*rel\s*=\s*\"?[^\",;]*\blicense\b", re.I)

Headers = Sequence[tuple[bytes, bytes]]


def value_of(headers: Headers, name: str) -> str | None:
    """The values of a header, joined by commas; None where there is none."""
    wanted = name.lower().encode()
    found = [value.decode("latin-1").strip() for key, value in headers if key.lower() == wanted]
    return ", ".join(found)[:MAX_VALUE] if found else None


def said_by(status: int, url: str, headers: Headers) -> Said:
    """What is kept of an answer's headers."""
    return Said(
        http_status=status,
        final_url=url,
        content_type=_clean(value_of(headers, "content-type")),
        etag=_clean(value_of(headers, "etag")),
        last_modified=_clean(value_of(headers, "last-modified")),
        robots_tag=_clean(value_of(headers, "x-robots-tag")),
        tdm_reservation=_clean(value_of(headers, "tdm-reservation")),
        licence=_licence(value_of(headers, "link")),
    )


def check_wishes(said: Said, program: str) -> None:
    """Raise NotFetched where the answer says that it must not be used (X-Robots-Tag; W3C's TDM reservation protocol).

    `program`: what this fetcher is called, for tags that are meant for one program alone.
    """
    if why := opt_out(said.robots_tag, said.tdm_reservation, program):
        raise refused(why)


def retry_after(headers: Headers) -> float | None:
    """Seconds that the server wants to be left alone for (RFC 9110, section 10.2.3)."""
    text = value_of(headers, "retry-after") or ""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)


def _licence(link: str | None) -> str | None:
    found = _LICENCE.search(link or "")
    return _clean(found.group(1)) if found else None


def _clean(text: str | None) -> str | None:
    """One printable line; None for nothing."""
    return "".join(c for c in text if c.isprintable()).strip()[:MAX_VALUE] or None if text else None
