"""The JSON object in a request's body."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.requests import Request

from reelmill.pipelines.web.errors import HttpError

_MAX_DIGITS = 20  # of 64 bits


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body, without fields that are null. Raises HttpError for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(415, f"the content type is {kind or 'not stated'}; send JSON, Content-Type: application/json")
    try:
        found = json.loads(await request.body(), parse_constant=_constant, parse_int=_integer, parse_float=_number)
        _check_text(found, "")
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise HttpError(400, f"the body is a JSON {type(found).__name__}; send an object")
    return {name: value for name, value in found.items() if value is not None}


def _check_text(value: Any, field: str) -> None:
    """Raise HttpError, naming the field, for text with half of a surrogate pair, which UTF-8 does not have."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            where = field or "the body"
            message = f"{where} has half of a surrogate pair, {ascii(value[error.start])[1:-1]}; send whole characters"
            raise HttpError(400, message, param=field or None) from None
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_text(name, "the name of a field")
            _check_text(item, f"{field}.{name}" if field else name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check_text(item, f"{field}[{number}]")


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"{text[:20]}... is too large a number")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number
