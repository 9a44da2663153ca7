"""Who may ask a local server, and how much."""

import asyncio
import contextlib
import http.client
import json
import logging
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from web_server import running, until

from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.web import Access, address_of, connection, guard, listen, read_json, web_app

SECRET = "a-token-of-thirty-two-characters"


async def hello(request):
    return JSONResponse({"hello": request.url.path})


async def echo(request):
    return JSONResponse(await read_json(request))


async def wrong(request):
    raise DataError("the picture is upside down")


async def broken(request):
    raise ValueError("secret words")


async def slow(request):
    async def parts():
        yield "begun"
        await asyncio.to_thread(request.app.state.ended.wait, 300)
        yield " ended"

    return StreamingResponse(parts())


ROUTES = [Route("/", hello), Route("/a/{b}", hello), Route("/wrong", wrong), Route("/broken", broken)]
ROUTES += [Route("/echo", echo, methods=["POST"]), Route("/slow", slow)]


@contextlib.contextmanager
def site(token=None, ended=None):
    listener, _ = listen("127.0.0.1", 0)
    with running(web_app(ROUTES, Access(token), max_body=1000, state={"ended": ended}), listener):
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def port():
    with site() as port:
        yield port


@pytest.fixture
def logged(caplog):
    """What the server says on its terminal."""
    logger = logging.getLogger("uvicorn")
    logger.addHandler(caplog.handler)
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


