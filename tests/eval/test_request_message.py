"""Requests that are told to other ranks as JSON are the same there, grammar and all."""

import dataclasses
import json

import numpy as np
import pytest
from toy_run import VOCAB

from reelmill.eval.generation import SamplingParams, TokenSampling, visual_request
from reelmill.eval.generation.request import Request
from reelmill.eval.generation.request_message import from_message, to_message
from reelmill.tokenize.documents import Grammar, Header

SAMPLING = SamplingParams(
    vision=TokenSampling(top_k=9), text=TokenSampling(temperature=0.0, top_p=0.5), guidance=2.5, image_guidance=1.5,
    negative="früh \U0001f600", seed=2**63,
)  # fmt: skip
GRAMMAR = Grammar(VOCAB, one_block=True, header=Header(2, 3))
CASES = {
    "all": Request(
        prompt=np.arange(3), max_new_tokens=4, stop_id=5, sampling=SAMPLING, stream=6, grammar=GRAMMAR,
        unconditional=[1, 2], without_pictures=(3,), allowed_ids=((0, 4), (7, 9)), generated=[8],
        ending=np.arange(6).reshape(1, 2, 3),
    ),
    "least": Request(prompt=[1], max_new_tokens=1, stop_id=0),
    "video": visual_request(Grammar(VOCAB), "waves", Header(2, 2, fps=7.5, seconds=1.5), sampling=SAMPLING),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_request_is_the_same_on_the_other_side(name):
    request = CASES[name]
    again = from_message(json.loads(json.dumps(to_message(request))), VOCAB)
    for field in dataclasses.fields(Request):
        one, other = getattr(request, field.name), getattr(again, field.name)
        if field.name == "grammar":
            rules = [g and (g.vocab, g.one_block, g.header and g.header.text) for g in (one, other)]
            assert rules[0] == rules[1]
        elif field.name in ("prompt", "unconditional", "without_pictures", "generated", "ending"):
            assert (one is None) == (other is None) and (one is None or np.array_equal(one, other))
        else:
            assert one == other, field.name
