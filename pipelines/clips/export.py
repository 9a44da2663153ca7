"""`reelmill clips export`: kept clips and images as WebDataset shards, tars in which a sample's files stand together.

Of each sample KEY (its sample_id): the media's bytes (`KEY.mp4`, `KEY.jpg`, ...), the caption (`KEY.txt`), its row of
the view `samples` (`KEY.json`). Nothing is encoded again: a clip is packets copied from a key frame on, or the whole
file.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

from reelmill.config import nearest, to_dict
from reelmill.errors import ConfigError, DataError
from reelmill.files import ABANDONED_S, sweep, write_atomically
from reelmill.isolation.messages import REMUXED
from reelmill.isolation.parent import Child, ItemFailed
from reelmill.media.remux import REMUX_JOB
from reelmill.media.source import Place, Source, reading_order
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

KINDS = ("video", "image")
MIB = 2**20
_SHARD = re.compile(r"[a-z]+-\d+\.tar")
_QUERY = """
SELECT s.* FROM samples s WHERE s.kind = $2
AND s.sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
ORDER BY s.unit, s.item_id, s.start_s"""


@dataclass
class Exported:
    """How many samples were written, how many of those as whole files, how many were there, how many unreadable."""

    samples: int = 0
    whole: int = 0
    known: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class _Clip:
    """A sample's row and its media: where the clip lies in the file, its suffix, its bytes or the source of them."""

    row: dict[str, Any]
    start_s: float
    end_s: float
    suffix: str
    data: bytes | Source


def export_clips(
    out: Path,
    folder: Path,
    selection: str = "default",
    kinds: Sequence[str] = KINDS,
    shard_mb: int = 512,
    log_fn: Callable[[str], None] = print,
) -> Exported:
    """Write `folder`/KIND-NUMBER.tar of the samples that a selection keeps; goes on where an earlier call was stopped.

    A shard appears whole or not at all, and holds about `shard_mb` MiB. Raises ConfigError for an unknown kind, and
    where `folder` holds samples that are not kept now; DataError where `out` is no run folder with a plan.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"--kind {kind!r}; {nearest(kind, KINDS)}")
    run = RunFolder(out).require_sound()
    recipe = load_recipe(out)
    done = Exported()
    sweep(folder, ABANDONED_S)
    with LedgerQueries(run.root) as ledger, Child(recipe.score.isolation) as child:
        if not ledger.has("plan"):
            raise DataError(f"{run.root} was imported: its samples have no media to export")
        for kind in dict.fromkeys(kinds):
            table = ledger.table(_QUERY, [selection, kind])
            shards = [path for path in sorted(folder.glob(f"{kind}-*.tar")) if _SHARD.fullmatch(path.name)]
            known = _keys(shards)
            if stray := known.difference(table["sample_id"].to_pylist()):
                raise ConfigError(
                    f"{folder} holds {len(stray)} samples that selection {selection!r} does not keep, such as "
                    f"{min(stray)}; choose another folder"
                )
            done.known += len(known)
            rows = (row for batch in table.to_batches() for row in batch.to_pylist() if row["sample_id"] not in known)
            clips = _clips(rows, run.sources(), child, to_dict(recipe.score.decode), done, log_fn)
            number = 1 + max((int(path.stem.removeprefix(f"{kind}-")) for path in shards), default=-1)
            _write_shards(clips, folder, kind, number, shard_mb * MIB, log_fn)
    return done


def _keys(shards: Iterable[Path]) -> set[str]:
    """Keys of the samples in shards that are there."""
    found = set()
    for path in shards:
        with tarfile.open(path) as tar:
            found |= {name.partition(".")[0] for name in tar.getnames()}
    return found


def _clips(
    rows: Iterable[dict[str, Any]],
    sources: Mapping[str, Place],
    child: Child,
    options: dict[str, Any],
    done: Exported,
    log_fn: Callable[[str], None],
) -> Iterator[_Clip]:
    """The samples' media, item by item; one that cannot be read is said and counted."""
    for members in _items(rows, sources):
        try:
            source = child.opened(sources[members[0]["item_id"]])
            source.open().close()
        except (DataError, ItemFailed) as error:
            done.left_out += len(members)
            log_fn(f"{members[0]['uri']}: {error}")
            continue
        is_video = members[0]["kind"] == "video"
        for clip in _cut(members, source, child, options) if is_video else [_whole(members[0], source)]:
            done.samples += 1
            done.whole += is_video and isinstance(clip.data, Source)
            yield clip


def _items(rows: Iterable[dict[str, Any]], sources: Mapping[str, Place]) -> Iterator[list[dict[str, Any]]]:
    """Samples item by item, unit by unit; of an archive in its order."""
    for _, unit in group_by(rows, "unit"):
        items = [members for item_id, members in group_by(unit, "item_id") if item_id in sources]
        yield from sorted(items, key=lambda members: reading_order(sources[members[0]["item_id"]]))


def _cut(members: Sequence[dict[str, Any]], source: Source, child: Child, options: dict[str, Any]) -> Iterator[_Clip]:
    """The clips of a video, in their order; the whole file for one that cannot be cut out of it."""
    waiting = deque(members)
    clips = [{"key": row["sample_id"], "start_s": row["start_s"], "end_s": row["end_s"]} for row in members]
    try:
        for body, arrays in child.run(REMUX_JOB, source, {**options, "clips": clips}, REMUXED):
            if not waiting or body["key"] != waiting[0]["sample_id"]:
                break  # the child is not to be trusted with what it was not asked for
            row = waiting.popleft()
            if body["type"] == "remuxed":
                yield _Clip(row, body["start_s"], body["end_s"], body["suffix"], arrays["bytes"].tobytes())
            else:
                yield _whole(row, source)
    except ItemFailed:
        pass  # nothing more of it can be cut out
    for row in waiting:
        yield _whole(row, source)


def _whole(row: dict[str, Any], source: Source) -> _Clip:
    """The item's own file."""
    suffix = PurePosixPath(row["uri"]).suffix[1:].lower()
    return _Clip(row, row["start_s"], row["end_s"], suffix, source)


def _write_shards(
    clips: Iterator[_Clip], folder: Path, kind: str, number: int, most_bytes: int, log_fn: Callable[[str], None]
) -> None:
    while (first := next(clips, None)) is not None:
        path = folder / f"{kind}-{number:06d}.tar"
        count = 0

        def write(temporary: Path, first: _Clip = first) -> None:
            nonlocal count
            with tarfile.open(temporary, "w") as tar:
                for clip in chain([first], clips):
                    _add(tar, clip)
                    count += 1
                    if tar.offset >= most_bytes:
                        return

        write_atomically(path, write)
        log_fn(f"{path}: {count:,} samples")
        number += 1


def _add(tar: tarfile.TarFile, clip: _Clip) -> None:
    key = clip.row["sample_id"]
    if isinstance(clip.data, Source):
        with clip.data.open() as stream:
            _add_file(tar, f"{key}.{clip.suffix}", stream, clip.data.size)
    else:
        _add_file(tar, f"{key}.{clip.suffix}", io.BytesIO(clip.data), len(clip.data))
    facts = {**clip.row, "clip_start_s": clip.start_s, "clip_end_s": clip.end_s}
    for suffix, text in (("txt", clip.row["caption"] or ""), ("json", json.dumps(facts, ensure_ascii=False))):
        data = text.encode("utf-8", "replace")
        _add_file(tar, f"{key}.{suffix}", io.BytesIO(data), len(data))


def _add_file(tar: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, stream)
