"""`reelmill serve --tensor 2`: two ranks draw what one serves, and a rank that is gone ends it with a message."""

import base64
import contextlib
import io
import json
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from command_line import CommandLine
from PIL import Image
from shareable import environments, shareable_folder
from tiny_server import served

from reelmill.eval.generation import Studio

TOKENIZER = "reelmill-tok-xs"
SETTINGS = {"area": 64 * 64, "rows": 4}
PICTURE = {"prompt": "a", "size": "64x64", "guidance": 2.0, "seed": 3, "n": 2}
TEXT = {"messages": [{"role": "user", "content": "b"}], "max_tokens": 20, "seed": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shareable_folder(tmp_path_factory.mktemp("model"))


@contextlib.contextmanager
def two_ranks(folder, out):
    """Both processes of the command, and the address of the page."""
    command = [sys.executable, "-m", "reelmill", "serve", folder, "--tokenizer", TOKENIZER, "--port", 0]
    command += ["--tensor", 2, "--out", out, "--area", SETTINGS["area"], "--rows", SETTINGS["rows"]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [subprocess.Popen(list(map(str, command)), env=env, **pipes) for env in environments(2)]
    try:
        said = [ranks[0].stdout.readline() for _ in range(3)]
        assert "on each of 2 ranks" in said[0], ranks[0].stderr.read()
        yield ranks, said[1].strip()
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate(timeout=60)


def opened(url, path, body):
    request = urllib.request.Request(f"{url.rstrip('/')}{path}", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    return urllib.request.urlopen(request, timeout=60)


def answers(url):
    """What pictures and a text, requested at the same time, come to."""
    asked = [("/v1/images/generations", PICTURE), ("/v1/images/generations", {**PICTURE, "seed": 9, "n": 1})]
    with ThreadPoolExecutor() as clients:
        answered = list(clients.map(lambda ask: json.load(opened(url, *ask)), [*asked, ("/v1/chat/completions", TEXT)]))
    files = [io.BytesIO(base64.b64decode(made["b64_json"])) for answer in answered[:2] for made in answer["data"]]
    return [np.asarray(Image.open(file)).tolist() for file in files], answered[2]["choices"][0]["message"]["content"]


def drawing(url):
    """A stream of pictures that takes a while, after its first event."""
    stream = opened(url, "/v1/images/generations", {**PICTURE, "stream": True, "n": 10})
    assert stream.readline().startswith(b":")
    return stream


def test_two_ranks_answer_what_one_answers_until_one_is_gone(folder, tmp_path):
    with served(Studio.open(folder, TOKENIZER), tmp_path / "one", **SETTINGS) as (url, _):
        expected = answers(url)
    with two_ranks(folder, tmp_path / "two") as (ranks, url):
        assert answers(url) == expected
        drawing(url).close()  # its rows are freed on both
        assert answers(url) == expected
        with drawing(url) as stream:
            ranks[1].kill()
            rest = stream.read().decode()
        assert "another of the ranks that share the model has ended or hangs" in rest
        assert "image_generation.completed" not in rest
        _, err = ranks[0].communicate(timeout=60)
        assert ranks[0].returncode == 5
        assert "another of the ranks that share the model has ended or hangs" in err and "Traceback" not in err


@pytest.mark.slow
def test_an_idle_page_notices_that_a_rank_is_gone(folder, tmp_path):
    with two_ranks(folder, tmp_path) as (ranks, _):
        ranks[1].kill()
        _, err = ranks[0].communicate(timeout=60)
        assert ranks[0].returncode == 5 and "start all of them again" in err and "Traceback" not in err


@pytest.mark.slow
def test_without_the_page_the_others_end(folder, tmp_path):
    with two_ranks(folder, tmp_path) as (ranks, _):
        ranks[0].kill()
        _, err = ranks[1].communicate(timeout=60)
        assert ranks[1].returncode == 5 and "start all of them again" in err and "Traceback" not in err


@pytest.mark.slow
def test_ctrl_c_ends_all(folder, tmp_path):
    with two_ranks(folder, tmp_path) as (ranks, url), drawing(url) as stream:
        for rank in ranks:
            rank.send_signal(signal.SIGINT)
        assert "the server is stopping" in stream.read().decode()
        for rank, said in zip(ranks, ("ended\n", ""), strict=True):
            out, err = rank.communicate(timeout=60)
            assert (rank.returncode, out, err) == (0, said, "")


def test_as_many_processes_as_share_the_model(folder, monkeypatch, capsys):
    for tensor, ranks in ((2, 1), (1, 2)):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        ended = CommandLine(monkeypatch, capsys)("serve", folder, "--tokenizer", TOKENIZER, "--tensor", tensor)
        assert ended.code == 2 and f"--tensor is {tensor}, and there are {ranks} processes" in ended.err
