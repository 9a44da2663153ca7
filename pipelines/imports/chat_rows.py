"""Conversations that others wrote, row by row, each as texts and names of pictures. The files are untrusted.

Read are LLaVA's JSON (`conversations` of `from` and `value`, `<image>` where a picture stands, `image` its name), the
same in ShareGPT's spelling (JSON or JSON lines, `images`), chat messages (`role` and `content`, the content a text or a
list of `{"type": "text"}` and `{"type": "image"}`), which `reelmill caption export` writes, and texts with pictures
between them (`texts` and `images`, one of each pair null, as in OBELICS).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import ijson

from reelmill.config import nearest
from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.documents import Thought

LONGEST = 64 * 2**20
"""Bytes that one row may have."""
MOST_PICTURES = 256
DEEPEST = 64
"""Lists and objects in which a value of a row may lie."""
_PLACEHOLDER = "<image>"
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
FACTS = ("source", "licence", "url")


class Picture(NamedTuple):
    """A picture's name, its path under the folder of pictures, or the bytes of one that came with its row."""

    name: str
    data: bytes | None = None


class Frame(NamedTuple):
    """What is on screen `number` / `rate` seconds after the beginning of a video under the folder of pictures."""

    name: str
    number: int
    rate: float


Part = str | Picture | Frame | Thought


@dataclass(frozen=True)
class ChatRow:
    """One row: `turns` of question and answer, or the `parts` of a document that is no conversation.

    `place` says where it stands, for errors and as its uri; `problem` why it cannot be used.
    """

    place: str
    turns: tuple[tuple[list[Part], list[Part]], ...] = ()
    parts: tuple[Part, ...] = ()
    system: str | None = None
    facts: Mapping[str, str | None] = field(default_factory=dict)
    problem: str | None = None


def chat_rows(source: Path) -> Iterator[ChatRow]:
    """The rows of a `.json` or `.jsonl` file, or of all such files in a folder, by name.

    A row that is no conversation is one with a `problem`. Raises ConfigError where there is no such file, DataError
    where a file is no JSON from some row on.
    """
    for path in chat_files(source):
        for number, fields in enumerate(json_rows(path), 1):
            place = f"{path.name}#{number}"
            try:
                yield _row(place, fields)
            except ValueError as error:
                yield ChatRow(place, problem=str(error))


def chat_files(source: Path) -> list[Path]:
    """The files that `chat_rows` reads."""
    files = sorted(path for path in source.glob("*") if path.suffix in _READERS) if source.is_dir() else [source]
    if not files or not all(path.is_file() and path.suffix in _READERS for path in files):
        raise ConfigError(
            f"no conversations at {source}: give a .json file (a list), a .jsonl file (one per line), or their folder."
        )
    return files


def json_rows(path: Path) -> Iterator[Any]:
    """The entries of a JSON list, or the lines of a file of JSON lines; DataError where the file is no JSON."""
    return _READERS[path.suffix](path)


def _lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
            if len(line) > LONGEST:
                raise DataError(f"{path}, line {number}: longer than {LONGEST >> 20} MiB; one line is one row.")
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}: {error}") from None


def _list(path: Path) -> Iterator[Any]:
    """The entries of a JSON list, one at a time: such files may have gigabytes."""
    with path.open(encoding="utf-8", errors="replace") as file:
        bounded = _BoundedReader(file)
        events = ijson.basic_parse(bounded, use_float=True)
        number = 1
        try:
            if next(events)[0] != "start_array":
                raise DataError(f"{path} is no JSON list of conversations; with one on each line it is named .jsonl")
            for entry in _entries(events):
                yield entry
                number += 1
                bounded.left = LONGEST
        except (ijson.JSONError, ValueError) as error:
            raise DataError(f"{path}, row {number}: {str(error).splitlines()[0].strip()}") from None


