"""Exact parallel decoding follows the law of plain decoding: outcomes enumerated, greedy tokens equal, fewer passes."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from random_decoder import drawn

from reelmill.eval.generation import SamplingParams, TokenSampling, image_request, window_sampler
from reelmill.eval.generation.coupling import probabilities
from reelmill.eval.generation.engine import Engine
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 3)


@pytest.fixture(scope="module")
def model():
    return random_model(VOCAB, torch.float64)


def random_model(vocab, dtype=torch.float32, seed=0, hidden=16):
    torch.manual_seed(seed)
    config = ModelConfig(vocab_size=vocab.size, hidden=hidden, layers=2, heads=2, kv_heads=1, mlp=24)
    model = Decoder(config).to(dtype).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.6)
    return model


class Choices:
    """Every way that the random choices of a run can go, one run after the other, each with its probability."""

    def __init__(self):
        self.path, self.widths, self.weight = [], [], 1.0

    def __call__(self, distribution):
        return torch.tensor([self._one(row) for row in distribution.tolist()])

    def _one(self, row):
        possible = [i for i, p in enumerate(row) if p > 0]
        depth = len(self.widths)
        if depth == len(self.path):
            self.path.append(0)
        self.widths.append(len(possible))
        chosen = possible[self.path[depth]]
        self.weight *= row[chosen]
        return chosen

    def next(self):
        """Whether there is another way."""
        while self.path and self.path[-1] + 1 == self.widths[len(self.path) - 1]:
            self.path.pop()
        if self.path:
            self.path[-1] += 1
        self.widths, self.weight = [], 1.0
        return bool(self.path)


def generate(model, vocab, requests, window, rows=None):
    widths = sum(len(request.prompts) for request in requests)
    longest = max(request.max_length for request in requests)
    engine = Engine(model, vocab, rows=rows or widths, capacity=longest, window=window)
    return drawn(engine, requests)


def outcomes(model, request, window, monkeypatch):
    """Probability of each sequence of tokens, by enumeration."""
    choices = Choices()
    monkeypatch.setattr(window_sampler, "choose", lambda distribution, uniforms: choices(distribution))
    monkeypatch.setattr(
        window_sampler, "sample", lambda logits, params, uniforms: choices(probabilities(logits, params))
    )
    found, runs = {}, 0
    while True:
        [tokens], _ = generate(model, VOCAB, [request], window)
        found[tuple(tokens)] = found.get(tuple(tokens), 0.0) + choices.weight
        runs += 1
        if not choices.next():
            return found, runs


@pytest.mark.parametrize(
    ("size", "guidance", "sampling", "window"),
    [
        ((1, 3), 1.0, TokenSampling(), 3),
        ((1, 3), 2.5, TokenSampling(top_k=2, temperature=0.8), 3),
        ((3, 1), 1.7, TokenSampling(top_p=0.75), 4),
    ],
)
def test_every_outcome_has_the_probability_of_plain_decoding(model, monkeypatch, size, guidance, sampling, window):
    params = SamplingParams(vision=sampling, guidance=guidance)
    request = image_request(Grammar(VOCAB, one_block=True), "a", *size, sampling=params)
    with monkeypatch.context() as patched:
        plain, _ = outcomes(model, request, 1, patched)
    with monkeypatch.context() as patched:
        parallel, runs = outcomes(model, request, window, patched)
    assert runs > 5 * len(plain)  # drafts were taken and refused, in every order
    assert sum(plain.values()) == pytest.approx(1, abs=1e-12)
    assert plain.keys() == parallel.keys()
    assert max(abs(plain[tokens] - parallel[tokens]) for tokens in plain) < 1e-12


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (3, 4), (5, 7)])
@pytest.mark.parametrize("window", [2, 5, 16])
def test_greedy_tokens_are_those_of_plain_decoding(size, window):
    vocab = Vocabulary("bytes", 64)
    model = random_model(vocab, torch.float64)
    greedy = SamplingParams(vision=TokenSampling(temperature=0), guidance=1.5)
    requests = [image_request(Grammar(vocab, one_block=True), text, *size, sampling=greedy) for text in ("a", "bcd")]
    plain, passes = generate(model, vocab, requests, 1)
    parallel, fewer = generate(model, vocab, requests, window)
    assert parallel == plain
    assert fewer < passes


def test_what_is_drawn_does_not_depend_on_what_else_is_drawn():
    vocab = Vocabulary("bytes", 64)
    model = random_model(vocab, torch.float64)
    grammar = Grammar(vocab, one_block=True)
    requests = [
        image_request(grammar, text, h, w, sampling=SamplingParams(seed=3, guidance=guidance), stream=number)
        for number, (text, h, w, guidance) in enumerate([("a", 3, 4, 1.0), ("bcd", 5, 2, 2.0), ("", 2, 6, 1.5)])
    ]
    together, _ = generate(model, vocab, requests, 6)
    for request, tokens in zip(requests, together, strict=True):
        assert generate(model, vocab, [request], 6)[0] == [tokens]
    fewer_rows, _ = generate(model, vocab, requests, 6, rows=2)
    assert fewer_rows == together


def test_static_steps_draw_the_same():
    vocab = Vocabulary("bytes", 64)
    model = random_model(vocab, torch.float64)
    request = image_request(Grammar(vocab, one_block=True), "a", 4, 5, sampling=SamplingParams(seed=1))
    [dynamic], _ = generate(model, vocab, [request], 5)
    engine = Engine(model, vocab, rows=1, capacity=request.max_length, window=5, static=True)
    engine.submit(0, request)
    static = []
    while not engine.is_idle:
        static += [event.token for event in engine.step()]
    assert static == dynamic


def test_rows_of_a_mixed_batch_follow_their_laws(model):
    """Chi-squared over the first codes of two kinds of requests that are decoded side by side."""
    grammar = Grammar(VOCAB, one_block=True)
    tries = 600
    params = [SamplingParams(guidance=2.0, seed=5), SamplingParams(vision=TokenSampling(temperature=1.5), seed=6)]
    sizes = [(2, 2), (1, 3)]
    requests = [
        image_request(grammar, "ab"[kind], *sizes[kind], sampling=params[kind], stream=stream)
        for stream in range(tries)
        for kind in (0, 1)
    ]
    parallel, _ = generate(model, VOCAB, requests, 4, rows=30)
    plain, _ = generate(model, VOCAB, requests, 1, rows=30)
    for kind in (0, 1):
        counts = []
        for tokens in (parallel[kind::2], plain[kind::2]):
            codes = [tuple(t - VOCAB.vision_start for t in ids if t >= VOCAB.vision_start)[:3] for ids in tokens]
            counts.append(np.bincount([9 * a + 3 * b + c for a, b, c in codes], minlength=27))
        both = counts[0] + counts[1]
        used = both > 8
        statistic = ((counts[0] - counts[1]) ** 2 / np.maximum(both, 1))[used].sum()
        assert used.sum() > 5
        assert statistic < used.sum() + 5 * np.sqrt(2 * used.sum())  # five standard deviations of chi-squared


def test_a_row_like_the_one_above_takes_a_pass():
    """Each code follows from the one before alone: the first row is found code by code, and says all others."""
    vocab, side = Vocabulary("bytes", 64), 8
    model = random_model(vocab)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.zero_()
    order = [vocab.vision_start + 7 * code for code in range(side)]
    for place, (token, following) in enumerate([(vocab.img, order[0]), (vocab.eol, order[0]), *pairwise(order)]):
        model.embed_tokens.weight[token, place] = 1.0
        model.lm_head.weight[following, place] = 9.0
    sampling = SamplingParams(vision=TokenSampling(temperature=0))
    request = image_request(Grammar(vocab, one_block=True), "a", side, side, sampling=sampling)
    ([tokens], passes), ([plain], _) = (generate(model, vocab, [request], window) for window in (side + 1, 1))
    assert tokens == plain
    assert [token for token in tokens if token >= vocab.vision_start] == order * side
    assert passes <= 2 * side + 2
