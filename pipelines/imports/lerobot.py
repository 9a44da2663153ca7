"""Robots' episodes in LeRobot's folders, of version 2 (an episode a file) and 3 (many episodes in each file).

Version 3 says in `meta/episodes/**.parquet` in which files of numbers and of video an episode lies, and at which second
of the video it begins (`videos/CAMERA/from_timestamp`); its rows are those of its `episode_index`. The files are
untrusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.imports.chat_rows import ChatRow, Frame
from reelmill.pipelines.imports.trajectories import spoken, step_rows


class _Info(NamedTuple):
    """What info.json says."""

    rate: float
    chunk: int
    camera: str
    data_path: str
    video_path: str
    is_version_3: bool


class _Episode(NamedTuple):
    """Where an episode lies, the frame of the video that it begins with, and whether its files are its own."""

    number: int
    tasks: list[Any]
    data: str
    video: str
    first: int = 0
    is_alone: bool = True


def lerobot_files(source: Path) -> list[Path]:
    """The files of a LeRobot folder that say what happened; its videos are named by them."""
    meta = source / "meta"
    info, of_v2 = meta / "info.json", [meta / "episodes.jsonl", meta / "tasks.jsonl"]
    of_v3 = sorted((meta / "episodes").rglob("*.parquet")) if (meta / "episodes").is_dir() else []
    if info.is_file() and (of_v3 or all(path.is_file() for path in of_v2)):
        return [info, *(of_v3 or of_v2)]
    raise ConfigError(
        f"no LeRobot data at {source}: it has meta/info.json, and episodes.jsonl and tasks.jsonl (version 2) or "
        "episodes/**.parquet (version 3) beside it"
    )


def lerobot_rows(source: Path, every: float) -> Iterator[ChatRow]:
    """Rows of task vla: what a robot is asked and the first picture, then its actions and what its camera sees.

    An action is the mean of `action` since the last picture, two digits each. Of several cameras the first is taken.
    """
    info = _info(source)
    stride = max(1, round(every * info.rate))
    read = lru_cache(maxsize=1)(_table)  # a file is read once for all of its episodes
    for place, fields in _episodes(source, info):
        try:
            episode = (_of_version_3 if info.is_version_3 else _of_version_2)(info, fields)
            actions = _actions(source, episode, read)
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield ChatRow(place, problem=f"its actions cannot be read ({error})")
            continue
        name = f"episode {episode.number}"
        task = " ".join(map(str, episode.tasks)) or "Act."

        def seen(number: int, episode: _Episode = episode) -> Frame:
            return Frame(episode.video, episode.first + number * stride, info.rate)

        yield from step_rows(name, "vla", task, spoken(actions, stride), seen)


def _info(source: Path) -> _Info:
    path = source / "meta/info.json"
    (info,) = _json(path, whole=True)
    try:
        rate, chunk = float(info["fps"]), int(info.get("chunks_size", 1000))
        cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
        data_path, video_path = str(info["data_path"]), str(info["video_path"])
        is_version_3 = str(info.get("codebase_version", "")).startswith("v3")
        if not (rate > 0 and chunk > 0):
            raise ValueError(f"fps is {rate:g}, chunks_size {chunk}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not LeRobot's of version 2 or 3 ({error!r})") from None
    if not cameras:
        raise DataError(f"{source} has no video; frames as pictures inside Parquet are not read")
    return _Info(rate, chunk, cameras[0], data_path, video_path, is_version_3)


def _episodes(source: Path, info: _Info) -> Iterator[tuple[str, Any]]:
    """Where the line of each episode stands, and what it says."""
    if not info.is_version_3:
        for number, fields in enumerate(_json(source / "meta/episodes.jsonl"), 1):
            yield f"episodes.jsonl#{number}", fields
        return
    at = f"videos/{info.camera}/"
    columns = ["episode_index", "tasks", "data/chunk_index", "data/file_index"]
    columns += [at + name for name in ("chunk_index", "file_index", "from_timestamp")]
    for path in lerobot_files(source)[1:]:
        try:
            rows = pq.read_table(path, columns=columns, partitioning=None).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read as Parquet ({error})") from None
        for number, fields in enumerate(rows, 1):
            yield f"{path.name}#{number}", {name.removeprefix(at): value for name, value in fields.items()}


def _of_version_2(info: _Info, fields: Any) -> _Episode:
    number = int(fields["episode_index"])
    where: dict[str, str | int] = {"episode_chunk": number // info.chunk, "episode_index": number}
    where["video_key"] = info.camera
    data, video = _filled(info.data_path, where), _filled(info.video_path, where)
    return _Episode(number, list(fields.get("tasks") or []), data, video)


def _of_version_3(info: _Info, fields: Any) -> _Episode:
    start = float(fields["from_timestamp"])
    if not 0 <= start <= 1e6:
        raise ValueError(f"it begins at second {start:g} of its video")
    data = {name: int(fields[f"data/{name}"]) for name in ("chunk_index", "file_index")}
    video = {name: int(fields[name]) for name in ("chunk_index", "file_index")}
    return _Episode(
        int(fields["episode_index"]),
        list(fields["tasks"] or []),
        _filled(info.data_path, data),
        _filled(info.video_path, {**video, "video_key": info.camera}),
        round(start * info.rate),
        is_alone=False,
    )


def _actions(source: Path, episode: _Episode, read: Callable[[Path, bool], pa.Table]) -> npt.NDArray[np.float64]:
    """float64 [steps, numbers]; ValueError for a path that leads out of the folder."""
    path = (source / episode.data).resolve()
    if not path.is_relative_to(source.resolve()):
        raise ValueError(f"{episode.data!r} lies outside of the folder")
    table = read(path, episode.is_alone)
    if not episode.is_alone:
        table = table.filter(pa.compute.equal(table["episode_index"], episode.number))
    rows = [np.asarray(value, dtype=np.float64) for value in table.column("action").to_pylist()]
    if not rows:
        raise ValueError(f"{episode.data} has no rows of it")
    actions = np.stack(rows)
    if not np.isfinite(actions).all():
        raise ValueError("an action is no finite number")
    return actions


def _table(path: Path, is_alone: bool) -> pa.Table:
    """The actions of a file, and whose they are where it has those of several episodes."""
    return pq.read_table(path, columns=["action"] if is_alone else ["action", "episode_index"], partitioning=None)


def _json(path: Path, *, whole: bool = False) -> Iterator[Any]:
    """The lines of a file, each a JSON value, or the whole of it as one. DataError where it is no JSON."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        for line in [text] if whole else text.splitlines():
            if line.strip():
                yield json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error})") from None


def _filled(template: str, values: Mapping[str, str | int]) -> str:
    """A path of info.json with its fields in: names in braces, numbers with zeros before them as in `{x:03d}`, and
    nothing else that `str.format` knows. ValueError for a field that is not known."""

    def field(found: re.Match[str]) -> str:
        value = values.get(found[1])
        if value is None:
            raise ValueError(f"{template!r} has the field {found[1]!r}; known are {', '.join(values)}")
        return f"{value:0{found[2]}d}" if found[2] and isinstance(value, int) else str(value)

    return re.sub(r"\{(\w+)(?::0?(\d{1,2})d)?\}", field, template)
