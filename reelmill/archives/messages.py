"""What the child says of archives, within bounds (`isolation/messages.py`)."""

from __future__ import annotations

from reelmill.archives.contract import CHUNK_BYTES, MAX_NAME
from reelmill.isolation.messages import ArraySpec, Kind, Kinds
from reelmill.isolation.untrusted import Field, Flag, Integer, Maybe, Text

MAX_SIDECAR = 1024 * 1024
"""Bytes of a sidecar that are handed on."""
MAX_KNOWN = 64 * 1024
"""Characters of what an archive says of a member, as JSON."""
MAX_MEMBERS = 1 << 40
MESSAGE_BYTES = 2 * CHUNK_BYTES + MAX_KNOWN
_NUMBER = Integer(0, (1 << 62) - 1)
_PROBLEM = Maybe(Text(500))
_NAMED: dict[str, Field] = {"number": _NUMBER, "name": Text(MAX_NAME), "size": _NUMBER, "offset": Maybe(_NUMBER)}

LISTED: Kinds = {
    "archive": Kind({"format": Text(40, r"[\w.+-]*"), "keyed": Flag()}),
    "member": Kind(
        {
            **_NAMED,
            "kind": Maybe(Text(5, "video|image|audio|text")),
            "known": Maybe(Text(MAX_KNOWN)),
            "problem": _PROBLEM,
            "address": Flag(),
        },
        most=MAX_MEMBERS,
    ),
    "sidecar": Kind(_NAMED, {"data": ArraySpec("uint8", ("N",))}, MAX_MEMBERS),
    "rest": Kind({"problem": _PROBLEM, "passed_over": Text(MAX_KNOWN)}),
}
"""What `jobs.listing` says. A sidecar that is too large has a size and no bytes."""

UNPACKED: Kinds = {
    "bytes": Kind({"number": _NUMBER}, {"data": ArraySpec("uint8", ("N",))}, MAX_MEMBERS),
    "whole": Kind({"number": _NUMBER, "problem": _PROBLEM}, most=MAX_MEMBERS),
}
"""What `jobs.unpack` says."""
