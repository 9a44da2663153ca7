"""Camera poses beside a video: a matrix [4, 4] a frame, from the camera (x right, y down, z forward) to the world.

NAME.npy is an array of them. NAME.npz is as Sekai publishes it (arXiv 2506.15675, Lixsp11/Sekai-Project on Hugging
Face): `extrinsic` [frames, 4, 4], and `intrinsic` [3, 3] of an image of width and height 1, which is not needed here. A
caption stands in NAME.txt, or in Sekai's table: a CSV in the videos' folder, or in the folder `train` beside it under
the folder's name, with columns `videoFile` and `caption`. The files are untrusted.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError

Poses = npt.NDArray[np.floating[Any]]

LARGEST = 256 << 20
"""Bytes of poses: 500,000 frames of float64 matrices take 64 MB."""
SUFFIXES = (".npy", ".npz")


def poses_file(video: Path) -> Path | None:
    """The file of a video's poses."""
    return next((path for suffix in SUFFIXES if (path := video.with_suffix(suffix)).is_file()), None)


def read_poses(path: Path) -> Poses:
    """Poses [frames, 4, 4]. DataError for anything else."""
    try:
        if path.suffix == ".npz":
            poses = _bounded_array(path, "extrinsic")
        else:
            poses = np.load(path, mmap_mode="r", allow_pickle=False)  # nothing is allocated by what the header says
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name} holds no array of poses ({error})") from None
    if (
        not isinstance(poses, np.ndarray)
        or poses.ndim != 3
        or poses.shape[1:] != (4, 4)
        or poses.dtype.kind not in "iuf"
        or not np.isfinite(poses).all()
    ):
        raise DataError(f"{path.name} holds no poses: an array of finite numbers [frames, 4, 4]")
    return poses


def _bounded_array(path: Path, name: str) -> npt.NDArray[Any]:
    """An array of an archive of NumPy's, no larger than its header may claim and its file may hold."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        data = member.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"{name} takes more than {LARGEST >> 20} MiB")
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > len(data):
        raise ValueError(f"{name} is shorter than it says")
    array: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def caption_tables(folder: Path) -> list[Path]:
    """The tables that may have captions for the videos of a folder."""
    beside = folder.resolve().parent / "train" / f"{folder.resolve().name}.csv"
    return [*sorted(folder.glob("*.csv")), *([beside] if beside.is_file() else [])]


def read_captions(tables: Collection[Path], videos: Collection[str]) -> dict[str, str]:
    """The captions of these videos, by name, from tables that have them. DataError for one that cannot be read."""
    found: dict[str, str] = {}
    for path in tables:
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
                for row in csv.DictReader(lines):
                    name, caption = row.get("videoFile") or "", (row.get("caption") or "").strip()
                    if caption and name in videos:
                        found.setdefault(name, caption)
        except (OSError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as CSV ({error})") from None
    return found
