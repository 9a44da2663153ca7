"""Emu3.5's tasks: prompts as requests, guidance by words and by pictures, sizes, folders that state their layout."""

import json

import numpy as np
import pytest
import torch

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import PRESETS, SamplingParams, TokenSampling, continuations, task_request
from reelmill.eval.generation.loading import load_decoder, load_model
from reelmill.tokenize.documents import Grammar, Header, Turn, Visual, parse, task_prompt, unconditional_prompt
from reelmill.tokenize.layout import EMU3, EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.hub import export_model, read_vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 64, EMU3_5)
PICTURE = Visual(np.arange(6).reshape(2, 3))
GREEDY = TokenSampling(temperature=0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig(vocab_size=VOCAB.size, hidden=32, layers=2, heads=4, kv_heads=2, mlp=48)).eval()
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder.requires_grad_(False)


def whole_logits(model, prompt, tokens):
    ids = torch.as_tensor(np.concatenate((prompt, tokens)).astype(np.int64))[None]
    return model.lm_head(model(ids, torch.arange(ids.shape[1])[None]))[0][len(prompt) - 1 : -1]


@pytest.mark.parametrize(("words", "pictures"), [(3.0, 1.0), (1.0, 2.0), (3.0, 1.5)])
def test_guidance_by_words_and_by_pictures(model, words, pictures):
    sampling = SamplingParams(vision=GREEDY, text=GREEDY, guidance=words, image_guidance=pictures)
    grammar = Grammar(VOCAB, one_block=True, header=Header(2, 4))
    request = task_request(grammar, "x2i", "make it red", 400, pictures=[PICTURE], sampling=sampling)
    # The grammar leaves the model the choice of words before its picture: begin that picture here.
    opening = [VOCAB.boi, *VOCAB.tokenizer.encode("2*4"), VOCAB.img]
    request = type(request)(**{**vars(request), "generated": opening})
    (tokens,) = continuations(model, VOCAB, [request])
    answer = np.concatenate((opening, tokens))
    given, kept, nothing = (
        whole_logits(model, prompt, answer)
        for prompt in (
            task_prompt(VOCAB, "x2i", "make it red", [PICTURE]),
            unconditional_prompt(VOCAB, [PICTURE]),
            unconditional_prompt(VOCAB),
        )
    )
    guided = nothing + pictures * (kept - nothing) + words * (given - kept)
    codes = slice(VOCAB.vision_start, VOCAB.vision_stop)
    is_code = answer >= VOCAB.vision_start
    assert is_code.sum() == 8
    assert (guided[:, codes].argmax(-1).numpy() + VOCAB.vision_start)[is_code].tolist() == answer[is_code].tolist()
    assert (given[:, codes].argmax(-1).numpy() + VOCAB.vision_start)[is_code].tolist() != answer[is_code].tolist()
    assert len(request.prompts) == (2 if pictures == 1 else 3)


def test_pictures_guide_only_where_there_are_some():
    sampling = SamplingParams(guidance=2.0, image_guidance=2.0)
    assert len(task_request(Grammar(VOCAB), "t2i", "a cat", 9, sampling=sampling).prompts) == 2
    with pytest.raises(ConfigError, match="image guidance is -1"):
        SamplingParams(image_guidance=-1).check()


@pytest.mark.parametrize("seed", range(3))
def test_an_edit_is_one_picture_of_the_given_size_whatever_the_size_of_its_references(model, seed):
    grammar = Grammar(VOCAB, one_block=True, header=Header(3, 12))
    references = [PICTURE, Visual(np.zeros((1, 5), dtype=np.int64)), Visual(np.zeros((12, 1), dtype=np.int64))]
    request = task_request(grammar, "x2i", "both", 4000, pictures=references, sampling=SamplingParams(seed=seed))
    (tokens,) = continuations(model, VOCAB, [request])
    document = parse(VOCAB, np.concatenate((request.prompt, tokens)))
    assert [(block.header.h, block.header.w) for block in document.blocks] == [(2, 3), (1, 5), (12, 1), (3, 12)]
    assert tokens[-3:].tolist() == [VOCAB.eoi, VOCAB.ess, VOCAB.eos]


