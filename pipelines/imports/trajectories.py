"""Videos with what moved in them, as pictures and words in turn: camera poses beside a video, and what robots' episodes
(`lerobot.py`, `rlds.py`) share with them.

An answer is words and a picture by turns: the movement since the last picture, and what is seen then. A long recording
is several rows, each of `STEPS` movements, and each begins with the picture that the one before ended with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.imports.camera_poses import caption_tables, poses_file, read_captions, read_poses
from reelmill.pipelines.imports.chat_rows import ChatRow, Frame, Part
from reelmill.tokenize.documents import task_question, task_system
from reelmill.train.vision.media import duration_s, media_file

STEPS = 8
"""Movements of a row."""
_LEAST_TURN, _LEAST_MOVE = 2.0, 0.02
"""Degrees, and units of length, under which nothing is said."""


def walk_files(source: Path) -> list[Path]:
    """The videos with poses of a folder of walks, the poses, and the tables of captions."""
    return [*(file for walk in _walks(source) for file in walk), *caption_tables(source)]


def walk_rows(source: Path, every: float) -> Iterator[ChatRow]:
    """Rows of task explore: a caption and a first picture, then movements of the camera and what it sees."""
    walks = _walks(source)
    captions = read_captions(caption_tables(source), {video.name for video, _ in walks})
    for video, file in walks:
        try:
            poses = read_poses(file)
            seconds, rate = duration_s(media_file(video))
        except DataError as error:
            yield ChatRow(video.name, problem=str(error))
            continue
        own = video.with_suffix(".txt")
        words = own.read_text(encoding="utf-8", errors="replace").strip() if own.is_file() else ""
        words = words or captions.get(video.name, "Explore.")
        count = int(min(seconds, len(poses) / rate) / every)
        places = [min(round(number * every * rate), len(poses) - 1) for number in range(count)]
        moves = [movement(poses[a], poses[b]) for a, b in pairwise(places)]
        yield from step_rows(video.name, "explore", words, moves, partial(_frame, video.name, 1 / every))


def _walks(source: Path) -> list[tuple[Path, Path]]:
    """Each video that has poses, with their file."""
    videos = sorted(source.glob("*.mp4"))
    walks = [(video, poses) for video in videos if (poses := poses_file(video)) is not None]
    if not walks:
        raise ConfigError(
            f"no walks at {source}: give a folder of NAME.mp4 with NAME.npy beside it, poses [frames, 4, 4], or with "
            "Sekai's NAME.npz"
        )
    return walks


def _frame(video: str, rate: float, number: int) -> Frame:
    return Frame(video, number, rate)


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


def spoken(actions: npt.NDArray[np.float64], stride: int) -> list[str]:
    """The mean of every `stride` actions [steps, numbers] in words, up to the last picture that follows them."""
    return [
        " ".join(f"{value:.2f}" for value in actions[start : start + stride].mean(0))
        for start in range(0, len(actions) - stride, stride)
    ]


def step_rows(
    place: str, task: str, words: str, moves: Sequence[str], seen: Callable[[int], Part]
) -> Iterator[ChatRow]:
    """Rows of `STEPS` movements each; `seen(n)` is the picture after n of them."""
    for first in range(0, len(moves), STEPS):
        answer: list[Part] = []
        for number, said in enumerate(moves[first : first + STEPS], first + 1):
            answer += [said, seen(number)]
        asked: list[Part] = [*task_question(task, words, [seen(first)])]
        yield ChatRow(f"{place}#{first // STEPS + 1}", turns=((asked, answer),), system=task_system(task))