def _entries(events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    """The values in a list whose beginning was read. ValueError for one that is nested too deeply."""
    depth, builder = 0, ijson.ObjectBuilder()
    for event, value in events:
        depth += event.startswith("start_") - event.startswith("end_")
        if depth < 0:
            return
        if depth > DEEPEST:
            raise ValueError(f"values lie in more than {DEEPEST} lists and objects")
        builder.event(event, value)
        if depth == 0:
            yield builder.value
            builder = ijson.ObjectBuilder()


class _BoundedReader:
    """A text file as UTF-8. ValueError once `left` characters were read since it was last set."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.left = LONGEST

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if self.left <= 0:
            raise ValueError(f"longer than {LONGEST >> 20} MiB")
        piece = self._file.read(size)
        self.left -= len(piece)
        return piece.encode()


_READERS = {".json": _list, ".jsonl": _lines}


def _row(place: str, fields: Any) -> ChatRow:
    """The row; ValueError where it is none."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"a row is a JSON object, not {type(fields).__name__}")
    if fields.get("video") or fields.get("videos"):
        raise ValueError("has a video; conversations are about pictures, so give its frames as images")
    facts = {key: str(fields[key]) if fields.get(key) else None for key in FACTS}
    if "texts" in fields:
        return ChatRow(place, parts=tuple(_mixed(fields["texts"], fields.get("images"))), facts=facts)
    listed = fields.get("conversations") or fields.get("messages")
    if not isinstance(listed, list) or not listed:
        raise ValueError('has neither "conversations" nor "messages", a list of at least one question and answer')
    messages = [_message(message) for message in listed]
    _place_pictures(messages, _names(fields))
    system = None
    if messages[0][0] == "system":
        system = "".join(part for part in messages.pop(0)[1] if isinstance(part, str))
    return ChatRow(place, turns=tuple(_turns(messages)), system=system, facts=facts)


def _message(message: Any) -> tuple[str, list[Part]]:
    """(role, parts) of a message; pictures without a name yet are Picture("")."""
    if not isinstance(message, Mapping):
        raise ValueError(f"a message is a JSON object, not {type(message).__name__}")
    speaker = str(message.get("from", message.get("role")))
    if speaker not in _ROLES:
        raise ValueError(f"a message is from {speaker!r}; {nearest(speaker, _ROLES)}")
    content = message.get("value", message.get("content"))
    if isinstance(content, str):
        return _ROLES[speaker], _split(content)
    if not isinstance(content, list):
        raise ValueError(f"the words of a message are {type(content).__name__}; they must be text")
    parts: list[Part] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "image") or not isinstance(part.get(kind, ""), str):
            raise ValueError(
                f"a part of a message is {str(part)[:80]}; it must be a text or an image, each with its own"
            )
        parts += _split(part.get("text", "")) if kind == "text" else [Picture(part.get("image", ""))]
    return _ROLES[speaker], parts


def _split(text: str) -> list[Part]:
    """The text and the pictures in it; blanks around a picture are dropped, as around LLaVA's `<image>\\n`."""
    pieces = [piece.strip() if _PLACEHOLDER in text else piece for piece in text.split(_PLACEHOLDER)]
    parts: list[Part] = []
    for number, piece in enumerate(pieces):
        parts += [Picture("")] * (number > 0) + [piece] * bool(piece)
    return parts


def _names(fields: Mapping[str, Any]) -> list[str]:
    """The names of a row's pictures, of `image` or `images`."""
    found = fields.get("images", fields.get("image"))
    names = [] if found is None else [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("image is the name of a picture, images a list of names")
    if len(names) > MOST_PICTURES:
        raise ValueError(f"has {len(names)} pictures; at most {MOST_PICTURES} are taken")
    return names


def _place_pictures(messages: list[tuple[str, list[Part]]], names: list[str]) -> None:
    """Give the placeholders their names, in order. Without any the pictures stand before the first question."""
    places = [(parts, n) for _, parts in messages for n, part in enumerate(parts) if isinstance(part, Picture)]
    unnamed = [(parts, n) for parts, n in places if parts[n] == Picture("")]
    if not places and names:
        first = next((parts for role, parts in messages if role == "user"), messages[0][1])
        first[:0] = [Picture(name) for name in names]
        return
    if len(unnamed) != len(names) and not (places and not unnamed):
        raise ValueError(f"{len(unnamed)} {_PLACEHOLDER} for {len(names)} pictures; each has its place")
    for (parts, n), name in zip(unnamed, names, strict=False):
        parts[n] = Picture(name)


def _turns(messages: list[tuple[str, list[Part]]]) -> Iterator[tuple[list[Part], list[Part]]]:
    """Question and answer by turns, beginning with a question."""
    if len(messages) % 2:
        raise ValueError(f"{len(messages)} messages; each question has its answer")
    for number, ((asker, question), (speaker, answer)) in enumerate(zip(messages[::2], messages[1::2], strict=True), 1):
        if (asker, speaker) != ("user", "assistant"):
            raise ValueError(f"turn {number} is by {asker} and {speaker}; it must be by user and assistant")
        for name, parts in (("question", question), ("answer", answer)):
            if not any(not isinstance(part, str) or part.strip() for part in parts):
                raise ValueError(f"the {name} of turn {number} is empty")
        yield _picture_first(question), answer


def _picture_first(question: list[Part]) -> list[Part]:
    """The question with its picture before its text, as in Emu3's template; several pictures stay where they stand."""
    pictures = [part for part in question if isinstance(part, Picture)]
    if len(pictures) != 1:
        return question
    return [*pictures, " ".join(part for part in question if isinstance(part, str))]


def _mixed(texts: Any, images: Any) -> Iterator[Part]:
    """Texts and pictures in their order, of two lists of which one has null where the other has something."""
    if not (isinstance(texts, list) and isinstance(images, list) and len(texts) == len(images) and texts):
        raise ValueError("texts and images are two lists of one length, of which one has null where the other has not")
    for text, name in zip(texts, images, strict=True):
        if (text is None) == (name is None) or not isinstance(name if text is None else text, str):
            raise ValueError("of texts and images one has null where the other has a text or a name")
        yield Picture(name) if text is None else text
