"""Wishes not to be used for training, as answers and pages state them: `X-Robots-Tag`, robots meta tags, and W3C's TDM
Reservation Protocol (`tdm-reservation`)."""

from __future__ import annotations

REFUSED_TAGS = ("noai", "noimageai")
"""As DeviantArt introduced them and img2dataset honors them."""
_WITH_VALUES = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Directives that have a colon themselves, so that what stands before it is no program's name."""


def opt_out(robots: str | None, reservation: str | None, program: str, where: str = "X-Robots-Tag") -> str | None:
    """`opted_out: ` and the wish; None where there is none.

    `program`: what this fetcher is called, for tags that are meant for one program alone. `where`: what holds `robots`.
    """
    for tag in _tags(robots or "", program):
        if tag in REFUSED_TAGS:
            return f"opted_out: {where}: {tag}"
    if (reservation or "").partition(",")[0].strip() == "1":
        return "opted_out: tdm-reservation: 1"
    return None


def _tags(header: str, program: str) -> list[str]:
    """The directives for every program and for this one. A name before a colon holds until the next one."""
    found, is_ours = [], True
    for part in header.lower().split(","):
        name, colon, rest = (text.strip() for text in part.partition(":"))
        names_program = bool(colon) and name not in _WITH_VALUES
        is_ours = name in (program.lower(), "*") if names_program else is_ours
        if is_ours:
            found.append(rest if names_program else name)
    return found
