"""The sample dump's table of URLs: what each leads to, and the server that answers."""

import os
import signal
import subprocess
import sys
import threading
import urllib.request

import pyarrow.parquet as pq
import pytest
from dumps import curate_here, light_recipe

from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.sampledump.website import site, write_url_table

OUTCOMES = {
    **dict.fromkeys(["wheel.jpg", "boat.jpg", "train.jpg", "balloon.jpg", "moved.jpg", "windmill.mp4"], "fetched"),
    "gone.jpg": "status_404",
    "private/wheel.jpg": "robots",
    "noai.jpg": "opted_out",
    "page.jpg": "not_media",
}


@pytest.fixture
def served():
    server = site(0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def test_each_url_has_the_outcome_that_the_docs_promise(tmp_path, served):
    table = tmp_path / "urls"
    assert write_url_table(table, served) == len(OUTCOMES)
    recipe = light_recipe(tmp_path / "light.toml")
    curate_here(table, tmp_path / "out", recipe, "fetch.allow_private=true", "fetch.host_rate=0")
    with LedgerQueries((tmp_path / "out").resolve()) as ledger:
        found = ledger.rows("SELECT url, coalesce(split_part(reason, ':', 1), outcome) AS word FROM fetches")
        clips = ledger.rows("SELECT start_s, end_s, caption FROM samples WHERE kind = 'video' ORDER BY start_s")
    assert {row["url"].split("/", 3)[3]: row["word"] for row in found} == OUTCOMES
    assert [(clip["start_s"], clip["end_s"]) for clip in clips] == [(0.0, 2.5), (3.0, 5.5)]
    assert {clip["caption"] for clip in clips} == {"A windmill turns on a hill."}


def test_it_is_written_again_alike_and_over_nothing_else(tmp_path):
    write_url_table(tmp_path / "urls", 8765)
    first = (tmp_path / "urls" / "urls.parquet").read_bytes()
    write_url_table(tmp_path / "urls", 8765)
    assert (tmp_path / "urls" / "urls.parquet").read_bytes() == first
    (tmp_path / "urls" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        write_url_table(tmp_path / "urls", 8765)


def test_a_port_in_use_is_named(served):
    with pytest.raises(ConfigError, match=f"port {served}: .* another --port"):
        site(served)


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    command = [sys.executable, "-m", "reelmill", "sample-dump", str(tmp_path / "urls"), "--urls", "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    ends = threading.Timer(60, running.kill)
    ends.start()
    try:
        lines = [running.stdout.readline() for _ in range(2)]
        assert lines[1].split()[:2] == ["reelmill", "curate"], lines
        url = pq.read_table(tmp_path / "urls" / "urls.parquet")["url"][0].as_py()
        assert urllib.request.urlopen(url, timeout=30).read(2) == b"\xff\xd8"
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    finally:
        ends.cancel()
        running.kill()
        running.wait(30)
