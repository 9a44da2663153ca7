"""Pictures drawn by diagonals: each pass is that of one full forward, in generations of text and several pictures."""

import itertools

import numpy as np
import pytest
import torch
from diagonal_case import states_behind
from random_decoder import drawn, random_decoder

from reelmill.errors import ConfigError
from reelmill.eval.generation import Request, SamplingParams, TokenSampling, image_request, visual_request
from reelmill.eval.generation.diagonal_decoding import ByDiagonals
from reelmill.eval.generation.engine import Engine
from reelmill.tokenize.documents import Grammar, Header, parse, seconds_of
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary

VOCAB = Vocabulary("bytes", 64)
GRAMMAR = Grammar(VOCAB, one_block=True)
GREEDY = TokenSampling(temperature=0)
BY_DIAGONALS = ByDiagonals()


@pytest.fixture(scope="module")
def model():
    return random_decoder(VOCAB, vertical_layers=1)


def generate(model, requests, how=BY_DIAGONALS, rows=None, vocab=VOCAB):
    longest = max(request.max_length for request in requests)
    rows = rows or sum(len(request.prompts) for request in requests)
    return drawn(Engine(model, vocab, rows=rows, capacity=longest, pictures=how), requests)


def assert_likeliest(model, vocab, tokens, begin, stop, given=0):
    """The codes from IMG to `stop` but those `given` are the likeliest of one forward pass, as for training."""
    codes, states = states_behind(model, vocab, tokens, begin, stop)
    logits = states.mixed[0] @ model.lm_head.weight[vocab.vision_start :].t()
    assert logits.argmax(1).add(vocab.vision_start)[given:].tolist() == [tokens[code] for code in codes][given:]


@pytest.mark.parametrize("layout", [VOCAB.layout, EMU3_5], ids=["emu3", "emu3.5"])
@pytest.mark.parametrize(("h", "w"), [(4, 5), (3, 2), (1, 4), (4, 1), (1, 1)])
def test_a_picture_is_what_one_full_forward_pass_gives_in_as_many_passes_as_it_has_diagonals(layout, h, w):
    vocab = Vocabulary("bytes", 64, layout)
    model = random_decoder(vocab, vertical_layers=2)
    sampling = SamplingParams(vision=GREEDY)
    request = image_request(Grammar(vocab, one_block=True), "ab", h, w, sampling=sampling)
    (tokens,), passes = generate(model, [request], vocab=vocab)
    prompt = np.asarray(request.prompt).tolist()
    tokens = [*prompt, *tokens]
    begin = len(prompt) - 1
    assert parse(vocab, tokens).codes.shape == (1, h, w)
    assert_likeliest(model, vocab, tokens, begin, max(np.flatnonzero(vocab.is_vision(np.array(tokens)))) + 1)
    assert passes == h + w - 1


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


def test_what_is_drawn_is_whole_and_does_not_depend_on_what_else_is_drawn(model):
    together, _ = generate(model, requests())
    for request, tokens in zip(requests(), together, strict=True):
        assert generate(model, [request])[0] == [tokens]
        parse(VOCAB, [*np.asarray(request.prompt).tolist(), *tokens])
    assert generate(model, requests(), rows=4)[0] == together
    assert generate(model, requests())[0] == together  # the same seeds, the same pictures
    assert generate(model, requests(1.0))[0] != together


def test_a_video_goes_on_from_the_frames_that_it_begins_with(model):
    header = Header(2, 3, 8.0, seconds_of(3, 8.0))
    given = np.arange(6).reshape(1, 2, 3)
    sampling = SamplingParams(vision=GREEDY)
    request = visual_request(GRAMMAR, "waves", header, prefix=given, sampling=sampling)
    (tokens,), passes = generate(model, [request])
    assert passes == 2 * (2 + 3 - 1)  # of the two frames that are drawn
    tokens = [*np.asarray(request.prompt).tolist(), *tokens]
    np.testing.assert_array_equal(parse(VOCAB, tokens).codes[0], given[0])
    stop = max(np.flatnonzero(VOCAB.is_vision(np.array(tokens)))) + 1
    assert_likeliest(model, VOCAB, tokens, tokens.index(VOCAB.img), stop, given=6)


def test_a_scale_of_guidance_of_0_is_the_other_prompt_alone(model):
    pictures = []
    for text, guidance, negative in (("a", 1.0, ""), ("a", 3.0, ""), ("a", 0.0, "b"), ("b", 1.0, "")):
        sampling = SamplingParams(vision=GREEDY, guidance=guidance, negative=negative)
        pictures.append(generate(model, [image_request(GRAMMAR, text, 3, 4, sampling=sampling)])[0])
    assert pictures[0] != pictures[1]
    assert pictures[2] == pictures[3]


def page_request(**changes):
    """A page whose text is of two letters, so that a model without sense writes pictures of few codes soon."""
    letters = [VOCAB.tokenizer.encode(letter)[0] for letter in "*2"]
    few = [*letters, *sorted((VOCAB.eol, VOCAB.eof, VOCAB.img, VOCAB.boi, VOCAB.eoi))]
    wanted = {
        "prompt": [VOCAB.bos, *VOCAB.tokenizer.encode("mill")],
        "max_new_tokens": 300,
        "stop_id": VOCAB.eos,
        "grammar": Grammar(VOCAB),
        "allowed_ids": (*((token, token + 1) for token in few), (VOCAB.vision_start, VOCAB.vision_stop)),
        "sampling": SamplingParams(vision=GREEDY, text=TokenSampling(temperature=6.0), seed=2),
    }
    return Request(**wanted | changes)


def test_text_and_pictures_take_turns_in_one_cache(model):
    """Each picture of a page follows from all that stands before it, and the text behind a picture is as behind any."""
    (generated,), _ = generate(model, [page_request()])
    tokens = [*page_request().prompt, *generated]
    ends = [place for place, token in enumerate(tokens) if token == VOCAB.eoi]
    assert len(ends) >= 2
    for end in ends:
        begin = max(place for place in range(end) if tokens[place] == VOCAB.img)
        codes = [place for place in range(begin, end) if tokens[place] >= VOCAB.vision_start]
        assert_likeliest(model, VOCAB, tokens, begin, codes[-1] + 1)
    greedy = SamplingParams(vision=GREEDY, text=GREEDY)
    start = image_request(Grammar(VOCAB), "ab", 2, 3).prompt.tolist()
    (generated,), _ = generate(model, [page_request(prompt=start, sampling=greedy, max_new_tokens=40)])
    end = generated.index(VOCAB.eoi) + 1
    text = list(itertools.takewhile(lambda token: token != VOCAB.img, generated[end:]))
    assert len(text) > 3
    rest = page_request(prompt=[*start, *generated[:end]], sampling=greedy, max_new_tokens=len(text))
    assert generate(model, [rest], None)[0] == [text]


def test_the_second_head_changes_no_other_way_to_decode(model):
    without = random_decoder(VOCAB)
    without.load_state_dict({n: x for n, x in model.state_dict().items() if not n.startswith("vertical.")})
    assert generate(without, requests(), None) == generate(model, requests(), None)
    with pytest.raises(ConfigError, match="no second head"):
        Engine(without, VOCAB, rows=1, capacity=9, pictures=ByDiagonals())
    assert torch.equal(without.lm_head.weight, model.lm_head.weight)
