"""The routes of `reelmill serve`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import reelmill
from reelmill.pipelines.generate.options import MAX_REFERENCES
from reelmill.pipelines.serve.abilities import modes, training_facts
from reelmill.pipelines.serve.chat_endpoint import completions
from reelmill.pipelines.serve.images_endpoint import MAX_IMAGES, generations
from reelmill.pipelines.serve.served_model import ServedModel
from reelmill.pipelines.serve.uploads import MAX_BYTES
from reelmill.pipelines.serve.videos_endpoint import generations as video_generations
from reelmill.pipelines.web.app import web_app
from reelmill.pipelines.web.errors import HttpError
from reelmill.pipelines.web.guard import Access

MAX_BODY = 32 << 20
"""Bytes of a request body, which holds the pictures of a conversation."""
_SCRIPTS = ("answers", "api", "chat", "dom", "draw", "gallery", "main", "modes", "running", "story", "uploads", "world")
PAGE = {
    "/": ("serve.html", "text/html"),
    "/serve.css": ("serve.css", "text/css"),
    **{f"/page/{name}.js": (f"page/{name}.js", "text/javascript") for name in _SCRIPTS},
}
"""The files of the page, and their types, by their address."""


def serve_app(served: ServedModel, access: Access) -> ASGIApp:
    """The page, the gallery and the OpenAI-compatible endpoints, for clients with access."""
    routes = [
        Route("/v1/images/generations", generations, methods=["POST"]),
        Route("/v1/videos/generations", video_generations, methods=["POST"]),
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", _models),
        Route("/v1/models/{model:path}", _model),
        Route("/health", _health),
        Route("/settings", _settings),
        Route("/gallery", _gallery),
        Route("/gallery/{name}", _picture),
        *(Route(path, _page) for path in PAGE),
    ]
    return web_app(routes, access, max_body=MAX_BODY, state={"served": served})


def _description(served: ServedModel) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "reelmill"}


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_description(request.app.state.served)]})


async def _model(request: Request) -> Response:
    served: ServedModel = request.app.state.served
    served.check_model(request.path_params["model"])
    return JSONResponse(_description(served))


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok", **request.app.state.served.engine.status()})


async def _settings(request: Request) -> Response:
    """What the page has to know."""
    served: ServedModel = request.app.state.served
    facts = {"model": served.name, "checkpoint": served.folder, "version": reelmill.__version__}
    sampling, vision, text = served.preset.sampling, served.preset.sampling.vision, served.preset.sampling.text
    defaults: dict[str, Any] = {"temperature": vision.temperature, "top_k": vision.top_k, "top_p": vision.top_p}
    defaults |= {"guidance": sampling.guidance, "negative_prompt": sampling.negative}
    defaults |= {"image_guidance": sampling.image_guidance}
    defaults |= {f"text_{name}": getattr(text, name) for name in ("temperature", "top_k", "top_p")}
    limits = {"images": MAX_IMAGES, "references": MAX_REFERENCES, "upload_bytes": MAX_BYTES}
    limits |= {"tokens": served.engine.capacity, "world_steps": served.world_steps}
    return JSONResponse(
        {
            **facts,
            "area": served.area,
            "limits": limits,
            "defaults": defaults,
            "training": served.training and training_facts(served.training),
            "modes": modes(served.studio.vocab.layout, served.training),
        }
    )


async def _gallery(request: Request) -> Response:
    return JSONResponse({"data": request.app.state.served.gallery.entries()})


async def _picture(request: Request) -> Response:
    name = request.path_params["name"]
    path = request.app.state.served.gallery.path(name)
    if path is None or not path.is_file():
        raise HttpError(404, f"there is no picture {name[:100]!r} in the gallery; newer ones may have replaced it")
    return FileResponse(path, headers={"Cache-Control": "private, max-age=86400"})


async def _page(request: Request) -> Response:
    name, kind = PAGE[request.url.path]
    return Response((files(__package__) / name).read_bytes(), media_type=kind)
