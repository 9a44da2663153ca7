"""What the local web pages share: access, bounds on requests, errors, and the server."""

from reelmill.pipelines.web.app import web_app
from reelmill.pipelines.web.errors import HttpError
from reelmill.pipelines.web.guard import Access
from reelmill.pipelines.web.http_server import address_of, listen, serve, server
from reelmill.pipelines.web.json_body import read_json

__all__ = ["Access", "HttpError", "address_of", "listen", "read_json", "serve", "server", "web_app"]
