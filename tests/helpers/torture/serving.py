"""Requests that no client would send, to the real server: none is answered with 500, and it goes on serving."""

import http.client
import json
import socket
from contextlib import ExitStack, contextmanager, suppress

from tiny_server import random_studio, served

from torture.campaign import Tried
from torture.damage import mutated

AT_A_TIME = 25
PATHS = (
    "/v1/images/generations", "/v1/chat/completions", "/v1/models", "/v1/models/x", "/health", "/settings", "/gallery",
    "/gallery/../x", "/gallery/%2e%2e%2fx", "/gallery/\x00", "/", "/page/main.js", "//", "/%ff", "/v1/models/%ed%a0%80",
)  # fmt: skip
IMAGE = {"prompt": "a cat", "size": "16x16", "n": 1, "seed": 1, "guidance": 1.0, "top_k": 3, "stream": False}
CHAT = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 2,
    "temperature": 1.0,
    "stream": False,
    "n": 1,
}
ODD = [
    None, True, -1, 0, 1.5, 2**31, 2**63, 10**400, "9" * 400, "x" * 10_000, "\ud800", "\x00", "", [], {}, [[]], [None],
    {"a": 1}, ["user"], "1x1", "99999x99999", "0x0", "1:99999", ":", "-1x5", "NaN", "data:image/png;base64,AAAA",
    [{"type": "image_url", "image_url": {"url": "data:,"}}], [{"type": "text"}], [{"role": []}], 1e308, -1e308,
]  # fmt: skip
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "X" * 200)


def body_of(chance):
    """A request's body with a field or two that are not what they should be; lone surrogates in UTF-8 as well."""
    body = json.loads(json.dumps(chance.choice([IMAGE, CHAT])))
    parts = [body, *body.get("messages", [])]
    for inner in (chance.choice(parts) for _ in range(chance.choice([1, 1, 2]))):
        inner[chance.choice([*inner, "response_format", "model", "stop", "tools", "size"])] = chance.choice(ODD)
    data = json.dumps(body, ensure_ascii=chance.random() < 0.7).encode("utf-8", "surrogatepass")
    return mutated(data, chance) if chance.random() < 0.3 else data


def answer(port, method, path, body, headers):
    """The status of a request's answer; None where the server hung up, as it may."""
    with suppress(ConnectionError, http.client.HTTPException, ValueError, TimeoutError), ExitStack() as held:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        held.callback(client.close)
        client.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            client.putheader(name, value)
        client.endheaders(body)
        response = client.getresponse()
        response.read()
        return response.status
    return None


def raw(port, data):
    """Send bytes that are no request, and read what comes."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return client.recv(4096)
    return b""


@contextmanager
def campaign(place):
    with served(random_studio(), place / "out") as (url, _):
        port = int(url.rpartition(":")[2])

        def attempt(chance):
            tried = Tried()
            for _ in range(AT_A_TIME):
                path = chance.choice([*PATHS[:2], *PATHS[:2], *PATHS])
                if chance.random() < 0.2:
                    sent = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" % path.encode()
                    told = raw(port, mutated(sent, chance))
                    tried.note(f"{sent!r}: {told[:200]!r}" if told.startswith(b"HTTP/1.1 5") else "")
                    continue
                method = chance.choice(["POST"] * 6 + [*METHODS]) if path in PATHS[:2] else chance.choice(METHODS)
                body = body_of(chance) if method in ("POST", "PUT") else b""
                headers = {"Content-Type": chance.choice(["application/json"] * 3 + ["text/plain", "\xff", ""])}
                headers["Content-Length"] = str(len(body))
                if chance.random() < 0.1:
                    headers["Origin"] = "https://elsewhere.test"
                status = answer(port, method, path, body, headers)
                tried.note(f"{method} {path} {body[:300]!r}: {status}" if status and status >= 500 else "")
            if answer(port, "GET", "/health", b"", {}) != 200:
                tried.failures.append("it no longer answers")
            return tried

        yield attempt
