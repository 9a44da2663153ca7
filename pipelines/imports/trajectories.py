"""Videos with what moved in them, as pictures and words in turn: camera poses beside a video, robots' episodes.

An answer is words and a picture by turns: the movement since the last picture, and what is seen then. A long recording
is several rows, each of `STEPS` movements, and each begins with the picture that the one before ended with.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.imports.chat_rows import ChatRow, Frame, Part
from reelmill.tokenize.documents import task_question, task_system
from reelmill.train.vision.media import duration_s, media_file

STEPS = 8
"""Movements of a row."""
_LEAST_TURN, _LEAST_MOVE = 2.0, 0.02
"""Degrees, and units of length, under which nothing is said."""


def walk_files(source: Path) -> list[Path]:
    """The videos with poses, and the poses, of a folder of walks."""
    videos = [path for path in sorted(source.glob("*.mp4")) if path.with_suffix(".npy").is_file()]
    if not videos:
        raise ConfigError(
            f"no walks at {source}: give a folder of NAME.mp4 with NAME.npy beside it, poses [frames, 4, 4]"
        )
    return [file for video in videos for file in (video, video.with_suffix(".npy"))]


def walk_rows(source: Path, every: float) -> Iterator[ChatRow]:
    """Rows of task explore: a caption and a first picture, then movements of the camera and what it sees."""
    for video in walk_files(source)[::2]:
        try:
            poses = _poses(video.with_suffix(".npy"))
            seconds, rate = duration_s(media_file(video))
            caption = video.with_suffix(".txt")
            words = caption.read_text(encoding="utf-8", errors="replace").strip() if caption.is_file() else "Explore."
        except DataError as error:
            yield ChatRow(video.name, problem=str(error))
            continue
        count = int(min(seconds, len(poses) / rate) / every)
        places = [min(round(number * every * rate), len(poses) - 1) for number in range(count)]
        moves = [movement(poses[a], poses[b]) for a, b in pairwise(places)]
        yield from _rows(video.name, "explore", words, moves, 1 / every)


def movement(before: npt.NDArray[np.floating[Any]], after: npt.NDArray[np.floating[Any]]) -> str:
    """What a camera did between two poses [4, 4] to the world, in words: `move forward 0.5, turn left 15 degrees`."""
    change = np.linalg.inv(before) @ after
    right, forward = float(change[0, 3]), float(change[2, 3])
    turn = math.degrees(math.atan2(float(change[0, 2]), float(change[2, 2])))
    said = []
    for amount, names in ((forward, ("forward", "back")), (right, ("right", "left"))):
        if abs(amount) >= _LEAST_MOVE:
            said.append(f"move {names[amount < 0]} {abs(amount):.2g}")
    if abs(turn) >= _LEAST_TURN:
        said.append(f"turn {('right', 'left')[turn < 0]} {abs(turn):.0f} degrees")
    return ", ".join(said) or "stay"


def lerobot_files(source: Path) -> list[Path]:
    """The files of a LeRobot folder that say what happened; its videos are named by them."""
    meta = source / "meta"
    files = [meta / name for name in ("info.json", "episodes.jsonl", "tasks.jsonl")]
    if not all(path.is_file() for path in files):
        raise ConfigError(
            f"no LeRobot data at {source}: meta/info.json, episodes.jsonl and tasks.jsonl of version 2 are"
        )
    return files


def lerobot_rows(source: Path, every: float) -> Iterator[ChatRow]:
    """Rows of task vla: what a robot is asked and the first picture, then its actions and what its camera sees.

    An action is the mean of `action` since the last picture, two digits each. Of several cameras the first is taken.
    """
    (info,) = _json(source / "meta/info.json", whole=True)
    try:
        rate, chunk = float(info["fps"]), int(info["chunks_size"])
        cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
        data_path, video_path = str(info["data_path"]), str(info["video_path"])
        if not (rate > 0 and chunk > 0):
            raise ValueError(f"fps is {rate:g}, chunks_size {chunk}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{source}/meta/info.json is not LeRobot's of version 2 ({error!r})") from None
    if not cameras:
        raise DataError(f"{source} has no video; frames as pictures inside Parquet are not read")
    stride = max(1, round(every * rate))
    for line, episode in enumerate(_json(source / "meta/episodes.jsonl"), 1):
        place = f"episodes.jsonl#{line}"
        try:
            number = int(episode["episode_index"])
            where = {"episode_chunk": number // chunk, "episode_index": number, "video_key": cameras[0]}
            video = _filled(video_path, where)
            actions = np.stack(_column(source, _filled(data_path, where), "action"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield ChatRow(place, problem=f"its actions cannot be read ({error})")
            continue
        moves = [
            " ".join(f"{value:.2f}" for value in actions[start : start + stride].mean(0))
            for start in range(0, len(actions) - stride, stride)
        ]
        task = " ".join(map(str, episode.get("tasks") or ["Act."]))
        yield from _rows(video, "vla", task, moves, rate / stride, f"episode {number}")


def _rows(
    video: str, task: str, words: str, moves: Sequence[str], rate: float, place: str | None = None
) -> Iterator[ChatRow]:
    """Rows of `STEPS` movements each; frames are those of the video at `rate` a second."""
    for first in range(0, len(moves), STEPS):
        answer: list[Part] = []
        for number, said in enumerate(moves[first : first + STEPS], first + 1):
            answer += [said, Frame(video, number, rate)]
        asked: list[Part] = [*task_question(task, words, [Frame(video, first, rate)])]
        yield ChatRow(f"{place or video}#{first // STEPS + 1}", turns=((asked, answer),), system=task_system(task))


def _poses(path: Path) -> npt.NDArray[np.floating[Any]]:
    try:
        poses = np.load(path, mmap_mode="r", allow_pickle=False)  # nothing is allocated by what the header says
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} is no array ({error})") from None
    if (
        not isinstance(poses, np.ndarray)
        or poses.ndim != 3
        or poses.shape[1:] != (4, 4)
        or not np.isfinite(poses).all()
    ):
        raise DataError(f"{path.name} holds no poses: an array of finite numbers [frames, 4, 4]")
    return poses


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


def _column(folder: Path, name: str, column: str) -> list[npt.NDArray[np.float64]]:
    """A column of a Parquet file under the folder; ValueError for a path that leads out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} lies outside of the folder")
    table = pq.read_table(path, columns=[column])
    return [np.asarray(value, dtype=np.float64) for value in table.column(column).to_pylist()]
