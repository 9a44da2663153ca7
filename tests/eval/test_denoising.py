"""Pictures drawn all at once: each pass is that of one full forward, in generations of text and several pictures."""

import threading

import numpy as np
import pytest
import torch
from random_decoder import random_decoder

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Request, SamplingParams, TokenSampling, image_request, visual_request
from reelmill.eval.generation.decoding import Decoding
from reelmill.eval.generation.denoising import Denoising
from reelmill.eval.generation.engine import Engine
from reelmill.eval.generation.engine_thread import EngineThread
from reelmill.eval.generation.row_decoding import ByRows
from reelmill.tokenize.documents import Grammar, Header, parse, seconds_of
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.objectives.dida.path import fitted_path
from reelmill.train.two_streams import PictureCopy, TwoStreams

VOCAB = Vocabulary("bytes", 64)
GREEDY = TokenSampling(temperature=0)


@pytest.fixture(scope="module")
def model():
    return random_decoder(VOCAB)


@pytest.fixture(scope="module")
def path():
    return fitted_path(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))


def generate(model, requests, how, rows=None, window=1):
    longest = max(request.max_length for request in requests)
    rows = rows or sum(len(request.prompts) for request in requests)
    engine = Engine(model, VOCAB, rows=rows, capacity=longest, window=window, pictures=how)
    tokens, costs = [[] for _ in requests], {}
    for number, request in enumerate(requests):
        engine.submit(number, request)
    while not engine.is_idle:
        for event in engine.step():
            tokens[event.request].append(event.token)
            if event.is_last:
                costs[event.request] = event.cost
    return tokens, engine.passes, costs


def page_request(**changes):
    """A page whose text is of two letters, so that a model without sense writes pictures of few codes soon: three."""
    letters = [VOCAB.tokenizer.encode(letter)[0] for letter in "*2"]
    few = [*letters, *sorted((VOCAB.eol, VOCAB.eof, VOCAB.img, VOCAB.boi, VOCAB.eoi))]
    wanted = {
        "prompt": [VOCAB.bos, *VOCAB.tokenizer.encode("mill")],
        "max_new_tokens": 300,
        "stop_id": VOCAB.eos,
        "grammar": Grammar(VOCAB),
        "allowed_ids": (*((token, token + 1) for token in few), (VOCAB.vision_start, VOCAB.vision_stop)),
        "sampling": SamplingParams(vision=GREEDY, text=TokenSampling(temperature=6.0), seed=11),
    }
    return Request(**wanted | changes)


def pictures_in(tokens):
    """(IMG's place, place behind the last code) of each whole picture."""
    tokens = np.array(tokens)
    ends = np.flatnonzero(tokens == VOCAB.eoi)
    begins = [int(np.flatnonzero(tokens[:end] == VOCAB.img)[-1]) for end in ends]
    return [
        (a, a + int(np.flatnonzero(VOCAB.is_vision(tokens[a:b]))[-1]) + 1) for a, b in zip(begins, ends, strict=True)
    ]


def likeliest(model, tokens, begin, stop, ids):
    """The likeliest codes of a block `ids` behind the clean tokens before it, in one forward pass as in training."""
    clean, block = torch.tensor(tokens[:begin]), torch.tensor(ids)
    positions = torch.arange(stop)
    streams = TwoStreams([begin], [PictureCopy(stop - begin, 0, begin)], torch.device("cpu"))
    hidden = model(torch.cat((clean, block))[None], positions[None], visible=streams)[0, begin:]
    logits = hidden @ model.lm_head.weight[VOCAB.vision_start :].t()
    return VOCAB.vision_start + logits.argmax(1)[np.flatnonzero(VOCAB.is_vision(np.array(ids))) - 1]


