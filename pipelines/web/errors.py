"""Errors in the shape of OpenAI's API: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reelmill.errors import ConfigError, DataError, ReelmillError, printable

MAX_MESSAGE = 1000
"""Characters of a message, which may quote the request."""


class HttpError(HTTPException):
    """A request that is refused: an HTTP status, and a message that says what to do instead.

    `param` names the field that is wrong, `code` is for programs, `headers` go into the response.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, **headers: str
    ) -> None:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        super().__init__(status, message, named)
        self.param, self.code = param, code


def error_body(error: Exception) -> dict[str, Any]:
    """The body of an error response, or the data of an error event in a stream."""
    status = status_of(error)
    if isinstance(error, HTTPException):
        message = error.detail
    else:
        message = str(error) if isinstance(error, ReelmillError) else "the server failed; its log says why"
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param, code = (error.param, error.code) if isinstance(error, HttpError) else (None, None)
    return {"error": {"message": printable(message[:MAX_MESSAGE]), "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    """The HTTP status of an error: 400 if the request is wrong, 500 if the server failed."""
    if isinstance(error, HTTPException):
        return error.status_code
    return 400 if isinstance(error, ConfigError | DataError) else 500


async def error_response(request: Request, error: Exception) -> Response:
    """The response to a request that failed."""
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(error_body(error), status_of(error), headers)