def ask(port, method="GET", path="/", body=None, **headers):
    """(status, JSON or text, headers) of a request with exactly these headers, and the right Host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if text else text, answer.headers


def test_this_machine_is_served_and_strange_hosts_and_pages_are_not(port):
    assert ask(port)[:2] == (200, {"hello": "/"})
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert ask(port, Host=host)[0] == 200, host
    for host in ("evil.test", f"evil.test:{port}", "localhost.evil.test", "127.0.0.1.evil.test", "[::1", ""):
        status, answer, _ = ask(port, Host=host)
        assert status == 403 and "localhost only" in answer["error"]["message"], host
    own = f"http://127.0.0.1:{port}"
    assert ask(port, Origin=own)[0] == 200
    for origin in ("http://evil.test", "null", f"http://127.0.0.1:{port + 1}", "http://[", f"{own}.evil.test"):
        assert ask(port, Origin=origin)[0] == 403, origin
        assert ask(port, "POST", "/echo", "{}", Content_Type="application/json", Origin=origin)[0] == 403, origin


def test_another_sites_page_may_link_here_but_not_load_or_post(port):
    assert ask(port, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    assert ask(port, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert ask(port, Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors")[0] == 403
    assert ask(port, "POST", "/echo", "{}", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 403


def test_answers_may_not_be_framed_sniffed_or_kept(port):
    for path in ("/", "/none", "/wrong"):
        headers = ask(port, path=path)[2]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


def test_with_a_token_every_request_needs_it_but_the_host_may_be_any():
    with site(SECRET) as port:
        for headers in ({}, {"Authorization": f"Bearer {SECRET}x"}, {"Authorization": SECRET}, {"Cookie": "a=b; ="}):
            status, answer, _ = ask(port, **headers)
            assert status == 401 and answer["error"]["code"] == "invalid_api_key"
        assert ask(port, path="/?token=wrong")[0] == 401
        assert ask(port, Authorization=f"Bearer {SECRET}", Host="my.server.test")[0] == 200
        assert ask(port, Authorization=f"Bearer {SECRET}", Origin="http://evil.test")[0] == 403
        status, _, headers = ask(port, path=f"//evil.test/x?token={SECRET}")
        assert (status, headers["Location"]) == (303, "/evil.test/x")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie
        assert ask(port, Cookie=cookie.partition(";")[0])[0] == 200
        assert ask(port, Cookie=cookie.partition("=")[0] + "=wrong")[0] == 401


def test_beyond_loopback_there_is_always_a_token(monkeypatch):
    assert Access.of("127.0.0.1", None) == Access.of("::1", None) == Access.of("localhost", None) == Access(None)
    made = [Access.of(host, None).token for host in ("0.0.0.0", "::", "192.168.1.2", "box", "127.0.0.1.evil.test")]
    assert len(set(made)) == 5 and all(len(token) >= 32 for token in made)
    assert Access.of("127.0.0.1", SECRET) == Access(SECRET)
    for token in ("short", "", "a token with blanks in it", "ü" * 20):
        with pytest.raises(ConfigError, match="at least 16"):
            Access.of("0.0.0.0", token)
    monkeypatch.setenv("REELMILL_TOKEN", SECRET)
    listener, access = listen("127.0.0.1", 0)
    with listener:
        assert address_of(listener, access).endswith(f":{listener.getsockname()[1]}/?token={SECRET}")
        with pytest.raises(ConfigError, match=r"cannot listen on .* Address already in use"):
            listen("127.0.0.1", listener.getsockname()[1])


def test_bodies_are_json_objects_of_bounded_size(port):
    as_json = {"Content_Type": "application/json"}
    assert ask(port, "POST", "/echo", '{"a": "ü"}'.encode(), **as_json)[:2] == (200, {"a": "ü"})
    for body in (
        "[1]",
        "{",
        "",
        "\xff",
        "[" * 900,
        '{"a": NaN}',
        '{"a": 1e999}',
        f'{{"a": {"9" * 30}}}',
        '{"a": "\\ud8"}',
    ):
        status, answer, _ = ask(port, "POST", "/echo", body.encode("latin-1"), **as_json)
        assert status == 400 and answer["error"]["type"] == "invalid_request_error", body
    assert ask(port, "POST", "/echo", "{}")[0] == 415
    assert ask(port, "POST", "/echo", "{}", Content_Type="text/plain")[0] == 415
    assert ask(port, "POST", "/echo", b" " * 1001, **as_json)[0] == 413
    chunked = ask(port, "POST", "/echo", iter([b" " * 600] * 2), **as_json)
    assert chunked[0] == 413 and "1,000 bytes" in chunked[1]["error"]["message"]


def test_errors_have_one_shape_and_what_failed_inside_stays_inside(port, logged):
    assert ask(port, path="/none")[0] == 404
    assert ask(port, "PUT")[0] == 405
    status, answer, _ = ask(port, path="/wrong")
    assert (status, answer["error"]["message"]) == (400, "the picture is upside down")
    status, answer, _ = ask(port, path="/broken")
    assert status == 500 and answer["error"]["type"] == "server_error" and "secret" not in json.dumps(answer)
    until(lambda: "secret words" in logged())  # its terminal has the traceback


def test_a_client_that_stops_sending_or_leaves_is_given_up(port, monkeypatch, logged):
    monkeypatch.setattr(guard, "SILENCE_S", 0.3)
    begun = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(begun)
        assert client.recv(100).startswith(b"HTTP/1.1 408")
    monkeypatch.setattr(guard, "BODY_S", 0.5)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(begun)
        while not select.select([client], [], [], 0.1)[0]:
            client.sendall(b" ")
        assert client.recv(100).startswith(b"HTTP/1.1 408"), "a drop at a time is given up too"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(begun)
    time.sleep(0.2)
    assert ask(port)[0] == 200
    assert logged() == ""


def silent(port, count):
    """Connections that are open and send nothing."""
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


def closed(client, seconds=60):
    """Whether the server closes a connection within so many seconds."""
    return bool(select.select([client], [], [], seconds)[0]) and client.recv(1) == b""


def test_silent_connections_keep_nobody_out(port, monkeypatch):
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 8)
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    idle.request("GET", "/")
    assert idle.getresponse().read()
    clients = silent(port, 12)
    assert ask(port)[:2] == (200, {"hello": "/"})
    assert closed(idle.sock) and all(closed(client) for client in clients[:4]), "the longest idle ones are closed"
    assert ask(port)[0] == 200
    assert not closed(clients[-1], 0)
    for client in clients:
        client.close()


def test_a_connection_that_is_served_is_not_closed_for_others(monkeypatch):
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 4)
    ended = threading.Event()
    with site(ended=ended) as port, released(ended):
        served = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        served.request("GET", "/slow")
        answer = served.getresponse()
        assert answer.read(5) == b"begun"
        clients = silent(port, 10)
        assert ask(port)[0] == 200
        ended.set()
        assert answer.read() == b" ended"
        for client in clients:
            client.close()


def test_more_requests_than_are_served_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(guard, "MAX_REQUESTS", 2)
    ended = threading.Event()
    with site(ended=ended) as port, released(ended):
        clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=120) for _ in range(2)]
        for client in clients:
            client.request("GET", "/slow")
        answers = [client.getresponse() for client in clients]
        status, answer, headers = ask(port)
        assert (status, headers["Retry-After"]) == (503, "1") and "2 requests are being served" in answer["error"][
            "message"
        ]
        ended.set()
        assert [answer.read() for answer in answers] == [b"begun ended"] * 2
        until(lambda: ask(port)[0] == 200)


def begun(port, path):
    """(connection, response) of a request whose response has begun; again if the deadline came before the headers."""
    while True:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        with contextlib.suppress(ConnectionError):
            client.request("GET", path)
            return client, client.getresponse()


def test_headers_have_a_deadline_and_answers_have_none(monkeypatch):
    monkeypatch.setattr(connection, "HEADER_S", 0.3)
    ended = threading.Event()
    with site(ended=ended) as port, released(ended):
        for start in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
            with socket.create_connection(("127.0.0.1", port)) as client, contextlib.suppress(ConnectionError):
                client.sendall(start)
                assert closed(client)
        client, answer = begun(port, "/")
        assert answer.read() and not closed(client.sock, 1.0), "an idle connection is kept"
        client.sock.sendall(b"GET ")
        assert closed(client.sock), "the next request has a deadline too"
        client, answer = begun(port, "/slow")
        assert answer.read(5) == b"begun" and not closed(client.sock, 1.0)
        ended.set()
        assert answer.read() == b" ended"


@contextlib.contextmanager
def released(event):
    """Sets the event at the end, also of a test that fails: the server waits for its answers."""
    try:
        yield
    finally:
        event.set()


PROGRAM = """
import asyncio, sys
from starlette.responses import StreamingResponse
from starlette.routing import Route
from reelmill.pipelines.web import address_of, listen, serve, web_app
ended = []
async def endless(request):
    async def parts():
        while not ended:
            yield "."
            await asyncio.sleep(0.02)
    return StreamingResponse(parts())
listener, access = listen("127.0.0.1", 0)
print(address_of(listener, access), flush=True)
serve(web_app([Route("/", endless)], access), listener, lambda: ended.append(True))
print("ended", flush=True)
"""


def test_ctrl_c_ends_long_answers_and_the_server():
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    port = int(program.stdout.readline().decode().strip().rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.read(1) == b"."
    program.send_signal(signal.SIGINT)
    assert set(answer.read()) <= {ord(".")}, "it ends whole"
    out, err = program.communicate(timeout=120)
    assert (program.returncode, out, err) == (0, b"ended\n", b"")