def test_each_picture_of_a_page_is_what_one_full_forward_pass_gives(model, path):
    """One step, the likeliest codes: what stands there follows from the noise and all that stands before it."""
    request = page_request()
    (generated,), _, _ = generate(model, [request], Denoising(path, steps=1))
    at = len(request.prompt)
    tokens = [*request.prompt, *generated]
    found = pictures_in(tokens)
    assert len(found) == 3
    random = np.random.default_rng([11, 0])
    state = request.grammar.advance_all(request.grammar.start(), request.prompt)
    for begin, stop in found:
        # The random numbers: one for each token that had an alternative, then those of the noise.
        for token in tokens[at : begin + 1]:
            ranges = request.grammar.allowed(state)
            if sum(max(0, min(b, d) - max(a, c)) for a, b in ranges for c, d in request.allowed_ids) > 1:
                random.random(dtype=np.float32)
            state = request.grammar.advance(state, token)
        block = np.array(tokens[begin:stop])
        codes = np.flatnonzero(VOCAB.is_vision(block))
        noisy = block.copy()
        noisy[codes] = VOCAB.vision_start + (random.random(len(codes), dtype=np.float32) * 64).astype(int)
        random.random(2 * len(codes), dtype=np.float32)
        np.testing.assert_array_equal(block[codes], likeliest(model, tokens, begin, stop, noisy.tolist()))
        at = tokens.index(VOCAB.eoi, stop) + 1
        state = request.grammar.advance_all(state, tokens[begin + 1 : at])


def test_after_a_picture_the_text_goes_on_as_behind_any_tokens(model, path):
    """The tokens that follow a picture are those that follow it where it is part of the prompt."""
    greedy = SamplingParams(vision=GREEDY, text=GREEDY)
    start = image_request(Grammar(VOCAB), "ab", 2, 3).prompt.tolist()
    how = Denoising(path, steps=3)
    (generated,), _, _ = generate(model, [page_request(prompt=start, sampling=greedy, max_new_tokens=40)], how)
    end = generated.index(VOCAB.eoi) + 1
    assert 5 < end < 20
    text = generated[end : generated.index(VOCAB.img, end) + 1]
    assert len(text) > 4
    rest = page_request(prompt=[*start, *generated[:end]], sampling=greedy, max_new_tokens=len(text))
    assert generate(model, [rest], None)[0] == [text]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_picture_takes_so_many_passes_and_no_other(model, path, steps):
    request = image_request(Grammar(VOCAB, one_block=True), "a", 3, 4)
    (tokens,), passes, costs = generate(model, [request], Denoising(path, steps))
    assert passes == steps
    assert costs[0].passes == steps + 1  # and one that reads the prompt
    assert costs[0].cpu_s > 0
    whole = parse(VOCAB, [*np.asarray(request.prompt).tolist(), *tokens])
    assert whole.codes.shape == (1, 3, 4)


def test_what_is_drawn_does_not_depend_on_what_else_is_drawn(model, path):
    grammar = Grammar(VOCAB, one_block=True)
    requests = [
        image_request(grammar, text, h, w, sampling=SamplingParams(seed=3, guidance=guidance), stream=number)
        for number, (text, h, w, guidance) in enumerate(
            [("a", 3, 4, 1.0), ("bcd", 3, 4, 2.0), ("", 2, 6, 1.5), ("e", 3, 4, 1.0)]
        )
    ] + [page_request(max_new_tokens=200)]
    how = Denoising(path, steps=4)
    together, _, _ = generate(model, requests, how)
    for request, tokens in zip(requests, together, strict=True):
        assert generate(model, [request], how)[0] == [tokens]
    fewer_rows, _, _ = generate(model, requests, how, rows=3)
    assert fewer_rows == together
    assert generate(model, requests, how)[0] == together  # the same seed, the same pictures


def test_an_engine_for_many_clients_draws_the_same(model, path):
    request = image_request(Grammar(VOCAB, one_block=True), "a", 3, 4, sampling=SamplingParams(seed=3))
    how = Denoising(path, steps=3)
    ended, found = threading.Event(), []

    def deliver(event):
        found.append(event)
        if isinstance(event, Exception) or event.is_last:
            ended.set()

    thread = EngineThread(model, VOCAB, rows=2, capacity=64, queue=2, decoding=Decoding("dida", 1, how))
    try:
        thread.submit([request], [deliver])
        assert ended.wait(60)
    finally:
        thread.close()
    assert [[event.token for event in found]] == generate(model, [request], how)[0]


