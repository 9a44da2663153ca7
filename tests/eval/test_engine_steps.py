"""The engine's steps: each row's states are those of the whole forward pass, whatever is done for speed."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import decoder_sums, rounding

from reelmill.errors import ConfigError
from reelmill.eval.generation import (
    Engine,
    Request,
    SamplingParams,
    TokenSampling,
    continuations,
    decode_step,
    interleaved_request,
    text_request,
    visual_request,
)
from reelmill.tokenize.documents import Grammar, Header, Visual, seconds_of
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 64)
ONE_BLOCK = Grammar(VOCAB, one_block=True)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig(vocab_size=VOCAB.size, hidden=32, layers=2, heads=4, kv_heads=2, mlp=48)).eval()
    for parameter in decoder.requires_grad_(False).parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder


def drawn_by(engine, requests):
    for number, request in enumerate(requests):
        engine.submit(number, request)
    tokens = [[] for _ in requests]
    while not engine.is_idle:
        for drawn in engine.step():
            tokens[drawn.request].append(drawn.token)
    return tokens


class Recorder(Decoder):
    """Notes the logits of each token that is read, with its position."""

    def forward(self, tokens, positions, lengths=None, cache=None):
        hidden = super().forward(tokens, positions, lengths, cache)
        for token, position, logits in zip(
            tokens.flatten().tolist(), positions.flatten().tolist(), self.lm_head(hidden).flatten(0, 1), strict=True
        ):
            self.read.append((token, position, logits))
        return hidden


@settings(max_examples=8, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 9)),
        min_size=1,
        max_size=4,
    ),
    rows=st.integers(2, 5),
    prefill=st.integers(1, 9),
    guidance=st.sampled_from([1.0, 3.0]),
)
def test_every_state_is_that_of_the_whole_forward_pass(model, asked, rows, prefill, guidance):
    """Over batches with refilled rows, guidance, windows of given frames, chunks of prompts, resumed generations."""
    recorder = Recorder(model.config).eval().requires_grad_(False)
    recorder.load_state_dict(model.state_dict())
    recorder.read = []
    requests = []
    for number, (h, w, t, is_window, resumed) in enumerate(asked):
        given_frames = np.full((t - 1, h, w), number) if is_window and t > 1 else None
        header = Header(h, w, 8.0, seconds_of(t, 8.0))
        sampling = SamplingParams(vision=TokenSampling(top_k=20), guidance=guidance, negative="xy", seed=1)
        request = visual_request(
            ONE_BLOCK, "abc"[:number], header, prefix=given_frames, sampling=sampling, stream=number
        )
        (before,) = continuations(model, VOCAB, [request])
        requests.append(Request(**{**vars(request), "generated": before[: min(resumed, len(before) - 1)]}))
    engine = Engine(recorder, VOCAB, rows=rows, capacity=max(r.max_length for r in requests), prefill=prefill)
    tokens = drawn_by(engine, requests)
    found = set()
    for request, new in zip(requests, tokens, strict=True):
        for prompt in request.prompts:
            # The last token is drawn and never read.
            whole = torch.tensor([*prompt, *request.generated, *new[:-1]], dtype=torch.int64)
            expected = model.lm_head(model(whole[None], torch.arange(len(whole))[None]))[0]
            bound = rounding(torch.float32, decoder_sums(model.config, VOCAB.size, len(whole))) * expected.abs().max()
            for position, token in enumerate(whole.tolist()):
                matches = [
                    n
                    for n, (read, at, logits) in enumerate(recorder.read)
                    if (read, at) == (token, position) and (logits - expected[position]).abs().max() <= bound
                ]
                assert matches
                found.add(next((n for n in matches if n not in found), matches[0]))
    assert len(found) == len(recorder.read), "nothing is read that no row needs; equal prompts are read once"


@pytest.mark.parametrize("prefill", [4, 512])
def test_a_prompt_that_was_read_is_copied_and_what_is_drawn_stays_the_same_to_the_bit(model, prefill):
    recorder = Recorder(model.config).eval().requires_grad_(False)
    recorder.load_state_dict(model.state_dict())
    sampling = SamplingParams(guidance=3.0, negative="xy", seed=1)

    def read(captions):
        requests = [
            visual_request(ONE_BLOCK, caption, Header(2, 3), sampling=sampling, stream=number)
            for number, caption in enumerate(captions)
        ]
        recorder.read = []
        engine = Engine(recorder, VOCAB, rows=8, capacity=max(r.max_length for r in requests), prefill=prefill)
        drawn = drawn_by(engine, requests)
        return drawn, len(recorder.read) - sum(2 * len(tokens) for tokens in drawn), requests

    drawn, prompts, requests = read(["a long caption"] * 4)
    sizes = [len(prompt) - 1 for prompt in requests[0].prompts]
    assert prompts == sum(sizes), "each prompt is read once for all four"
    for number, request in enumerate(requests):
        (alone,) = continuations(model, VOCAB, [request])
        assert drawn[number] == alone.tolist()
    drawn, prompts, requests = read(["a long caption", "a long captive"])
    same = len("a long capti") + 1  # BOS
    whole = same // prefill * prefill
    assert prompts == 2 * sizes[0] - whole + sizes[1], "whole chunks that are alike, and the other prompt of guidance"
    for number, request in enumerate(requests):
        (alone,) = continuations(model, VOCAB, [request])
        assert drawn[number] == alone.tolist()


KINDS = ("image", "video", "words", "free")


def any_request(number, kind, guidance, temperature):
    draw = TokenSampling(temperature=temperature, top_p=0.9)
    how = {
        "sampling": SamplingParams(
            vision=TokenSampling(top_k=9 + number), text=draw, guidance=guidance, negative="no", seed=7
        ),
        "stream": number,
    }
    caption = "abcdef"[:number]
    if kind == "words":
        return text_request(Grammar(VOCAB), [caption, Visual(np.full((2, number + 1), number))], 9, **how)
    if kind == "free":
        return interleaved_request(Grammar(VOCAB), [caption], 12, **how)
    header = Header(2, number + 1, *((8.0, 1.0) if kind == "video" else ()))
    return visual_request(ONE_BLOCK, caption, header, **how)


@settings(max_examples=8, deadline=None)
@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(["image", "video", "words", "free"]),
            st.sampled_from([1.0, 2.0]),
            st.sampled_from([0.0, 1.0]),
        ),
        min_size=2,
        max_size=6,
    ),
    rows=st.integers(2, 7),
    static=st.booleans(),
)
def test_requests_of_all_kinds_in_one_batch_draw_what_they_draw_alone(model, asked, rows, static):
    requests = [any_request(number, *how) for number, how in enumerate(asked)]
    alone = [continuations(model, VOCAB, [request])[0].tolist() for request in requests]
    engine = Engine(model, VOCAB, rows=rows, capacity=max(request.max_length for request in requests), static=static)
    assert drawn_by(engine, requests) == alone


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 26), st.sampled_from([0.0, 1.0]), st.sampled_from([1.0, 2.0]))
def test_a_generation_that_goes_on_is_one_that_never_stopped(model, stop, temperature, guidance):
    draw = TokenSampling(temperature=temperature, top_p=0.9)
    sampling = SamplingParams(vision=draw, text=draw, guidance=guidance, negative="b", seed=5)
    image = visual_request(ONE_BLOCK, "a", Header(4, 5), sampling=sampling, stream=2)
    words = interleaved_request(Grammar(VOCAB), ["ab"], 27, sampling=sampling)
    for request in (image, words):
        (whole,) = continuations(model, VOCAB, [request])
        cut = min(stop, len(whole) - 1)
        (rest,) = continuations(model, VOCAB, [Request(**{**vars(request), "generated": whole[:cut]})])
        assert rest.tolist() == whole[cut:].tolist()
    with pytest.raises(ConfigError, match="max_new_tokens is 27 and 27 tokens are given"):
        continuations(model, VOCAB, [Request(**{**vars(image), "generated": [VOCAB.vision_start] * 27})])


def test_an_empty_unconditional_prompt_guides_too(model):
    def tokens(guidance, negative):
        sampling = SamplingParams(vision=TokenSampling(temperature=0), guidance=guidance, negative=negative)
        return drawn_by(
            Engine(model, VOCAB, rows=2, capacity=60),
            [visual_request(ONE_BLOCK, "a dog", Header(3, 4), sampling=sampling)],
        )[0]

    assert len({tuple(tokens(*how)) for how in ((1.0, ""), (4.0, ""), (4.0, "cats"))}) == 3
    # Unconditional alone: what another caption has no part in.
    assert tokens(0.0, "a dog") == tokens(1.0, "")


def test_words_are_drawn_without_guidance(model):
    prompt, other = [VOCAB.bos, *b"draw"], [VOCAB.bos]
    how = {"max_new_tokens": 12, "stop_id": VOCAB.eos, "allowed_ids": ((0, VOCAB.text_size),)}
    guided = Request(prompt=prompt, unconditional=other, sampling=SamplingParams(guidance=5.0), **how)
    plain = Request(prompt=prompt, **how)
    assert continuations(model, VOCAB, [guided])[0].tolist() == continuations(model, VOCAB, [plain])[0].tolist()


def test_only_the_rows_of_the_head_that_may_be_drawn_are_computed(model):
    request = visual_request(ONE_BLOCK, "a", Header(3, 4))
    expected = continuations(model, VOCAB, [request])[0].tolist()
    broken = Decoder(model.config).eval().requires_grad_(False)
    broken.load_state_dict(model.state_dict())
    broken.lm_head.weight[: VOCAB.vision_start] = torch.nan
    assert continuations(broken, VOCAB, [request])[0].tolist() == expected


def requests_of_several_sizes():
    sampling = SamplingParams(vision=TokenSampling(top_k=20), guidance=3.0, negative="x", seed=3)
    return [
        visual_request(ONE_BLOCK, "abcd"[:number], Header(h, w), sampling=sampling, stream=number)
        for number, (h, w) in enumerate([(3, 4), (1, 1), (4, 2), (2, 6), (5, 3)])
    ]


def test_static_steps_draw_the_same_at_few_shapes(model, monkeypatch):
    monkeypatch.setattr(decode_step, "SPAN", 16)
    requests = requests_of_several_sizes()
    expected = [tokens.tolist() for tokens in continuations(model, VOCAB, requests)]
    engine = Engine(model, VOCAB, rows=6, capacity=45, static=True)
    assert drawn_by(engine, requests) == expected
    shapes = {engine._step.shape(rows, tokens) for rows in range(1, 7) for tokens in range(1, 46)}
    assert shapes == {(rows, span) for rows in (1, 2, 4, 6) for span in (16, 32, 45)}
    # A GPU captures these at the start: no step may need another.
    assert engine._step.shapes() == {(*shape, 1) for shape in shapes}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_steps_draw_the_same_and_are_compiled_once(model):
    requests = requests_of_several_sizes()
    expected = [tokens.tolist() for tokens in continuations(model, VOCAB, requests)]
    engine = Engine(model, VOCAB, rows=6, capacity=45, compile=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert drawn_by(engine, requests) == expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.gpu
@pytest.mark.parametrize("compile", [False, True])
def test_graphs_on_a_gpu_draw_what_its_plain_steps_draw(model, compile):
    import copy

    on_gpu = copy.deepcopy(model).cuda()
    requests = requests_of_several_sizes()
    plain = drawn_by(Engine(on_gpu, VOCAB, rows=6, capacity=45, static=False), requests)
    assert drawn_by(Engine(on_gpu, VOCAB, rows=6, capacity=45, compile=compile), requests) == plain


def test_a_cancelled_request_leaves_the_others_alone(model):
    requests = requests_of_several_sizes()
    expected = [tokens.tolist() for tokens in continuations(model, VOCAB, requests)]
    engine = Engine(model, VOCAB, rows=4, capacity=45)
    for number, request in enumerate(requests):
        engine.submit(number, request)
    tokens = [[] for _ in requests]
    for step in range(200):
        if step == 4:
            engine.cancel(0)  # at work
            engine.cancel(3)  # waiting
            engine.cancel(99)
        for drawn in engine.step():
            tokens[drawn.request].append(drawn.token)
    assert engine.is_idle and engine.free == 4
    assert tokens[0] == expected[0][:4] and tokens[3] == []
    assert [tokens[n] for n in (1, 2, 4)] == [expected[n] for n in (1, 2, 4)]


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(ConfigError, match="a prompt is empty"):
        continuations(model, VOCAB, [Request(prompt=[], max_new_tokens=3, stop_id=0)])
