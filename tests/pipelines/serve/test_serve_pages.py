"""Serving from a cache in pages: more rows than would fit in full wait for room and draw what they always draw."""

import base64
import io
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flash_on_cpu import flash_on_cpu
from PIL import Image
from tiny_server import random_studio, served

from reelmill.errors import ConfigError
from reelmill.eval.generation.cache_view import PAGE

SIDES = (64, 32, 64, 48)


def drawn(url, side, n=1):
    body = {"prompt": "a", "size": f"{side}x{side}", "seed": side, "guidance": 2.0, "n": n}
    request = urllib.request.Request(f"{url}/v1/images/generations", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = [io.BytesIO(base64.b64decode(made["b64_json"])) for made in json.load(answer)["data"]]
    return [np.asarray(Image.open(file)).tolist() for file in files]


def all_drawn(url):
    with ThreadPoolExecutor() as clients:
        return list(clients.map(lambda side: drawn(url, side), SIDES))


def test_requests_wait_for_pages_and_draw_what_they_always_draw(tmp_path):
    with served(random_studio(), tmp_path / "rows", rows=8) as (url, _):
        expected = all_drawn(url)
    studio = random_studio()
    studio.model.backend = "varlen"
    with flash_on_cpu(), served(studio, tmp_path / "pages", rows=8, cache_tokens=3 * PAGE) as (url, model):
        assert all_drawn(url) == expected  # of each two rows of a page: one request at a time
        assert model.engine.cache_bytes < 8 * model.engine.capacity * 2 * 8 * 4
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(
                urllib.request.Request(
                    f"{url}/v1/chat/completions",
                    json.dumps({"messages": [{"role": "user", "content": "b"}], "max_tokens": 800}).encode(),
                    {"Content-Type": "application/json"},
                ),
                timeout=60,
            )
        assert refused.value.code == 400 and "this server holds 768" in refused.value.read().decode()


def test_rows_have_no_pages_to_share(tmp_path):
    with (
        pytest.raises(ConfigError, match="--cache-tokens is 1,000, and here a sequence owns a row of the cache"),
        served(random_studio(), tmp_path, cache_tokens=1000),
    ):
        raise AssertionError("no pages on a CPU")
