"""A model whose layers two ranks share draws what one rank draws with all of it, and reads its part alone."""

import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from random_decoder import drawn
from shareable import environments, shareable_folder
from toy_run import VOCAB

from reelmill.errors import ConfigError
from reelmill.eval.generation import Engine, SamplingParams, TokenSampling, loading, visual_request
from reelmill.pipelines.generate.groups import groups_of
from reelmill.tokenize.documents import Grammar, Header
from reelmill.train.shared_layers import empty_shared_decoder

GRAMMAR = Grammar(VOCAB, one_block=True)


def requests():
    sampling = SamplingParams(vision=TokenSampling(top_k=50), guidance=3.0, negative="x", seed=3)
    return [
        visual_request(GRAMMAR, "abc"[:number], Header(h, w), sampling=sampling, stream=number)
        for number, (h, w) in enumerate([(3, 4), (1, 1), (2, 6)])
    ]


def a_rank(rank, environment, folder, told):
    """One of two ranks: puts its tokens, the bytes of its layers, and a line of its first layer's sizes."""
    os.environ |= environment
    with groups_of(2) as (mesh, group, groups):
        assert (group, groups) == (0, 1)
        model, _ = loading.load_decoder(folder, dtype=torch.float64, mesh=mesh)
        engine = Engine(model, VOCAB, rows=4, capacity=max(request.max_length for request in requests()))
        tokens, _ = drawn(engine, requests())
        held = sum(parameter.numel() for parameter in model.layers.parameters())
        with pytest.raises(ConfigError, match=r"the model's kv_heads, 3, cannot be shared by 2 ranks"):
            empty_shared_decoder(replace(model.config, heads=6, kv_heads=3), "cpu", torch.float32, mesh)
        told.put((rank, tokens, held, list(engine.cache.keys[0].shape)))


def two_ranks(folder):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reelmill.eval.generation.loading", "reelmill.pipelines.generate.groups"])
    told = context.Queue()
    ranks = [context.Process(target=a_rank, args=(*rank, folder, told)) for rank in enumerate(environments(2))]
    try:
        for rank in ranks:
            rank.start()
        return sorted(told.get(timeout=60) for _ in ranks)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shareable_folder(tmp_path_factory.mktemp("model"))


def test_two_ranks_draw_the_tokens_of_one_and_hold_half_of_the_layers(folder):
    model, _ = loading.load_decoder(folder, dtype=torch.float64)
    engine = Engine(model, VOCAB, rows=4, capacity=max(request.max_length for request in requests()))
    expected, _ = drawn(engine, requests())
    whole = sum(parameter.numel() for parameter in model.layers.parameters())
    norms = sum(parameter.numel() for name, parameter in model.layers.named_parameters() if "norm" in name)
    for rank, (number, tokens, held, cache) in enumerate(two_ranks(folder)):
        assert (number, tokens) == (rank, expected)
        assert held == (whole - norms) // 2 + norms
        assert cache == [4, 1, engine.cache.capacity, 8]


@pytest.mark.slow
def test_the_command_under_torchrun_writes_each_picture_once(folder, tmp_path):
    shared = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    options = ["reelmill", "generate", str(folder), "--prompt", "a", "--prompt", "b", "--area", "1024", "--json"]
    options += ["--tokenizer", "reelmill-tok-xs"]
    told = []
    for name, command in (("one", [sys.executable, "-m"]), ("two", shared)):
        out = tmp_path / name / "picture.png"
        wanted = [*command, *options, "--out", str(out), *(["--tensor", "2"] if name == "two" else [])]
        done = subprocess.run(wanted, capture_output=True, text=True, timeout=200, check=True)
        told.append([json.loads(line)["tokens"] for line in done.stdout.splitlines() if line.startswith("{")])
    assert told[0] == told[1] and len(told[0]) == 2
    pictures = [sorted((tmp_path / name).glob("*.png")) for name in ("one", "two")]
    assert len(pictures[0]) == len(pictures[1]) == 2
    for one, other in zip(*pictures, strict=True):
        assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def test_what_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"--tensor is 2, and there are 3 processes; start a multiple"), groups_of(2):
        raise AssertionError("no group of two in three")
