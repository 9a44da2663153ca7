"""A web site that speaks HTTP/2 over TLS and nothing else, on a port of this machine."""

import asyncio
import contextlib
import ssl
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from site_server import listening

CERTIFICATE = Path(__file__).parent.parent / "data" / "localhost.pem"
"""A certificate of this machine's own names with its key, signed by itself."""


class _Speaking(asyncio.Protocol):
    def __init__(self, site):
        self.site = site

    def connection_made(self, transport):
        self.transport, self.site.connections = transport, self.site.connections + 1
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                path = dict(event.headers)[":path"]
                self.site.paths.append(path)
                body = self.site.pages.get(path, b"")
                self.h2.send_headers(event.stream_id, [(":status", "200" if body else "404"), ("etag", '"2"')])
                for start in range(0, len(body), 16_000):  # below a frame's and the window's bounds
                    self.h2.send_data(event.stream_id, body[start : start + 16_000])
                self.h2.end_stream(event.stream_id)
        self.transport.write(self.h2.data_to_send())


class Site:
    """`pages`: path to bytes, at most 60,000 of them. `paths` were asked for, over `connections`."""

    def __init__(self, pages):
        self.pages, self.paths, self.connections = pages, [], 0


@contextlib.contextmanager
def http2_site(pages):
    """A Site that answers; its `url`."""
    served = Site(pages)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE)
    tls.set_alpn_protocols(["h2"])

    async def start():
        return await asyncio.get_running_loop().create_server(lambda: _Speaking(served), "127.0.0.1", 0, ssl=tls)

    with listening(start) as port:
        served.url = f"https://127.0.0.1:{port}"
        yield served