def test_a_model_writes_sizes_of_any_number_of_digits_itself(model):
    grammar = Grammar(VOCAB, one_block=True)
    request = task_request(grammar, "t2i", "a cat", 300)
    state = grammar.advance_all(Grammar(VOCAB).start(), request.prompts[0].tolist())
    written = set()
    rng = np.random.default_rng(0)
    for _ in range(800):
        after, text = grammar.advance(state, VOCAB.boi), ""
        while True:
            ids = [token for start, stop in grammar.allowed(after) for token in range(start, stop)]
            token = int(rng.choice(ids))
            after = grammar.advance(after, token)
            if token == VOCAB.img:
                break
            text += VOCAB.tokenizer.decode([token])
        written.add(tuple(map(len, text.split("*"))))
    assert {(1, 1), (2, 2), (1, 3), (4, 2)} <= written


def test_an_earlier_turn_stands_before_the_question():
    before = [Turn(["forward"], [PICTURE])]
    request = task_request(Grammar(VOCAB), "explore", "left", 50, before=before, sampling=SamplingParams(guidance=2.0))
    text = VOCAB.tokenizer.decode([t for t in request.prompts[0].tolist() if t < VOCAB.text_size])
    assert text == "You are a helpful assistant for explore task. USER: forward ASSISTANT: 2*3 USER: left ASSISTANT: "
    assert request.prompts[1].tolist() == unconditional_prompt(VOCAB, [PICTURE]).tolist()


def test_tasks_are_those_of_emu3_5s_layout():
    with pytest.raises(DataError, match="layout emu3 have none"):
        task_request(Grammar(Vocabulary("bytes", 64, EMU3)), "t2i", "a cat", 9)
    with pytest.raises(ConfigError, match="no task 'storey'"):
        task_request(Grammar(VOCAB), "storey", "a cat", 9)


def test_presets_are_those_of_the_released_configurations():
    found = {
        name: (p.sampling.guidance, p.max_tokens, p.sampling.text, p.sampling.vision.top_k, p.area)
        for name, p in PRESETS.items()
        if name.startswith("emu3.5-")
    }
    usual = TokenSampling(top_k=1024, top_p=0.9, temperature=1.0)
    assert found == {
        "emu3.5-t2i": (5.0, 5_120, usual, 5_120, 1_048_576),
        "emu3.5-x2i": (3.0, 5_120, usual, 5_120, 1_048_576),
        "emu3.5-howto": (3.0, 32_768, TokenSampling(top_k=200, top_p=0.8, temperature=0.7), 10_240, 518_400),
        "emu3.5-story": (3.0, 32_768, usual, 10_240, 518_400),
    }


def test_an_exported_folder_states_its_vocabulary(tmp_path):
    sizes = ModelConfig(vocab_size=VOCAB.size, hidden=32, layers=1, heads=2, kv_heads=1, mlp=24)
    export_model(Decoder(sizes), VOCAB, tmp_path / "stated")
    assert load_decoder(tmp_path / "stated")[1] == VOCAB
    path = tmp_path / "stated" / "config.json"
    described = json.loads(path.read_text())
    del described["reelmill_vocabulary"]
    path.write_text(json.dumps(described))
    assert read_vocabulary(tmp_path / "stated") == Vocabulary("bytes", 64, EMU3), "64 codes and bytes are Emu3's layout"
    path.write_text(json.dumps({**described, "vocab_size": 282_926}))
    assert read_vocabulary(tmp_path / "stated") == Vocabulary("qwen", 131_072, EMU3_5)


def test_the_named_tokenizer_has_the_layout_of_the_folder(tmp_path):
    vocab = Vocabulary("bytes", 4096, EMU3_5)
    sizes = ModelConfig(vocab_size=vocab.size, hidden=16, layers=1, heads=2, kv_heads=1, mlp=24)
    export_model(Decoder(sizes), vocab, tmp_path / "hf")
    with pytest.raises(DataError, match=r"layout emu3\.5, reelmill-tok-xs has the codes of emu3's"):
        load_model(tmp_path / "hf", "reelmill-tok-xs")
