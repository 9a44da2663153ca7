"""Attention to the cache by pages, as CUDA runs it, beside attention under a mask: the same states and tokens."""

from functools import partial

import numpy as np
import pytest
import torch
from flash_on_cpu import flash_on_cpu
from random_decoder import drawn, random_decoder
from rounding import assert_near, decoder_sums, rounding

from reelmill.errors import ConfigError
from reelmill.eval.generation import Engine, SamplingParams, TokenSampling, decode_step, kv_cache, visual_request
from reelmill.eval.generation import engine as engine_module
from reelmill.eval.generation.cache_view import PAGE
from reelmill.eval.generation.denoising import Denoising
from reelmill.eval.generation.row_decoding import ByRows
from reelmill.eval.generation.sharing import Opening
from reelmill.tokenize.documents import Grammar, Header
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.objectives.dida.path import fitted_path

VOCAB = Vocabulary("bytes", 16)
GRAMMAR = Grammar(VOCAB, one_block=True)


def requests():
    sampling = SamplingParams(vision=TokenSampling(top_k=9), guidance=3.0, negative="x", seed=3)
    return [
        visual_request(GRAMMAR, "abcd"[:number], Header(h, w), sampling=sampling, stream=number)
        for number, (h, w) in enumerate([(3, 4), (1, 1), (4, 2), (2, 6), (5, 3)])
    ]


@pytest.fixture(scope="module")
def models():
    """Two of the same weights: one whose cache is read under a mask, and one whose cache is read by pages."""
    masked, paged = random_decoder(VOCAB), random_decoder(VOCAB)
    paged.backend = "varlen"
    return masked, paged


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"static": True},
        {"prefill": 3, "window": 4},
        {"static": True, "window": 3},
        {"pictures": "denoising"},
        {"pictures": ByRows()},
    ],
    ids=str,
)
def test_what_is_drawn_is_the_same(models, how, monkeypatch):
    monkeypatch.setattr(decode_step, "SPAN", 16)
    if how.get("pictures") == "denoising":
        how = {"pictures": Denoising(fitted_path(torch.randn(VOCAB.codes, 4)), steps=3)}
    masked, paged = (partial(Engine, model, VOCAB, rows=6, capacity=45, **how) for model in models)
    expected = drawn(masked(), requests())
    with flash_on_cpu() as calls:
        assert drawn(paged(), requests()) == expected
    assert calls


def test_a_compiled_step_is_one_graph(models, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    expected = drawn(Engine(models[0], VOCAB, rows=6, capacity=45), requests())
    with flash_on_cpu():
        assert drawn(Engine(models[1], VOCAB, rows=6, capacity=45, compile=True), requests()) == expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    torch.compiler.reset()


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("both_ways", [False, True])
def test_rows_of_any_lengths_have_the_same_states(count, both_ways):
    """Rows of 0 to 300 tokens, which is more than a page, and of grouped heads."""
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=64, hidden=32, layers=2, heads=4, kv_heads=2, mlp=48, qk_norm=True)
    decoder = Decoder(config).eval().requires_grad_(False)
    lengths = [0, 300, 7, 256]
    rng = np.random.default_rng(0)
    told = [torch.from_numpy(rng.integers(0, 64, (1, length))) for length in lengths]
    new = torch.from_numpy(rng.integers(0, 64, (3, count)))
    found = []
    with flash_on_cpu():
        for backend in ("documents", "varlen"):
            cache = kv_cache(config, 4, 310, decoder.embed_tokens.weight, backend=backend)
            for row, tokens in enumerate(told):
                cache.open(row, Opening(310))
                if tokens.numel():
                    decoder(tokens, cache.reserve(slice(row, row + 1), tokens.shape[1]), cache=cache)
                    cache.advance(row, tokens.shape[1])
            positions = cache.reserve(slice(1, 4), count, both_ways=both_ways)
            found.append(decoder(new, positions, cache=cache))
    assert_near(*found, rounding(torch.float32, decoder_sums(config, 64, 310)))


def candidates(count):
    """Pictures of one caption of 600 bytes, whose prompts take more than two pages, guided by another."""
    sampling = SamplingParams(vision=TokenSampling(top_k=9), guidance=3.0, negative="x" * 300, seed=3)
    return [
        visual_request(GRAMMAR, "a" * 600, Header(3, 4), sampling=sampling, stream=number) for number in range(count)
    ]


