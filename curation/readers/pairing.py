"""Which files belong together: an item and the sidecars beside it, in a folder or among the members of a tar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reelmill.curation.readers import names
from reelmill.curation.readers.item import Item
from reelmill.media.source import Place

SIDECARS = (".json", ".txt")


@dataclass
class Group:
    """Members of a tar that lie side by side and have one key; `refused` came before or between them."""

    key: str
    files: dict[str, Place] = field(default_factory=dict)
    refused: list[Item] = field(default_factory=list)


def pair(files: Mapping[str, Place], key: str = "") -> tuple[list[Item], list[str]]:
    """The items among files that lie together, each with its sidecars, and the names of what is neither.

    A sidecar of `x.jpg` is `x.jpg.json`, `x.json` or `x.info.json`, else the same of the group's `key`; of `.txt`
    likewise. The first that is there is taken. A text that may be the sidecar of a video or image is never an item.
    """
    sidecars = _Sidecars(files, key)
    described = {text for name in files if _is_media(name) for text in sidecars.of(name, ".txt")}
    items: list[Item] = []
    used: set[str] = set()
    for name, source in files.items():
        kind = names.KINDS.get(names.suffix(name))
        if kind is None or name in described:
            continue
        json = next(sidecars.of(name, ".json"), "")
        text = next(sidecars.of(name, ".txt"), "") if _is_media(name) else ""
        subtitles = _subtitles_of(name, kind, files)
        items.append(
            Item(names.uri(name), kind, source, files.get(json), files.get(text), subtitles=files.get(subtitles))
        )
        used.update((name, json, text, subtitles))
    return items, [name for name in files if name not in used]


def reunite(groups: Iterable[Group]) -> None:
    """Move members into the first group of their key that lacks their names: a tar may be sorted by type.

    A name that comes again begins another group, to which what follows belongs.
    """
    open_groups: dict[str, Group] = {}
    for group in groups:
        known = open_groups.setdefault(group.key, group)
        if known is group:
            continue
        if any(name in known.files for name in group.files):
            open_groups[group.key] = group
        else:
            known.files.update(group.files)
            group.files.clear()


class _Sidecars:
    """Finds sidecars by name, in either of Unicode's normal forms."""

    def __init__(self, files: Iterable[str], key: str) -> None:
        self._key = key
        self._exact = {names.stem(n) + names.suffix(n): n for n in files if names.suffix(n) in SIDECARS}
        self._composed = {names.composed(name): file for name, file in self._exact.items()}

    def of(self, name: str, suffix: str) -> Iterator[str]:
        """Files that may be the sidecar of `name`, the likeliest first."""
        owners = [name, names.stem(name), *([self._key] if self._key else [])]
        if suffix == ".json":  # as yt-dlp names it
            owners += [f"{owner}.info" for owner in owners[1:]]
        for owner in owners:
            wanted = owner + suffix
            if found := self._exact.get(wanted) or self._composed.get(names.composed(wanted)):
                yield found


def _subtitles_of(name: str, kind: str, files: Iterable[str]) -> str:
    """The subtitles of a video or recording `x.mp4`: `x.srt` or `x.vtt`, else the first `x.LANGUAGE.srt` or `.vtt`."""
    if kind not in ("video", "audio"):
        return ""
    stem = names.composed(names.stem(name))
    found = [file for file in files if names.suffix(file) in names.SUBTITLES]
    exact = [file for file in found if names.composed(names.stem(file)) == stem]
    tagged = [file for file in found if names.composed(names.stem(names.stem(file))) == stem]
    return min(exact or tagged, default="")


def _is_media(name: str) -> bool:
    return names.KINDS.get(names.suffix(name)) in ("video", "image")
