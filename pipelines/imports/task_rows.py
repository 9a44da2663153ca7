"""Data for Emu3.5's tasks in published layouts, row by row, each as a question and its answer. The files are untrusted.

tasks     JSON lines or a list of {"task", "question", "images": [...], "answer": [{"text"} | {"image"} | {"thought"} |
          {"global_thought"}, ...]}: any of the tasks, as this package writes them
edits     x2i: a picture, an instruction, the edited picture. JSON lines or lists (ImgEdit, SEED-Data-Edit,
          GPT-Image-Edit, under any of the spellings of `EDIT_KEYS`), or Parquet with the pictures inside (OmniEdit,
          MagicBrush)
howto     howto: a title and steps, each words and a picture. VisualHow's object of WikiHow problems, or articles,
          {"title", "steps": [{"text", "image"}, ...]}
walks     explore: NAME.mp4 beside NAME.npy, camera poses [frames, 4, 4] to the world (x right, y down, z forward), and
          NAME.txt, a caption; or Sekai's published folders, with NAME.npz and its table of captions
lerobot   vla: a folder of LeRobot's version 2 or 3 (meta/info.json, episodes, tasks), in which Open X-Embodiment is
          published too
rlds      vla: a folder of TFRecord files as TensorFlow Datasets writes Open X-Embodiment
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.imports.chat_rows import FACTS, MOST_PICTURES, ChatRow, Part, Picture, chat_files, json_rows
from reelmill.pipelines.imports.lerobot import lerobot_files, lerobot_rows
from reelmill.pipelines.imports.rlds import rlds_files, rlds_rows
from reelmill.pipelines.imports.trajectories import walk_files, walk_rows
from reelmill.tokenize.documents import Thought, task_question, task_system

EDIT_KEYS = {
    "before": ("source_image", "source_img", "src_img", "input_images", "input_image", "input"),
    "after": ("target_image", "target_img", "edited_img", "output_image", "edited_image", "output"),
    "words": ("instruction", "edited_prompt_list", "edit_prompt", "prompt"),
}
"""What the publishers call the picture before, the picture after and the instruction."""


@dataclass(frozen=True)
class TaskLayout:
    """How a published layout is read: the files that it is made of, and its rows. `every`: seconds between the pictures
    of a video."""

    files: Callable[[Path], list[Path]]
    rows: Callable[[Path, float], Iterator[ChatRow]]


def task_row(
    place: str,
    task: str,
    question: str,
    answer: Sequence[Part],
    pictures: Sequence[Part] = (),
    facts: Mapping[str, str | None] | None = None,
) -> ChatRow:
    """A row whose system prompt and order are the task's. ConfigError for an unknown task."""
    asked = task_question(task, question, pictures)
    return ChatRow(place, turns=((asked, list(answer)),), system=task_system(task), facts=facts or {})


def _rows_of(make: Callable[[str, Any], ChatRow], files: Callable[[Path], list[Path]]) -> TaskLayout:
    def rows(source: Path, every: float) -> Iterator[ChatRow]:
        for path in files(source):
            for number, fields in enumerate(_entries(path), 1):
                place = f"{path.name}#{number}"
                try:
                    yield make(place, fields)
                except (ValueError, ConfigError) as error:
                    yield ChatRow(place, problem=str(error))

    return TaskLayout(files, rows)


def _entries(path: Path) -> Iterator[Any]:
    """The rows of a JSON file, which may be an object of them, or of a Parquet file."""
    if path.suffix == ".parquet":
        try:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=16):
                yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read as Parquet ({error})") from None
    elif path.suffix == ".json" and _begins_with(path, b"{"):
        with path.open("rb") as file:
            try:
                yield from ({"problem_id": key, **value} for key, value in ijson.kvitems(file, "", use_float=True))
            except (ijson.JSONError, TypeError) as error:
                raise DataError(f"{path}: {str(error).splitlines()[0]}") from None
    else:
        yield from json_rows(path)


