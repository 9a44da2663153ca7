"""Messages of OpenAI's chat API, parsed into the turns of a conversation that the model was trained on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from reelmill.pipelines.serve.uploads import bytes_of
from reelmill.pipelines.web.errors import HttpError
from reelmill.tokenize.documents import Visual
from reelmill.tokenize.documents.chat import SYSTEM, Turn

MAX_MESSAGES = 200
MAX_PICTURES = 16
_PICTURE = re.compile(r"!\[[^\]\n]{0,100}\]\((data:image/[^)\s]*)\)")
"""A picture in an answer: Markdown with a data URI, as `chat_endpoint.py` writes it."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

Part = str | Visual
Encode = Callable[[bytes, str, str], list[Visual]]
"""Encodes the bytes of an `image` or a `video`; the last text names the field that holds them."""
_MEDIA = {"image_url": "image", "video_url": "video"}
"""Types of parts that hold media: OpenAI's, and the one that other servers of its API have for clips."""


class Conversation(NamedTuple):
    """The system prompt, the earlier turns, the question to answer, and how its answer begins."""

    system: str
    turns: list[Turn]
    question: list[Part]
    answer: list[Part]


def parse_messages(messages: Sequence[Any], encode: Encode, *, continues: bool = False) -> Conversation:
    """The conversation in messages. With `continues` the last one is the assistant's, and the beginning of the answer.

    Pictures are data URIs, those in answers as Markdown. Consecutive messages of one role are joined. Raises HttpError
    for anything else.
    """
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise HttpError(400, f"there are {len(messages)} messages; send 1 to {MAX_MESSAGES}", param="messages")
    pictures = 0

    def counted(data: bytes, kind: str, field: str) -> list[Visual]:
        nonlocal pictures
        if pictures >= MAX_PICTURES:
            raise HttpError(400, f"there are more than {MAX_PICTURES} pictures; send fewer", param="messages")
        found = encode(data, kind, field)
        pictures += len(found)
        return found

    system: list[str] = []
    runs: list[tuple[str, list[Part]]] = []
    for number, message in enumerate(messages):
        field = f"messages[{number}]"
        role, parts = _role(message, field), list(_parts(message, field, counted))
        if role == "system":
            if runs or not all(isinstance(part, str) for part in parts):
                raise HttpError(400, f"{field} is a system message; it must come first and be text", param=field)
            system += [part for part in parts if isinstance(part, str)]
        elif runs and runs[-1][0] == role:
            runs[-1][1].extend(parts)
        else:
            runs.append((role, parts))
    last = "assistant" if continues else "user"
    if not runs or runs[0][0] != "user" or runs[-1][0] != last:
        whose = "must be the user's" if last == "user" else "must be the user's and the assistant's"
        raise HttpError(400, f"the first message (after system messages) and the last {whose}", param="messages")
    contents = [parts for _, parts in runs]
    begun = contents.pop() if continues else []
    turns = [Turn(question, answer) for question, answer in zip(contents[:-1:2], contents[1::2], strict=True)]
    return Conversation("\n".join(system) or SYSTEM, turns, contents[-1], begun)


def _role(message: Any, field: str) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in _ROLES:
        raise HttpError(400, f"{field} has the role {str(role)[:40]!r}; allowed: {', '.join(_ROLES)}", param=field)
    return _ROLES[role]


def _parts(message: dict[str, Any], field: str, encode: Encode) -> Iterator[Part]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise HttpError(400, f"{field}.content must be text, or a list of parts of type text or image_url", param=field)
    for number, part in enumerate(content):
        where = f"{field}.content[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            yield from _text(part["text"], where, encode, may_have_pictures=message["role"] == "assistant")
        elif (
            isinstance(kind, str) and kind in _MEDIA and isinstance(part.get(kind), dict) and message["role"] == "user"
        ):
            yield from encode(bytes_of(str(part[kind].get("url")), where, _MEDIA[kind]), _MEDIA[kind], where)
        else:
            allowed = "text, and image_url and video_url in messages of the user"
            raise HttpError(400, f"{where} is {str(kind)[:40]!r}; allowed: {allowed}", param=where)


def _text(text: str, where: str, encode: Encode, *, may_have_pictures: bool) -> Iterator[Part]:
    """The text, and the pictures in it if it is an answer; without the blank lines that `chat_endpoint.py` puts around
    a picture."""
    pieces = _PICTURE.split(text) if may_have_pictures else [text]
    for place, piece in enumerate(pieces):
        if place % 2:
            yield from encode(bytes_of(piece, where), "image", where)
            continue
        words = piece.removeprefix("\n\n") if place else piece
        words = words.removesuffix("\n\n") if place < len(pieces) - 1 else words
        if words.strip() or not may_have_pictures:
            yield words
