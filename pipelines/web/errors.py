"""Requests read and errors answered, in the shape of OpenAI's API: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reelmill.errors import ConfigError, DataError, ReelmillError, printable

LONGEST = 1000
"""Characters of a message: it may quote what was asked."""
_DIGITS = 20  # of 64 bits


class Refusal(HTTPException):
    """A request that is not done: an HTTP status, and what to do instead.

    `param` names the field that is wrong, `code` is for programs, `headers` go into the answer.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, **headers: str
    ) -> None:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        super().__init__(status, message, named)
        self.param, self.code = param, code


def error_body(error: Exception) -> dict[str, Any]:
    """The error of an answer or of a stream that has begun."""
    status = status_of(error)
    if isinstance(error, HTTPException):
        message = error.detail
    else:
        message = str(error) if isinstance(error, ReelmillError) else "the server failed; its terminal says why"
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param, code = (error.param, error.code) if isinstance(error, Refusal) else (None, None)
    return {"error": {"message": printable(message[:LONGEST]), "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    """The HTTP status of an error: what a person asked wrongly is 400, what failed here is 500."""
    if isinstance(error, HTTPException):
        return error.status_code
    return 400 if isinstance(error, ConfigError | DataError) else 500


async def error_response(request: Request, error: Exception) -> Response:
    """The answer to a request that failed."""
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(error_body(error), status_of(error), headers)


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body, without what is null; Refusal where it is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the body is {kind or 'of no stated type'}; send JSON, Content-Type: application/json")
    try:
        found = json.loads(await request.body(), parse_constant=_no_number, parse_int=_whole, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refusal(400, f"the body is a JSON {type(found).__name__}; send an object")
    return {name: value for name, value in found.items() if value is not None}


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"{text[:20]}... is too large a number")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number
