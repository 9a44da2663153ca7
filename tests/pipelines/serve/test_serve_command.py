"""`reelmill serve` as a person starts it: addresses, tokens, Ctrl-C, wrong options, slow clients."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest
from tiny_server import random_studio, served
from toy_run import toy_run
from typer.testing import CliRunner
from web_server import until

from reelmill.errors import ConfigError, DataError, MachineError
from reelmill.pipelines.cli import app
from reelmill.pipelines.web import guard


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return toy_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def started(checkpoint, tmp_path):
    """Starts the command with such options; gives the process, its address, and what it said before."""
    running = []

    def starting(*options):
        command = [sys.executable, "-m", "reelmill", "serve", checkpoint, "--port", 0, "--out", tmp_path, *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(list(map(str, command)), **pipes))
        said = [running[-1].stdout.readline() for _ in range(3)]
        return running[-1], urllib.parse.urlsplit(said[1].strip()), said

    yield starting
    for process in running:
        process.kill()
        process.communicate()


def status(host, port, path="/health", **headers):
    connection = http.client.HTTPConnection(host, port, timeout=120)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


@pytest.mark.slow
def test_beyond_this_machine_a_token_is_asked_for_and_printed(started):
    _, address, said = started("--host", "0.0.0.0")
    assert "16 x 1,600 tokens" in said[0]
    own = socket.gethostbyname(socket.gethostname())
    assert status(own, address.port) == status("127.0.0.1", address.port) == 401
    token = urllib.parse.parse_qs(address.query)["token"][0]
    assert len(token) >= 32 and status(own, address.port, Authorization=f"Bearer {token}") == 200
    assert status(own, address.port, f"/?token={token}") == 303


@pytest.mark.slow
def test_ctrl_c_ends_it_while_it_draws(started, checkpoint):
    process, address, _ = started("--area", 256 * 256)
    assert address.hostname == "127.0.0.1" and not address.query
    body = json.dumps({"prompt": "a", "stream": True, "n": 4}).encode()
    headers = {"Content-Type": "application/json"}
    url = f"http://{address.netloc}/v1/images/generations"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=120) as stream:
        assert stream.readline().startswith(b":")
        process.send_signal(signal.SIGINT)
        rest = stream.read().decode()
    assert "the server is stopping" in rest and "image_generation.completed" not in rest
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "ended\n", "")


@pytest.mark.slow
def test_a_client_that_takes_nothing_is_given_up_and_others_are_served(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "SILENCE_S", 1.0)
    with served(random_studio(), tmp_path, area=160 * 160, rows=8) as (url, model):
        port = urllib.parse.urlsplit(url).port
        body = json.dumps({"prompt": "a", "stream": True, "n": 10, "partial_images": 64}).encode()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", port))
            head = f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            slow.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            until(lambda: model.engine.status()["running"])
            small = json.dumps({"prompt": "b", "size": "16x16"}).encode()
            asked = urllib.request.Request(f"{url}/v1/images/generations", small, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=120) as answer:
                assert json.load(answer)["data"]
            until(lambda: not model.engine.status()["running"])
            of_the_slow = [entry for entry in model.gallery.entries() if entry["prompt"] == "a"]
            assert len(of_the_slow) < 10, "what it did not take was not drawn to the end"


def test_wrong_options_are_refused(checkpoint, tmp_path):
    def serve(*options):
        CliRunner().invoke(app, ["serve", *map(str, options)], catch_exceptions=False)

    with pytest.raises(DataError, match="is no model"):
        serve(tmp_path)
    with pytest.raises(ConfigError, match="--queue is 0"):
        serve(checkpoint, "--queue", 0)
    with pytest.raises(ConfigError, match="less than one code"):
        serve(checkpoint, "--area", 10)
    with pytest.raises(MachineError, match="no memory for a cache of 16 x 9,000,000,000,000 tokens"):
        serve(checkpoint, "--port", 0, "--context-tokens", 9 * 10**12)
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.host"):
        serve(checkpoint, "--host", "no.such.host.invalid")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
            serve(checkpoint, "--port", taken.getsockname()[1])
