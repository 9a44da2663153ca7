"""A table of URLs and the web site that they lead to, on this machine: what a list of URLs goes through.

Some addresses bring a picture or a video; of the others each is left out for a reason of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import ConfigError, DataError
from reelmill.files import write_atomically
from reelmill.pipelines.sampledump import crawls, videos

HOST = "127.0.0.1"
TABLE = "urls.parquet"
LICENCE = "CC0-1.0"
SPANS = ([0.0, 3.0], [2.5, 5.5])
"""Begins and ends of the video's two clips, in seconds."""
_VIDEO = "videos/mills/windmill.mp4"
_ROBOTS = b"User-agent: *\nDisallow: /private/\n"


@dataclass(frozen=True)
class Page:
    """What the site answers under a path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@cache
def pages() -> dict[str, Page]:
    """The site, by path."""
    pictures = {name: Page(draw(), headers={"Content-Type": "image/jpeg"}) for name, draw in crawls.PICTURES.items()}
    mill = next(video for video in videos.VIDEOS if video.uri == _VIDEO)
    return {
        "/robots.txt": Page(_ROBOTS, headers={"Content-Type": "text/plain"}),
        **{f"/{name}.jpg": page for name, page in pictures.items()},
        "/windmill.mp4": Page(mill.data(), headers={"Content-Type": "video/mp4"}),
        "/moved.jpg": Page(status=301, headers={"Location": "/boat.jpg"}),
        "/private/wheel.jpg": pictures["wheel"],
        "/noai.jpg": Page(pictures["train"].body, headers={"X-Robots-Tag": "noai"}),
        "/page.jpg": Page(b"<!DOCTYPE html><p>It was moved.", headers={"Content-Type": "image/jpeg"}),
    }


def write_url_table(folder: Path, port: int) -> int:
    """Write the table of the site on that port to `folder`; the number of its rows. The same bytes on every run.

    Raises DataError when `folder` holds anything else.
    """
    if folder.exists() and (not folder.is_dir() or any(path.name != TABLE for path in folder.iterdir())):
        raise DataError(f"{folder} exists and holds something else; give a new folder for the table of URLs")
    table = pa.Table.from_pylist(_rows(f"http://{HOST}:{port}"), schema=_SCHEMA)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TABLE, lambda path: pq.write_table(table, path))
    return len(table)


_SCHEMA = pa.schema(
    {"url": pa.string(), "caption": pa.string(), "license": pa.string(), "width": pa.int32(), "height": pa.int32()}
    | {"similarity": pa.float64(), "start": pa.list_(pa.float64()), "end": pa.list_(pa.float64())}
)


def _rows(site: str) -> list[dict[str, Any]]:
    width, height = crawls.SIDE
    picture = {"license": LICENCE, "width": width, "height": height, "similarity": 0.31}
    names = [f"{name}.jpg" for name in crawls.PICTURES]
    names += ["moved.jpg", "gone.jpg", "private/wheel.jpg", "noai.jpg", "page.jpg"]
    rows: list[dict[str, Any]] = [
        {"url": f"{site}/{name}", "caption": crawls.CAPTIONS.get(name.partition(".")[0]), **picture} for name in names
    ]
    starts, ends = SPANS
    clips = {"caption": "A windmill turns on a hill.", "start": starts, "end": ends}
    return [*rows, {"url": f"{site}/windmill.mp4", "license": LICENCE, **clips}]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """The page of the path, or 404."""
        page = pages().get(self.path, Page(status=404))
        self.send_response(page.status)
        for name, value in {**page.headers, "Content-Length": str(len(page.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what became of each request stands in the run folder."""


class _Site(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def site(port: int) -> ThreadingHTTPServer:
    """The site's server, on this machine alone; port 0 takes a free one. ConfigError where the port is in use."""
    pages()  # drawn before the first request
    try:
        return _Site((HOST, port), _Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {HOST} port {port}: {error.strerror}. Stop the other program, or give another --port."
        ) from None