def test_guidance_moves_pictures_from_the_other_prompt(model, path):
    grammar = Grammar(VOCAB, one_block=True)
    drawn = []
    for text, guidance, negative in (("a", 1.0, ""), ("a", 3.0, ""), ("a", 0.0, "b"), ("b", 1.0, "")):
        sampling = SamplingParams(vision=GREEDY, guidance=guidance, negative=negative)
        request = image_request(grammar, text, 3, 4, sampling=sampling)
        (tokens,), _, _ = generate(model, [request], Denoising(path, steps=1))
        drawn.append(tokens)
    assert drawn[0] != drawn[1]
    assert drawn[2] == drawn[3]  # a scale of 0 is the other prompt alone


def test_a_video_keeps_the_frames_that_it_begins_with(model, path):
    header = Header(2, 3, 8.0, seconds_of(3, 8.0))
    given = np.arange(6).reshape(1, 2, 3)
    request = visual_request(Grammar(VOCAB, one_block=True), "waves", header, prefix=given)
    (tokens,), passes, _ = generate(model, [request], Denoising(path, steps=5))
    whole = parse(VOCAB, [*np.asarray(request.prompt).tolist(), *tokens])
    np.testing.assert_array_equal(whole.codes[:1], given)
    assert whole.codes.shape == (3, 2, 3) and passes == 5
    other = visual_request(Grammar(VOCAB, one_block=True), "waves", header, prefix=given + 20)
    assert generate(model, [other], Denoising(path, steps=5))[0][0] != tokens  # it sees them


def test_a_video_is_drawn_between_its_first_and_its_last_frame(model, path):
    grammar, header = Grammar(VOCAB, one_block=True), Header(2, 3, 8.0, seconds_of(3, 8.0))
    first, last = np.arange(6).reshape(1, 2, 3), np.arange(6).reshape(1, 2, 3) + 20
    how, found = Denoising(path, steps=5), []
    for ending in (last, last + 20):
        request = visual_request(grammar, "waves", header, prefix=first, ending=ending)
        (tokens,), passes, _ = generate(model, [request], how)
        whole = parse(VOCAB, [*np.asarray(request.prompt).tolist(), *tokens]).codes
        assert whole.shape == (3, 2, 3) and passes == 5
        np.testing.assert_array_equal(whole[[0, 2]], np.concatenate((first, ending)))
        found.append(whole[1].tolist())
    assert found[0] != found[1]  # the frame between sees how the video ends
    for refused in (None, ByRows(1)):
        with pytest.raises(ConfigError, match="says how its video ends; only --decode dida"):
            generate(model, [request], refused)
    with pytest.raises(DataError, match="fewer of them"):
        visual_request(grammar, "waves", header, prefix=first, ending=np.concatenate((last, last)))


def test_a_picture_that_does_not_fit_is_cut_off(model, path):
    how = Denoising(path, steps=2)
    (whole,), _, _ = generate(model, [page_request()], how)
    (begin, stop), *_ = pictures_in(whole)
    middle = (begin + stop) // 2
    (tokens,), _, _ = generate(model, [page_request(max_new_tokens=middle)], how)
    assert len(tokens) == middle
    assert tokens[: begin + 1] == whole[: begin + 1]


def test_what_means_nothing_is_refused(model, path):
    with pytest.raises(ConfigError, match="--steps is 0"):
        Engine(model, VOCAB, rows=1, capacity=9, pictures=Denoising(path, 0))
    with pytest.raises(DataError, match="the path is one of 5 codes; the model has 64"):
        Engine(model, VOCAB, rows=1, capacity=9, pictures=Denoising(fitted_path(torch.randn(5, 2))))