def _begins_with(path: Path, byte: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip()[:1] == byte


def _edit_files(source: Path) -> list[Path]:
    if source.is_dir() and (found := sorted(source.rglob("*.parquet"))):
        return found
    return [source] if source.suffix == ".parquet" and source.is_file() else chat_files(source)


def _task(place: str, fields: Any) -> ChatRow:
    _object(fields)
    names = fields.get("images") or []
    answer = fields.get("answer")
    if not isinstance(fields.get("task"), str) or not isinstance(fields.get("question"), str):
        raise ValueError('has no "task" and "question", both texts')
    if not isinstance(answer, list) or not isinstance(names, list) or len(names) + len(answer) > MOST_PICTURES:
        raise ValueError(f'"images" and "answer" are lists of at most {MOST_PICTURES} together')
    pictures = [_picture(name) for name in names]
    return task_row(
        place, fields["task"], fields["question"], [_part(part) for part in answer], pictures, _facts(fields)
    )


def _part(part: Any) -> Part:
    if isinstance(part, Mapping) and len(part) == 1:
        ((kind, value),) = part.items()
        if kind == "image":
            return _picture(value)
        if kind in ("text", "thought", "global_thought") and isinstance(value, str):
            return value if kind == "text" else Thought(value, kind == "global_thought")
    raise ValueError(
        f'a part of an answer is {{"text"}}, {{"image"}}, {{"thought"}} or {{"global_thought"}}, not {part!r:.80}'
    )


def _edit(place: str, fields: Any) -> ChatRow:
    _object(fields)
    before, after, words = (_first(fields, keys) for keys in EDIT_KEYS.values())
    given = before if isinstance(before, list) else [before]
    said = words[0] if isinstance(words, list) and words else words
    if not isinstance(said, str) or not said.strip():
        raise ValueError("the instruction is no text")
    return task_row(place, "x2i", said.strip(), [_picture(after)], [_picture(one) for one in given], _facts(fields))


def _howto(place: str, fields: Any) -> ChatRow:
    _object(fields)
    title = fields.get("title") or fields.get("problem_title") or fields.get("article_title")
    if not isinstance(title, str):
        raise ValueError("has no title")
    steps = fields.get("steps")
    if steps is None:  # VisualHow: two lists of one length; pictures are named after their addresses
        listed, images = fields.get("step_list"), fields.get("image_url")
        if not (isinstance(listed, list) and isinstance(images, list) and len(listed) == len(images)):
            raise ValueError("has neither steps nor step_list and image_url of one length")
        steps = [{"text": text, "image": str(url).rpartition("/")[2]} for text, url in zip(listed, images, strict=True)]
    if not isinstance(steps, list) or not steps or len(steps) > MOST_PICTURES:
        raise ValueError(f"has no steps, or more than {MOST_PICTURES}")
    answer: list[Part] = []
    for number, step in enumerate(steps, 1):
        if not isinstance(step, Mapping) or not isinstance(step.get("text"), str):
            raise ValueError(f"step {number} has no text")
        answer.append(f"Step {number}: {step['text'].strip()}")
        answer += [_picture(step["image"])] if step.get("image") else []
    return task_row(place, "howto", title.strip(), answer, facts=_facts(fields))


def _object(fields: Any) -> None:
    if not isinstance(fields, Mapping):
        raise ValueError(f"a row is a JSON object, not {type(fields).__name__}")


def _first(fields: Mapping[str, Any], keys: Sequence[str]) -> Any:
    for key in keys:
        if fields.get(key):
            return fields[key]
    raise ValueError(f"has none of {', '.join(keys)}")


def _picture(value: Any) -> Picture:
    """A picture by its name, or the bytes that Parquet files of Hugging Face hold."""
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return Picture(str(value.get("path") or "bytes"), value["bytes"])
    if isinstance(value, str) and value:
        return Picture(value)
    raise ValueError(f"a picture is a name, or bytes in Parquet, not {type(value).__name__}")


def _facts(fields: Mapping[str, Any]) -> dict[str, str | None]:
    return {key: str(fields[key]) if fields.get(key) else None for key in FACTS}


LAYOUTS: dict[str, TaskLayout] = {
    "tasks": _rows_of(_task, chat_files),
    "edits": _rows_of(_edit, _edit_files),
    "howto": _rows_of(_howto, chat_files),
    "walks": TaskLayout(walk_files, walk_rows),
    "lerobot": TaskLayout(lerobot_files, lerobot_rows),
    "rlds": TaskLayout(rlds_files, rlds_rows),
}
