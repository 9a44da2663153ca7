"""Weights of fewer bytes: what each is rounded to, what is drawn with that, and how much memory it takes."""

import json

import pytest
import torch
from command_line import CommandLine
from random_decoder import drawn
from shareable import shareable_folder
from toy_run import VOCAB

from reelmill.eval.generation import Engine, SamplingParams, TokenSampling, loading, visual_request
from reelmill.eval.generation.media_files import read_settings
from reelmill.eval.generation.weight_types import QUANTIZED
from reelmill.tokenize.documents import Grammar, Header

TOKENIZER = "reelmill-tok-xs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shareable_folder(tmp_path_factory.mktemp("model"))


def loaded(folder, weights):
    return loading.load_model(folder, TOKENIZER, weights=weights).model


def projections(model):
    return {name: module for name, module in model.layers.named_modules() if isinstance(module, torch.nn.Linear)}


def tokens(model):
    grammar = Grammar(VOCAB, one_block=True)
    sampling = SamplingParams(vision=TokenSampling(top_k=50), guidance=3.0, seed=3)
    requests = [
        visual_request(grammar, "abc"[:number], Header(h, w), sampling=sampling, stream=number)
        for number, (h, w) in enumerate([(3, 4), (4, 4)])
    ]
    engine = Engine(model, VOCAB, rows=4, capacity=max(request.max_length for request in requests))
    return drawn(engine, requests)[0]


@pytest.mark.parametrize("name", QUANTIZED)
def test_each_weight_is_rounded_by_its_row_and_nothing_else_changes(folder, name):
    whole, small = loaded(folder, None), loaded(folder, name)
    kept = {name for name, _ in whole.named_parameters()} - {f"layers.{name}.weight" for name in projections(whole)}
    parameters = dict(small.named_parameters())
    assert all(torch.equal(parameters[name], parameter) for name, parameter in whole.named_parameters() if name in kept)
    for place, linear in projections(whole).items():
        weight, rounded = linear.weight, projections(small)[place].weight
        largest = weight.abs().amax(1, keepdim=True)
        if name == "int8":  # 127 steps on either side of zero
            bound = largest / 127 / 2
        else:  # e4m3: 3 bits behind the leading one; below its smallest normal number, 2**-6, steps of 2**-9
            bound = torch.maximum(weight.abs() * 2**-4, largest / 448 * 2**-10)
        error = (rounded.dequantize() - weight).abs()
        assert (error <= bound * 1.01).all() and error.any()
        assert rounded.qdata.element_size() == 1 and rounded.scale.shape == (len(weight), 1)
        # What it multiplies by is what it was rounded to: a product of n terms rounds at most n times.
        x = torch.randn(5, weight.shape[1])
        exact = x.double() @ rounded.dequantize().double().T
        terms = x.double().abs() @ rounded.dequantize().double().abs().T
        assert ((projections(small)[place](x) - exact).abs() <= terms * (weight.shape[1] + 4) * 2**-23).all()


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_tokens_are_those_of_the_rounded_weights(folder, name):
    small, rounded = loaded(folder, name), loaded(folder, None)
    for place, linear in projections(rounded).items():
        linear.weight = torch.nn.Parameter(projections(small)[place].weight.dequantize(), requires_grad=False)
    assert tokens(small) == tokens(rounded)


def held(model):
    """Bytes of the projections: numbers, and scales where there are any."""
    weights = [linear.weight for linear in projections(model).values()]
    parts = [[weight.qdata, weight.scale] if hasattr(weight, "qdata") else [weight] for weight in weights]
    return sum(part.untyped_storage().nbytes() for of_one in parts for part in of_one)


def test_the_memory_of_each(folder):
    numbers = sum(linear.weight.numel() for linear in projections(loaded(folder, None)).values())
    rows = sum(len(linear.weight) for linear in projections(loaded(folder, None)).values())
    assert held(loaded(folder, "float32")) == held(loaded(folder, None)) == 4 * numbers
    assert held(loaded(folder, "bfloat16")) == 2 * numbers
    assert held(loaded(folder, "int8")) == held(loaded(folder, "float8")) == numbers + 4 * rows


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_the_command_draws_with_them_and_the_file_says_so(folder, name, tmp_path, monkeypatch, capsys):
    reelmill = CommandLine(monkeypatch, capsys)
    out = tmp_path / "a.png"
    options = ["--prompt", "a", "--area", 1024, "--tokenizer", TOKENIZER, "--json"]
    ended = reelmill("generate", folder, *options, "--weights", name, "--out", out)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["weights"] == read_settings(out)["weights"] == name


def test_what_is_wrong_is_said_before_anything_is_read(tmp_path, monkeypatch, capsys):
    reelmill = CommandLine(monkeypatch, capsys)
    options = ["--prompt", "a", "--out", tmp_path / "a.png", "--weights"]
    ended = reelmill("generate", tmp_path, *options, "int4")
    assert ended.code == 2 and "unknown type of weights 'int4'; did you mean 'int8'" in ended.err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ended = reelmill("generate", tmp_path, *options, "int8")
    assert ended.code == 2 and 'needs torchao: pip install "reelmill[float8]", or take float32 or bfloat16' in ended.err
