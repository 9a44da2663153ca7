"""Names in a dump: kinds by suffix, stems and keys that belong together, and names as text for a table.

Names are only ever data: they become a `uri` text, never a path to write.
"""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import PurePosixPath

from reelmill.curation.interfaces import Kind
from reelmill.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES

KINDS: dict[str, Kind] = {
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys((".txt", ".md"), "text"),
    **dict.fromkeys(AUDIO_SUFFIXES, "audio"),
}
SUBTITLES = (".srt", ".vtt")
PLAIN = {*KINDS, ".json", *SUBTITLES}
"""Suffixes of items and sidecars: such a file is never looked into for what else it may be."""
MAX_URI = 1024
_COMPRESSED = {".gz", ".zst", ".bz2", ".xz", ".lz4"}
_LONGEST_LABEL = 16


def suffix(name: str) -> str:
    """The last suffix, in lower case: `.jpg`."""
    return PurePosixPath(name).suffix.lower()


def stem(name: str) -> str:
    """The name with its folder, without its last suffix."""
    return name[: len(name) - len(PurePosixPath(name).suffix)]


def key(name: str) -> str:
    """WebDataset's key: the path up to the first dot of the last name."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}" if not last.startswith(".") else name


def composed(name: str) -> str:
    """A name in Unicode's NFC, in which names are compared: macOS and some archivers write NFD."""
    return unicodedata.normalize("NFC", name)


def label(name: str) -> str:
    """What a file that is not read is counted under: `.heic`, `.tar.gz`, `(no suffix)`."""
    last = suffix(name)
    if last in _COMPRESSED:
        last = suffix(stem(name)) + last
    return last if 0 < len(last) <= _LONGEST_LABEL else "(no suffix)"


def uri(name: str) -> str:
    """A name as text for a table: bytes that are not UTF-8 spelled out, a very long one cut and told apart by hash."""
    text = encodable(name)
    if len(text) <= MAX_URI:
        return text
    return f"{text[:MAX_URI]}~{hashlib.sha256(stem(text).encode()).hexdigest()[:16]}{suffix(text)[:16]}"


def encodable(text: str) -> str:
    """The text with bytes that are not UTF-8 (lone surrogates, to Python) spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
