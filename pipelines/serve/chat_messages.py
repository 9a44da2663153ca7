"""Messages as OpenAI's API has them, to the conversation that the model was taught."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from reelmill.pipelines.serve.uploads import bytes_of
from reelmill.pipelines.web.errors import Refusal
from reelmill.tokenize.documents import Visual
from reelmill.tokenize.documents.chat import SYSTEM, Turn

MOST_MESSAGES = 200
MOST_PICTURES = 8
_DRAWN = re.compile(r"!\[[^\]\n]{0,100}\]\((data:image/[^)\s]*)\)")
"""A picture in an answer: Markdown with a data URI, as `chat.py` writes it."""

Part = str | Visual
See = Callable[[bytes, str], Visual]
"""The codes of a picture's bytes; the text names the field that they stand in."""


def conversation(messages: Sequence[Any], see: See) -> tuple[str, list[Turn], list[Part]]:
    """The system's words, the turns before, and the question that is to be answered.

    Pictures of users are data URIs, those in answers too (Markdown). Messages of one role in a row are one. Raises
    Refusal for anything else.
    """
    if not 1 <= len(messages) <= MOST_MESSAGES:
        raise Refusal(400, f"there are {len(messages)} messages; send 1 to {MOST_MESSAGES}", param="messages")
    left = [MOST_PICTURES]

    def counted(data: bytes, field: str) -> Visual:
        left[0] -= 1
        if left[0] < 0:
            raise Refusal(400, f"there are more than {MOST_PICTURES} pictures; send fewer", param="messages")
        return see(data, field)

    system: list[str] = []
    runs: list[tuple[str, list[Part]]] = []
    for number, message in enumerate(messages):
        field = f"messages[{number}]"
        role, parts = _role(message, field), list(_parts(message, field, counted))
        if role == "system":
            if runs or not all(isinstance(part, str) for part in parts):
                raise Refusal(400, f"{field} is the system's; it stands first, and is text", param=field)
            system += [part for part in parts if isinstance(part, str)]
        elif runs and runs[-1][0] == role:
            runs[-1][1].extend(parts)
        else:
            runs.append((role, parts))
    if not runs or runs[0][0] != "user" or runs[-1][0] != "user":
        raise Refusal(400, "the first and the last message (after the system's) are the user's", param="messages")
    said = [parts for _, parts in runs]
    turns = [Turn(question, answer) for question, answer in zip(said[:-1:2], said[1::2], strict=True)]
    return "\n".join(system) or SYSTEM, turns, said[-1]


def _role(message: Any, field: str) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    roles = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
    if role not in roles:
        raise Refusal(400, f"{field} has the role {role!r}; allowed: {', '.join(roles)}", param=field)
    return roles[role]


def _parts(message: dict[str, Any], field: str, see: See) -> Iterator[Part]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise Refusal(400, f"{field}.content is text, or a list of parts, text or image_url", param=field)
    for number, part in enumerate(content):
        where = f"{field}.content[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            yield from _text(part["text"], where, see, may_draw=message["role"] == "assistant")
        elif kind == "image_url" and isinstance(part.get("image_url"), dict) and message["role"] == "user":
            yield see(bytes_of(str(part["image_url"].get("url")), where), where)
        else:
            raise Refusal(400, f"{where} is {kind!r}; allowed: text, and image_url in a user's message", param=where)


def _text(text: str, where: str, see: See, *, may_draw: bool) -> Iterator[Part]:
    """The text; of an answer also the pictures in it."""
    pieces = _DRAWN.split(text) if may_draw else [text]
    for place, piece in enumerate(pieces):
        if place % 2:
            yield see(bytes_of(piece, where), where)
        elif piece.strip() or not may_draw:
            yield piece
