"""A web application: routes behind the guard, errors in one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from reelmill.errors import ReelmillError
from reelmill.pipelines.web.errors import error_response
from reelmill.pipelines.web.guard import Access, Guard

MAX_BODY = 1 << 20


def web_app(
    routes: Sequence[BaseRoute], access: Access, *, max_body: int = MAX_BODY, state: Mapping[str, Any] | None = None
) -> ASGIApp:
    """The routes behind a guard for `access`. The body of a request has at most `max_body` bytes.

    Handlers find the values of `state` as `request.app.state.NAME`. They raise `HttpError` to refuse a request;
    ConfigError and DataError become a 400 with their message.
    """
    handlers = {HTTPException: error_response, ReelmillError: error_response, Exception: error_response}
    app = Starlette(routes=list(routes), exception_handlers=handlers)
    for name, value in (state or {}).items():
        setattr(app.state, name, value)
    return Guard(app, access, max_body)