@pytest.mark.parametrize("how", [{}, {"static": True, "window": 3}, {"prefill": 256}], ids=str)
def test_candidates_share_the_pages_of_their_prompts(models, how):
    masked, paged = (partial(Engine, model, VOCAB, rows=8, capacity=680, **how) for model in models)
    expected, _ = drawn(masked(), candidates(4))
    with flash_on_cpu():
        engine = paged()
        for number, request in enumerate(candidates(4)):
            engine.submit(number, request)
        tokens = [[] for _ in expected]
        most = 0
        while not engine.is_idle:
            for event in engine.step():
                tokens[event.request].append(event.token)
            most = max(most, engine.cache.used_pages)
    assert tokens == expected
    # A row of the caption has 3 pages, of which 2 are full behind the prompt; one of the other prompt 2, and 1. The
    # candidates have 3 + 2 pages of the first and one more of each row of the others, where each alone has 5.
    assert most == 5 + 3 * 2 < 4 * 5
    assert engine.cache.used_pages == 0


def test_a_run_takes_no_more_memory_than_its_requests_hold_together(models, monkeypatch):
    engines = []
    monkeypatch.setattr(engine_module, "Engine", lambda *of, **how: engines.append(Engine(*of, **how)) or engines[-1])
    expected = list(engine_module.run(models[0], VOCAB, candidates(4), rows=8))
    with flash_on_cpu():
        assert {(e.request, e.token) for e in engine_module.run(models[1], VOCAB, candidates(4), rows=8)} == {
            (e.request, e.token) for e in expected
        }
    whole, shared = (sum(buffer.nbytes for buffer in (*e.cache.keys, *e.cache.values)) for e in engines)
    assert engines[1].cache.pages == 11
    assert shared == whole // (8 * max(r.max_length for r in candidates(4))) * (11 + 1) * PAGE  # one is nobody's


def test_requests_wait_for_pages(models):
    """Room for one picture and a half: the second begins when the first has ended, and is the same."""
    expected, _ = drawn(Engine(models[0], VOCAB, rows=8, capacity=680), candidates(1) + requests()[3:])
    with flash_on_cpu():
        engine = Engine(models[1], VOCAB, rows=8, capacity=680, cache_tokens=6 * PAGE)
        assert drawn(engine, candidates(1) + requests()[3:])[0] == expected
        with pytest.raises(ConfigError, match=r"request 9 needs [\d,]+ tokens of cache, more than this engine has"):
            Engine(models[1], VOCAB, rows=8, capacity=680, cache_tokens=4 * PAGE).submit(9, candidates(1)[0])


@pytest.mark.gpu
def test_a_gpu_reads_pages_as_it_reads_under_a_mask():
    torch.manual_seed(0)
    heads, size, lengths = (8, 2), 64, torch.tensor([1, 300, 4000], device="cuda")
    config = ModelConfig(vocab_size=8, hidden=512, layers=1, heads=heads[0], kv_heads=heads[1], mlp=8)
    like = torch.empty(0, dtype=torch.bfloat16, device="cuda")
    for count in (1, 4):
        q, k, v = (torch.randn(3, count, n, size, dtype=like.dtype, device="cuda") for n in (*heads, heads[1]))
        positions = lengths[:, None] + torch.arange(count, device="cuda")
        found = []
        for backend in ("documents", "varlen"):
            cache = kv_cache(config, 3, 4096, like, backend=backend)
            generator = torch.Generator("cuda").manual_seed(0)
            for row in range(3):
                cache.open(row, Opening(4096))
            told = torch.randn(3, 4096, heads[1], size, dtype=like.dtype, device="cuda", generator=generator)
            cache.prepare(slice(0, 3), torch.arange(4096, device="cuda").expand(3, -1), 4096)
            cache.attend(0, told.repeat_interleave(heads[0] // heads[1], 2), told, told)
            cache.prepare(slice(0, 3), positions, 4096)
            found.append(cache.attend(0, q, k, v))
        torch.testing.assert_close(*found, atol=2e-2, rtol=2e-2)
