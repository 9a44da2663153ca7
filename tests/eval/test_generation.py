import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_near, decoder_sums, rounding

from reelmill.errors import ConfigError
from reelmill.eval.generation import (
    Engine,
    Request,
    SamplingParams,
    TokenSampling,
    continuations,
    image_request,
    kv_cache,
)
from reelmill.tokenize.documents import DocumentError, Grammar, generation_prompt, parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 64)
ONE_BLOCK = Grammar(VOCAB, one_block=True)


def toy(**changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB.size, "hidden": 32, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 48, **changes}
    # Wide first weights: the likeliest of nearly equal logits would hide a mistake.
    return Decoder(ModelConfig(**sizes, init_std=0.3)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    decoder = toy()
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder


def whole_logits(model, tokens):
    ids = torch.as_tensor(np.asarray(tokens, dtype=np.int64))[None]
    return model.lm_head(model(ids, torch.arange(ids.shape[1])[None]))[0]


@pytest.mark.parametrize("seed", range(4))
def test_random_weights_under_the_grammar_draw_whole_documents(model, seed):
    request = image_request(ONE_BLOCK, "a cat", 3, 5, sampling=SamplingParams(seed=seed))
    (tokens,) = continuations(model, VOCAB, [request])
    document = parse(VOCAB, np.concatenate((request.prompt, tokens)))
    assert document.kind == "image"
    assert document.caption == "a cat"
    assert document.grid == (1, 3, 5)
    assert len(tokens) == 3 * 6 + 3


def test_a_video_prompt_draws_all_its_latent_frames(model):
    prompt = generation_prompt(VOCAB, "", 2, 2, fps=8.0, seconds=1.5)
    (tokens,) = continuations(
        model, VOCAB, [Request(prompt=prompt, max_new_tokens=99, stop_id=VOCAB.eos, grammar=ONE_BLOCK)]
    )
    assert parse(VOCAB, np.concatenate((prompt, tokens))).codes.shape == (3, 2, 2)


def test_a_free_model_may_open_an_image_and_write_its_size(model):
    grammar = Grammar(VOCAB)
    prompt = [VOCAB.bos, *VOCAB.tokenizer.encode("draw"), VOCAB.boi]
    (tokens,) = continuations(
        model, VOCAB, [Request(prompt=prompt, max_new_tokens=40, stop_id=VOCAB.eos, grammar=grammar)]
    )
    state = grammar.advance_all(grammar.start(), [*prompt, *tokens.tolist()])
    assert state.h > 0 or state.header


@settings(max_examples=6, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5), st.text("ab ", max_size=9)), min_size=1, max_size=5),
    rows=st.integers(2, 6),
    prefill=st.integers(1, 8),
    guidance=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_tokens_do_not_depend_on_what_else_is_drawn(model, sizes, rows, prefill, guidance):
    sampling = SamplingParams(vision=TokenSampling(top_k=20, top_p=0.95), guidance=guidance, negative="x", seed=3)
    requests = [
        image_request(ONE_BLOCK, caption, h, w, sampling=sampling, stream=number)
        for number, (h, w, caption) in enumerate(sizes)
    ]
    capacity = max(len(r.prompt) + len("x") + r.max_new_tokens for r in requests)
    engine = Engine(model, VOCAB, rows=rows, capacity=capacity, prefill=prefill)
    together = {number: [] for number in range(len(requests))}
    for number, request in enumerate(requests):
        engine.submit(number, request)
    while not engine.is_idle:
        for drawn in engine.step():
            together[drawn.request].append(drawn.token)
            assert drawn.is_last == (drawn.token == VOCAB.eos)
    for number, request in enumerate(requests):
        (alone,) = continuations(model, VOCAB, [request])
        assert alone.tolist() == together[number]


