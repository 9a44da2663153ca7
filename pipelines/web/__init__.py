"""What the local web pages share: who may ask, bounds on what is asked, errors, and the server."""

from reelmill.pipelines.web.app import web_app
from reelmill.pipelines.web.errors import Refusal, read_json
from reelmill.pipelines.web.guard import Access
from reelmill.pipelines.web.http_server import address_of, listen, serve, server

__all__ = ["Access", "Refusal", "address_of", "listen", "read_json", "serve", "server", "web_app"]
