"""An address at which nobody listens is said before the work begins."""

import io
import socket

import pytest
from rich.console import Console

from reelmill.pipelines.curate.endpoints import warn_if_silent


@pytest.fixture
def said():
    return Console(file=io.StringIO(), width=200)


def test_an_address_where_nobody_listens_is_said_at_once(said):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        warn_if_silent(url, said)
    assert said.file.getvalue().startswith(f"endpoint nothing answers at {url} (Connection refused); it is tried again")


def test_one_that_listens_is_not_spoken_of(said):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        warn_if_silent(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", said)
    assert said.file.getvalue() == ""
