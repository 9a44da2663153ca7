import numpy as np
import pytest
import torch

from reelmill.errors import ConfigError
from reelmill.eval.generation import Sampling, generate, image_codes
from reelmill.tokenize.documents import DocumentError, Grammar, generation_prompt, parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=VOCAB.size, hidden=16, layers=2, heads=2, kv_heads=1, mlp=24)
    return Decoder(config).eval()


@pytest.mark.parametrize("seed", range(4))
def test_random_weights_under_the_grammar_draw_whole_documents(model, seed):
    grammar = Grammar(VOCAB, one_block=True)
    prompt = generation_prompt(VOCAB, "a cat", 3, 5)
    (tokens,) = generate(model, prompt, 30, end=VOCAB.eos, sampling=Sampling(seed=seed), grammar=grammar)
    document = parse(VOCAB, np.concatenate((prompt, tokens)))
    assert document.kind == "image"
    assert document.caption == "a cat"
    assert document.grid == (1, 3, 5)
    assert len(tokens) == 3 * 6 + 3


def test_a_video_prompt_draws_all_its_latent_frames(model):
    prompt = generation_prompt(VOCAB, "", 2, 2, fps=8.0, seconds=1.5)
    grammar = Grammar(VOCAB, one_block=True)
    (tokens,) = generate(model, prompt, 99, end=VOCAB.eos, grammar=grammar)
    assert parse(VOCAB, np.concatenate((prompt, tokens))).codes.shape == (3, 2, 2)


def test_several_continuations_differ_and_the_seed_decides_them(model):
    prompt = generation_prompt(VOCAB, "x", 2, 3)
    grammar = Grammar(VOCAB, one_block=True)
    one = generate(model, prompt, 20, end=VOCAB.eos, count=3, grammar=grammar)
    two = generate(model, prompt, 20, end=VOCAB.eos, count=3, grammar=grammar)
    assert [a.tolist() for a in one] == [a.tolist() for a in two]
    assert len({a.tobytes() for a in one}) == 3
    other = generate(model, prompt, 20, end=VOCAB.eos, count=3, grammar=grammar, sampling=Sampling(seed=1))
    assert [a.tolist() for a in one] != [a.tolist() for a in other]


def test_the_likeliest_token_is_what_the_whole_forward_says(model):
    prompt = generation_prompt(VOCAB, "greedy", 2, 2)
    (tokens,) = generate(model, prompt, 12, end=-1, sampling=Sampling(temperature=0))
    ids = np.concatenate((prompt, tokens))
    with torch.no_grad():
        whole = torch.from_numpy(ids.astype(np.int64))[None]
        logits = model.lm_head(model(whole, torch.arange(len(ids))[None]))[0]
    assert logits.argmax(-1)[len(prompt) - 1 : -1].tolist() == tokens.tolist()


def test_top_k_draws_from_the_k_likeliest_only(model):
    prompt = generation_prompt(VOCAB, "k", 2, 2)
    (first,) = generate(model, prompt, 1, end=-1, sampling=Sampling(temperature=0))
    draws = generate(model, prompt, 1, end=-1, count=50, sampling=Sampling(temperature=5.0, top_k=1))
    assert {int(d[0]) for d in draws} == {int(first[0])}
    wide = generate(model, prompt, 1, end=-1, count=50, sampling=Sampling(temperature=5.0, top_k=0))
    assert len({int(d[0]) for d in wide}) > 10


def test_image_codes_are_of_the_size_asked_for(model):
    codes = image_codes(model, Grammar(VOCAB, one_block=True), "a dog", 4, 6)
    assert codes.shape == (4, 6)
    assert codes.min() >= 0
    assert codes.max() < VOCAB.codes


def test_wrong_prompts_and_settings_are_refused(model):
    with pytest.raises(DocumentError):
        generate(model, [VOCAB.eoi], 3, end=VOCAB.eos, grammar=Grammar(VOCAB))
    with pytest.raises(ConfigError, match="temperature is -1"):
        generate(model, [VOCAB.bos], 3, end=VOCAB.eos, sampling=Sampling(temperature=-1))
    with pytest.raises(ConfigError, match="top_k is -1"):
        generate(model, [VOCAB.bos], 3, end=VOCAB.eos, sampling=Sampling(top_k=-1))
