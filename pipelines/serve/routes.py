"""The addresses of `reelmill serve`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import reelmill
from reelmill.pipelines.serve.chat_endpoint import completions
from reelmill.pipelines.serve.images_endpoint import MOST_PICTURES, generations
from reelmill.pipelines.serve.served_model import Serving
from reelmill.pipelines.web.app import web_app
from reelmill.pipelines.web.errors import Refusal
from reelmill.pipelines.web.guard import Access

MAX_BODY = 32 << 20
"""Bytes of a body; the pictures of a conversation are in it."""
PAGE = {"/": ("serve.html", "text/html"), "/serve.css": ("serve.css", "text/css")}
PAGE["/serve.js"] = ("serve.js", "text/javascript")


def serve_app(serving: Serving, access: Access) -> ASGIApp:
    """The page, the gallery and the OpenAI-compatible endpoints, for those who have access."""
    routes = [
        Route("/v1/images/generations", generations, methods=["POST"]),
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", _models),
        Route("/v1/models/{model:path}", _model),
        Route("/health", _health),
        Route("/settings", _settings),
        Route("/gallery", _gallery),
        Route("/gallery/{name}", _picture),
        *(Route(path, _page) for path in PAGE),
    ]
    return web_app(routes, access, max_body=MAX_BODY, state={"serving": serving})


def _described(serving: Serving) -> dict[str, Any]:
    return {"id": serving.name, "object": "model", "created": serving.began, "owned_by": "reelmill"}


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_described(request.app.state.serving)]})


async def _model(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    serving.check_model(request.path_params["model"])
    return JSONResponse(_described(serving))


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok", **request.app.state.serving.service.status()})


async def _settings(request: Request) -> Response:
    """What the page needs to know."""
    serving: Serving = request.app.state.serving
    facts = {"model": serving.name, "checkpoint": serving.checkpoint, "version": reelmill.__version__}
    sampling, vision = serving.preset.sampling, serving.preset.sampling.vision
    usual: dict[str, Any] = {"temperature": vision.temperature, "top_k": vision.top_k, "top_p": vision.top_p}
    usual |= {"guidance": sampling.guidance, "negative_prompt": serving.preset.negative}
    return JSONResponse({**facts, "area": serving.area, "most": MOST_PICTURES, "usual": usual})


async def _gallery(request: Request) -> Response:
    return JSONResponse({"data": request.app.state.serving.gallery.entries()})


async def _picture(request: Request) -> Response:
    name = request.path_params["name"]
    path = request.app.state.serving.gallery.path(name)
    if path is None or not path.is_file():
        raise Refusal(404, f"there is no picture {name[:100]!r} in the gallery; it may have given way to newer ones")
    return FileResponse(path, headers={"Cache-Control": "private, max-age=86400"})


async def _page(request: Request) -> Response:
    name, kind = PAGE[request.url.path]
    return Response((files(__package__) / name).read_bytes(), media_type=kind)
