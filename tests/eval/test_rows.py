"""Rows side by side: with a lag of a whole row they are plain decoding, else each pass is a forward under its mask."""

import numpy as np
import pytest
import torch
from random_decoder import drawn, random_decoder

from reelmill.errors import ConfigError
from reelmill.eval.generation import SamplingParams, TokenSampling, image_request, visual_request
from reelmill.eval.generation.engine import Engine
from reelmill.eval.generation.row_decoding import ByRows, row_passes
from reelmill.tokenize.documents import Grammar, Header, parse, seconds_of
from reelmill.tokenize.vocabulary import Vocabulary

VOCAB = Vocabulary("bytes", 64)
GRAMMAR = Grammar(VOCAB, one_block=True)


@pytest.fixture(scope="module")
def model():
    return random_decoder(VOCAB)


def generate(model, requests, how, rows=None):
    longest = max(request.max_length for request in requests)
    rows = rows or sum(len(request.prompts) for request in requests)
    engine = Engine(model, VOCAB, rows=rows, capacity=longest, pictures=how)
    return drawn(engine, requests)


def requests(guidance=1.5):
    sampling = SamplingParams(seed=3, guidance=guidance, vision=TokenSampling(top_k=20))
    clip = Header(2, 3, 8.0, seconds_of(2, 8.0))
    return [
        image_request(GRAMMAR, "a", 4, 5, sampling=sampling),
        image_request(GRAMMAR, "bcd", 4, 5, sampling=sampling, stream=1),
        image_request(GRAMMAR, "", 1, 3, sampling=sampling, stream=2),
        visual_request(GRAMMAR, "waves", clip, sampling=sampling, stream=3),
        visual_request(GRAMMAR, "waves", clip, prefix=np.arange(6).reshape(1, 2, 3), sampling=sampling, stream=4),
    ]


def test_with_a_lag_of_a_whole_row_the_codes_are_those_of_plain_decoding(model):
    plain, passes = generate(model, requests(), None)
    by_rows, fewer = generate(model, requests(), ByRows(lag=5))
    assert by_rows == plain
    assert fewer < 5 * passes


@pytest.mark.parametrize("lag", [1, 2])
def test_what_is_drawn_is_whole_and_does_not_depend_on_what_else_is_drawn(model, lag):
    together, _ = generate(model, requests(), ByRows(lag))
    for request, tokens in zip(requests(), together, strict=True):
        assert generate(model, [request], ByRows(lag))[0] == [tokens]
        parse(VOCAB, [*np.asarray(request.prompt).tolist(), *tokens])
    assert generate(model, requests(), ByRows(lag), rows=4)[0] == together


def places(h, w):
    return tuple(1 + row * (w + 1) + column for row in range(h) for column in range(w))


@pytest.mark.parametrize(("h", "w", "lag"), [(4, 5, 1), (4, 5, 2), (6, 6, 5), (3, 2, 9)])
def test_every_code_is_drawn_once_when_the_row_above_is_far_enough(h, w, lag):
    free = places(h, w)
    passes = row_passes(free, lag)
    assert len(passes) == w + (h - 1) * min(lag, w)
    drawn: dict[int, int] = {}
    for number, now in enumerate(passes):
        for code in now.codes:
            row, column = divmod(code - 1, w + 1)
            above = [1 + (row - 1) * (w + 1) + c for c in range(min(w, column + lag))] if row else []
            assert all(drawn[place] < number for place in above)
        drawn |= dict.fromkeys(now.codes, number)
    assert sorted(drawn) == list(free)
    assert row_passes(places(4, 80)) == row_passes(places(4, 80), 16)
    assert row_passes(places(4, 8)) == row_passes(places(4, 8), 2)


class Dense:
    """Attention under a mask [tokens, tokens]."""

    def __init__(self, mask):
        self.mask = mask

    def attend(self, q, k, v, dropout=0.0):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, enable_gqa=True)
        return mixed.transpose(1, 2)


def test_each_pass_is_a_forward_in_which_what_is_not_drawn_yet_is_absent(model):
    """Greedy codes are the likeliest under one mask over the whole: a token sees what was read no later than itself."""
    request = image_request(GRAMMAR, "ab", 4, 5, sampling=SamplingParams(vision=TokenSampling(temperature=0)))
    (tokens,), passes = generate(model, [request], ByRows(2))
    plan = row_passes(places(4, 5), 2)
    assert passes == len(plan) == 11
    whole = torch.tensor([*np.asarray(request.prompt).tolist(), *tokens])
    img = len(np.asarray(request.prompt)) - 1
    when = torch.full((len(whole),), 10**6)  # what no pass reads is seen by none
    when[:img] = -1
    for number, now in enumerate(plan):
        when[[img + place for place in now.reads]] = number
    earlier = (when[None] <= when[:, None]) & torch.ones(len(whole), len(whole), dtype=torch.bool).tril()
    hidden = model(whole[None], torch.arange(len(whole))[None], visible=Dense(earlier))[0]
    for now in plan:
        for query, code in zip(now.predicting, now.codes, strict=True):
            logits = model.lm_head.weight[VOCAB.vision_start :] @ hidden[img + now.reads[query]]
            assert whole[img + code] == VOCAB.vision_start + logits.argmax()


def test_a_lag_that_means_nothing_is_refused(model):
    with pytest.raises(ConfigError, match="--lag is 0; a row is at least 1 code behind"):
        Engine(model, VOCAB, rows=1, capacity=9, pictures=ByRows(0))
