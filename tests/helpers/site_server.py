"""A web site on a port of this machine, which answers as told: honestly, slowly, wrongly or never to the end."""

import asyncio
import contextlib
import threading
from collections import Counter


def answer(body=b"", status=200, **headers):
    """A whole answer; `X_Robots_Tag="noai"` is a header. `Content_Length` may lie."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in named.items())]
    if not {"Content-Length", "Transfer-Encoding"} & named.keys():
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Site:
    """`pages`: path to an answer's bytes, a list of them for one request after another, or `async (writer) -> None`.

    `seen` counts requests by path, `requests` holds (path, headers) in order.
    """

    def __init__(self, pages, tls=None):
        self.pages, self._tls = pages, tls
        self.seen, self.requests = Counter(), []
        self.now = self.most = 0

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                path = first.split(" ")[1]
                self.requests.append((path, dict(line.lower().split(": ", 1) for line in lines if line)))
                self.seen[path] += 1
                self.now += 1
                self.most = max(self.most, self.now)
                try:
                    keep = await self._answer(path, writer)
                finally:
                    self.now -= 1
                if not keep:
                    break
        writer.close()

    async def _answer(self, path, writer):
        page = self.pages.get(path, answer(b"nothing here", 404))
        if isinstance(page, list):
            page = page[min(self.seen[path], len(page)) - 1]
        if callable(page):
            await page(writer)
            return False
        writer.write(page)
        await writer.drain()
        return b"\r\nContent-Length: " in page and b"\r\nConnection: close" not in page


@contextlib.contextmanager
def listening(start):
    """Run the server that `await start()` gives in a thread; yields its port."""
    started, loops, ports = threading.Event(), [], []

    async def run():
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        server = await start()
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield ports[0]
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


@contextlib.contextmanager
def site(pages, tls=None):
    """A Site that runs in a thread; its `port` and `url`."""
    served = Site(pages, tls)
    with listening(lambda: asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)) as served.port:
        served.url = f"{'https' if tls else 'http'}://127.0.0.1:{served.port}"
        yield served
