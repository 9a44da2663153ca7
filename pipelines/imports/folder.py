"""Codes that others made, row by row: Emu3's `.pth` folders and JSON lines. Both are untrusted.

Emu3 (its released `prepare_data.py`): a JSON file `{"prefix": FOLDER, "path_list": [...]}`, and under FOLDER a torch
file per sample, a dict of `name`, `images` (codes, a 2-D NumPy array) and `texts` (the caption). For JSON
lines see `KEYS`.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.config import nearest
from reelmill.errors import ConfigError, DataError

KEYS = ("text", "codes", "fps", "caption_after", "source", "licence", "url")
"""Of a JSON line: the caption or text; codes [H][W] of an image or [T][H][W] of a video, whose `fps` they need; whether
the caption stands after the codes; where it is from."""
LONGEST = 64 * 2**20
"""Bytes that one line, or one sample's file unpacked, may have."""
_TEXTS = ("text", "source", "licence", "url")


@dataclass(frozen=True)
class Row:
    """One sample. `place` says where it stands, for errors and as its uri. `codes`: [H, W], [T, H, W] or None."""

    place: str
    text: str
    codes: npt.NDArray[np.integer[Any]] | None = None
    fps: float | None = None
    caption_after: bool = False
    source: str | None = None
    licence: str | None = None
    url: str | None = None


def rows(source: Path) -> Iterator[Row]:
    """The samples of a `.jsonl` file, of Emu3's list (`.json`), or of all such files in a folder, by name.

    Raises ConfigError where there is nothing of that kind, DataError for a row that cannot be read.
    """
    files = sorted(path for path in source.glob("*") if path.suffix in _READERS) if source.is_dir() else [source]
    if not files or not all(path.is_file() and path.suffix in _READERS for path in files):
        raise ConfigError(
            f"nothing to import at {source}: give a .jsonl file, Emu3's list (.json with prefix and path_list), or a "
            "folder with such files."
        )
    for path in files:
        yield from _READERS[path.suffix](path)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
            place = f"{path.name}#{number}"
            if len(line) > LONGEST:
                raise DataError(f"{path}, line {number}: longer than {LONGEST >> 20} MiB; one line is one sample.")
            if line.strip():
                try:
                    yield _row(place, json.loads(line))
                except (ValueError, TypeError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}: {error}") from None


def _row(place: str, fields: Any) -> Row:
    """A JSON line's sample; ValueError where it is none."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"a line is a JSON object, not {type(fields).__name__}")
    for key, value in fields.items():
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r}; {nearest(key, KEYS)}")
        if key in _TEXTS and not isinstance(value, str) and (key == "text" or value is not None):
            raise ValueError(f"{key} is {type(value).__name__}; it must be text")
    if "text" not in fields:
        raise ValueError('"text" is missing; an image without a caption has ""')
    fps = fields.get("fps")
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float)):
        raise ValueError(f"fps is {fps!r}; it must be a number")
    if not isinstance(fields.get("caption_after", False), bool):
        raise ValueError(f"caption_after is {fields['caption_after']!r}; it must be true or false")
    codes = None if fields.get("codes") is None else _codes(fields["codes"])
    return Row(place, **{**fields, "codes": codes, "fps": None if fps is None else float(fps)})


def _codes(value: Any) -> npt.NDArray[np.integer[Any]]:
    """Nested lists or an array as integers [H, W] or [T, H, W]; ValueError where they are none."""
    codes = np.asarray(value)
    if codes.ndim not in (2, 3) or not codes.size or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            f"codes are {codes.dtype} {list(codes.shape)}; they must be integers, [H][W] of an image or [T][H][W] of a "
            "video, all rows of one length"
        )
    return codes


def _emu3_list(path: Path) -> Iterator[Row]:
    try:
        listed = json.loads(path.read_bytes())
        prefix, names = listed["prefix"], listed["path_list"]
        if not (isinstance(prefix, str) and isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("prefix must be text, path_list a list of texts")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f'{path} is no list of Emu3\'s: {error}; it is {{"prefix": FOLDER, "path_list": [FILE, ...]}}.'
        ) from None
    # A list that moved with its files: the folder beside it, or beside its own folder, of the prefix's name.
    beside = [path.parent / Path(prefix).name, path.parent.parent / Path(prefix).name]
    folder = next((place for place in (Path(prefix), *beside) if place.is_dir()), None)
    if folder is None:
        raise DataError(f"{path}: its prefix {prefix!r} is no folder, and there is none of that name beside it.")
    for number, name in enumerate(names, 1):
        where = f"{path}, entry {number} ({name})"
        inside = (folder / name).resolve()
        if not inside.is_relative_to(folder.resolve()):
            raise DataError(f"{where}: lies outside of {folder}.")
        try:
            yield _emu3_sample(inside, f"{path.name}#{number}")
        except (OSError, ValueError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
            raise DataError(f"{where}: {str(error).splitlines()[0]}") from None


def _emu3_sample(path: Path, place: str) -> Row:
    import torch

    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > LONGEST:
        raise ValueError(f"{size:,} bytes unpacked; one sample has at most {LONGEST >> 20} MiB")
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            sample = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError("holds more than texts, tensors and arrays of integers; such a file is not loaded") from None
    if not isinstance(sample, dict) or not {"images", "texts"} <= sample.keys():
        raise ValueError("a sample is a dict of name, images and texts")
    if not isinstance(sample["texts"], str):
        raise ValueError(f"texts is {type(sample['texts']).__name__}; it must be text")
    codes = _codes(sample["images"])
    if codes.ndim != 2:
        raise ValueError(f"images is {list(codes.shape)}; it must be [H, W]")
    return Row(place, sample["texts"], codes)


def _numpy_globals() -> list[Any]:
    """What unpickling an array of integers calls, under its names in NumPy 2 and in NumPy 1, and nothing else."""
    reconstruct = np.zeros(0).__reduce__()[0]
    kinds = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
    return [
        np.ndarray,
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
        (reconstruct, "numpy.core.multiarray._reconstruct"),
    ]


_READERS = {".jsonl": _json_lines, ".json": _emu3_list}