@settings(max_examples=6, deadline=None)
@given(lengths=st.lists(st.integers(2, 12), min_size=1, max_size=4), chunk=st.integers(1, 5), seed=st.integers(0, 99))
def test_cached_logits_equal_the_whole_forward_at_every_position(lengths, chunk, seed):
    decoder = toy(qk_norm=bool(seed % 2), head_dim=8 + 2 * (seed % 3))
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, VOCAB.size, length) for length in lengths]
    cache = kv_cache(decoder.config, len(rows), max(lengths), decoder.embed_tokens.weight)
    found = [[] for _ in rows]
    # Each row's first half in chunks by itself, then all rows a token at a time until the shortest ends.
    for number, row in enumerate(rows):
        for start in range(0, len(row) // 2, chunk):
            part = torch.from_numpy(row[start : min(start + chunk, len(row) // 2)])[None]
            positions = cache.reserve(slice(number, number + 1), part.shape[1])
            found[number] += decoder.lm_head(decoder(part, positions, cache=cache))[0]
            cache.advance(number, part.shape[1])
    for _ in range(min(len(row) - len(row) // 2 for row in rows)):
        tokens = torch.tensor([[row[cache.lengths[number]]] for number, row in enumerate(rows)])
        logits = decoder.lm_head(decoder(tokens, cache.reserve(slice(0, len(rows)), 1), cache=cache))
        for number in range(len(rows)):
            found[number].append(logits[number, 0])
            cache.advance(number, 1)
    for row, logits in zip(rows, found, strict=True):
        bound = rounding(torch.float32, decoder_sums(decoder.config, VOCAB.size, len(row)))
        assert_near(torch.stack(logits), whole_logits(decoder, row)[: len(logits)], bound)


def test_a_generation_goes_on_from_its_own_tokens(model):
    request = image_request(ONE_BLOCK, "on", 3, 3, sampling=SamplingParams(vision=TokenSampling(temperature=0)))
    (whole,) = continuations(model, VOCAB, [request])
    rest = Request(
        prompt=np.concatenate((request.prompt, whole[:7])), max_new_tokens=99, stop_id=VOCAB.eos, grammar=ONE_BLOCK,
        sampling=request.sampling,
    )  # fmt: skip
    (later,) = continuations(model, VOCAB, [rest])
    assert later.tolist() == whole[7:].tolist()


def test_streams_differ_and_the_seed_decides_them(model):
    def drawn(seed):
        sampling = SamplingParams(seed=seed)
        requests = [image_request(ONE_BLOCK, "x", 2, 3, sampling=sampling, stream=stream) for stream in range(3)]
        return [tokens.tolist() for tokens in continuations(model, VOCAB, requests)]

    assert drawn(0) == drawn(0)
    assert len(set(map(tuple, drawn(0)))) == 3
    assert drawn(0) != drawn(1)


def test_the_likeliest_token_is_what_the_whole_forward_says(model):
    prompt = generation_prompt(VOCAB, "greedy", 2, 2)
    greedy = SamplingParams(text=TokenSampling(temperature=0))
    (tokens,) = continuations(model, VOCAB, [Request(prompt=prompt, max_new_tokens=12, stop_id=-1, sampling=greedy)])
    logits = whole_logits(model, np.concatenate((prompt, tokens)))
    assert logits.argmax(-1)[len(prompt) - 1 : -1].tolist() == tokens.tolist()


def test_guidance_draws_from_both_prompts_logits(model):
    sampling = SamplingParams(vision=TokenSampling(temperature=0), guidance=3.0, negative="cat and mouse")
    request = image_request(ONE_BLOCK, "dog", 2, 4, sampling=sampling)
    (tokens,) = continuations(model, VOCAB, [request])
    conditional, unconditional = (
        whole_logits(model, np.concatenate((prompt, tokens)))[len(prompt) - 1 : -1]
        for prompt in (request.prompt, request.unconditional)
    )
    guided = unconditional + 3.0 * (conditional - unconditional)
    codes = slice(VOCAB.vision_start, VOCAB.vision_stop)
    is_code = tokens >= VOCAB.vision_start
    expected = guided[:, codes].argmax(-1).numpy() + VOCAB.vision_start
    assert expected[is_code].tolist() == tokens[is_code].tolist()
    plain = conditional[:, codes].argmax(-1).numpy() + VOCAB.vision_start
    assert plain[is_code].tolist() != tokens[is_code].tolist(), "these prompts do not tell guidance from none"


def shares(how, logits, draws=4000):
    """How often each id was drawn."""
    requests = torch.tensor([logits]).expand(draws, -1)
    uniforms = torch.from_numpy(np.random.default_rng(0).random(draws, dtype=np.float32))
    from reelmill.eval.generation.sampling import sample

    return torch.bincount(sample(requests, how, uniforms), minlength=len(logits)) / draws


def test_draws_follow_the_probabilities():
    logits = [0.0, 2.0, 1.0, -1.0]
    assert torch.allclose(shares(TokenSampling(), logits), torch.tensor(logits).softmax(0), atol=0.03)
    hot = (torch.tensor(logits) / 4).softmax(0)
    assert torch.allclose(shares(TokenSampling(temperature=4.0), logits), hot, atol=0.03)
    two = torch.tensor([0.0, 2.0, 1.0, 0.0]).exp() * torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert torch.allclose(shares(TokenSampling(top_k=2), logits), two / two.sum(), atol=0.03)
    # 0.64 + 0.24 hold 0.8; the others are left out.
    assert torch.allclose(shares(TokenSampling(top_p=0.8), logits), two / two.sum(), atol=0.03)
    assert shares(TokenSampling(top_p=0.5), logits)[1] == 1
    assert shares(TokenSampling(temperature=0), logits)[1] == 1


def test_wrong_prompts_and_settings_are_refused(model):
    def run(sampling=None, **changes):
        asked = {
            "prompt": [VOCAB.bos],
            "max_new_tokens": 3,
            "stop_id": VOCAB.eos,
            "sampling": sampling or SamplingParams(),
            **changes,
        }
        return continuations(model, VOCAB, [Request(**asked)])

    with pytest.raises(DocumentError):
        run(prompt=[VOCAB.eoi], grammar=Grammar(VOCAB))
    with pytest.raises(ConfigError, match="temperature is -1"):
        run(SamplingParams(text=TokenSampling(temperature=-1)))
    with pytest.raises(ConfigError, match="top_k is -1"):
        run(SamplingParams(vision=TokenSampling(top_k=-1)))
    with pytest.raises(ConfigError, match="top_p is 0"):
        run(SamplingParams(vision=TokenSampling(top_p=0)))
    with pytest.raises(ConfigError, match="guidance is -2"):
        run(SamplingParams(guidance=-2))
    engine = Engine(model, VOCAB, rows=1, capacity=20)
    with pytest.raises(ConfigError, match="2 rows of 21 tokens; this engine has 1 of 20"):
        prompt = [VOCAB.bos]
        engine.submit(
            0,
            Request(
                prompt=prompt, max_new_tokens=20, stop_id=0, unconditional=prompt, sampling=SamplingParams(guidance=2)
            ),
        )
