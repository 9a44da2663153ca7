"""The grammar beside the rule that Emu3's released inference decodes by, and where the two must differ.

The rule is written here anew from its description: it looks for the first IMG of the prompt, counts tokens from there,
and says which ids may come next from the count alone.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.eval.generation import SamplingParams, TokenSampling, continuations, image_request, interleaved_request
from reelmill.tokenize.documents import Grammar, Visual, generation_prompt, interleaved_document, parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import ModelConfig

VOCAB = Vocabulary("bytes", 8)
ONE_BLOCK = Grammar(VOCAB, one_block=True)
CODES = ((VOCAB.vision_start, VOCAB.vision_stop),)


def emu3_rule(tokens, h, w):
    """The ids that may follow `tokens`, as the grammar gives them."""
    count, row = len(tokens) - tokens.index(VOCAB.img), w + 1
    if count % row == 0:
        token = VOCAB.eol
    elif count > row * h + 3:
        token = VOCAB.pad
    else:
        after_rows = {1: VOCAB.eof, 2: VOCAB.eoi, 3: VOCAB.eos}
        token = after_rows.get(count - row * h)
    return CODES if token is None else ((token, token + 1),)


def decode(h, w, caption=b"", choose=lambda ranges: ranges[0][0], steps=None):
    """(tokens so far, ids that the grammar allows next) of an image, step by step."""
    tokens = generation_prompt(VOCAB, caption.decode(), h, w).tolist()
    state = ONE_BLOCK.advance_all(ONE_BLOCK.start(), tokens)
    for _ in range(steps or h * (w + 1) + 3):
        ranges = ONE_BLOCK.allowed(state)
        yield tokens, ranges
        tokens = [*tokens, choose(ranges)]
        state = ONE_BLOCK.advance(state, tokens[-1])


@pytest.mark.parametrize("h", range(1, 25))
def test_the_grammar_is_emu3s_rule_at_every_step_of_every_size(h):
    for w in range(3, 25):
        for tokens, allowed in decode(h, w):
            assert allowed == emu3_rule(tokens, h, w)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 40), st.integers(3, 140), st.binary(max_size=9).map(lambda b: bytes(c % 128 for c in b)), st.data()
)
def test_whatever_is_drawn_at_larger_sizes_too(h, w, caption, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for tokens, allowed in decode(h, w, caption, lambda ranges: int(rng.integers(*ranges[0]))):
        assert allowed == emu3_rule(tokens, h, w)


def test_after_the_end_both_pad_but_where_the_rule_takes_the_padding_for_rows():
    h, w = 2, 4
    for tokens, allowed in list(decode(h, w, steps=40))[h * (w + 1) + 3 :]:
        count = len(tokens) - tokens.index(VOCAB.img)
        assert allowed == ((VOCAB.pad, VOCAB.pad + 1),)
        assert (allowed == emu3_rule(tokens, h, w)) == (count % (w + 1) != 0)


@pytest.mark.parametrize("w", [1, 2])
@pytest.mark.parametrize("h", [1, 2, 5])
def test_narrow_images_are_whole_where_the_rule_never_ends_them(h, w):
    steps = list(decode(h, w))
    last, _ = steps[-1]
    assert parse(VOCAB, np.array([*last, VOCAB.eos])).grid == (1, h, w)
    by_rule = [emu3_rule(tokens, h, w) for tokens, _ in steps]
    # EOI or EOS falls on a multiple of the row, where the rule sees the end of a row first.
    assert ((VOCAB.eoi, VOCAB.eoi + 1),) not in by_rule or ((VOCAB.eos, VOCAB.eos + 1),) not in by_rule


def test_an_earlier_image_in_the_prompt_misleads_the_rule_and_not_the_grammar():
    earlier = interleaved_document(VOCAB, ["look", Visual(np.zeros((3, 7), dtype=np.int64)), "again"])[:-1].tolist()
    grammar, h, w = Grammar(VOCAB), 2, 5
    tokens = [*earlier, *generation_prompt(VOCAB, "", h, w)[1:].tolist()]
    state, agreed = grammar.advance_all(grammar.start(), tokens), []
    while tokens[-1] != VOCAB.eoi:
        ranges = grammar.allowed(state)
        agreed.append(ranges == emu3_rule(tokens, h, w))
        tokens.append(ranges[0][0])
        state = grammar.advance(state, tokens[-1])
    blocks = parse(VOCAB, np.array([*tokens, VOCAB.eos])).blocks
    assert [(block.header.h, block.header.w) for block in blocks] == [(3, 7), (2, 5)]
    assert not all(agreed)


class Script(torch.nn.Module):
    """A model that wants to say certain tokens, whatever it reads."""

    def __init__(self, wishes, prompt):
        super().__init__()
        self.config = ModelConfig(vocab_size=VOCAB.size, hidden=VOCAB.size, layers=1, heads=1, kv_heads=1)
        self.embed_tokens = torch.nn.Embedding(1, 1)
        self.lm_head = torch.nn.Linear(VOCAB.size, VOCAB.size, bias=False)
        self.lm_head.weight.data = torch.eye(VOCAB.size)
        self.backend = None
        self.wishes = torch.tensor([0] * (prompt - 1) + wishes)

    def forward(self, tokens, positions, cache):
        return torch.nn.functional.one_hot(self.wishes[positions], VOCAB.size).float()


def said(wishes, prompt, **how):
    greedy = SamplingParams(text=TokenSampling(temperature=0), vision=TokenSampling(temperature=0))
    request = interleaved_request(Grammar(VOCAB), [prompt], len(wishes), sampling=greedy, **how)
    with torch.no_grad():
        return continuations(Script(wishes, len(request.prompt)), VOCAB, [request])[0].tolist()


def test_a_free_model_opens_an_image_and_writes_its_size():
    wishes = interleaved_document(VOCAB, ["here: ", Visual(np.arange(6).reshape(2, 3)), " and ",
        Visual(np.arange(4).reshape(2, 1, 2), 8.0, 1.0), " done"])[1:].tolist()  # fmt: skip
    assert said(wishes, "two pictures, please") == wishes


def test_what_a_free_model_may_not_say_is_put_right():
    codes = [VOCAB.vision_start + n for n in range(4)]
    eol, eof, eoi = VOCAB.eol, VOCAB.eof, VOCAB.eoi
    body = [*codes[:2], eol, *codes[2:], eol, eof, eoi]
    wanted = [*b"a", VOCAB.boi, *b"2*2", VOCAB.img, *body, *b"b", VOCAB.eos]
    for place, wrong in [(1, VOCAB.eoi), (5, VOCAB.boi), (8, codes[3]), (12, VOCAB.eos), (13, VOCAB.pad)]:
        wishes = [*wanted[:place], wrong, *wanted[place + 1 :]]
        tokens = said(wishes, "x")
        assert tokens[place] != wrong
        grammar = Grammar(VOCAB)
        assert grammar.advance_all(grammar.start(), [VOCAB.bos, *b"x", *tokens]).position == 2 + len(tokens)


def test_prompts_of_image_requests_end_where_emu3s_do():
    request = image_request(ONE_BLOCK, "a dog", 90, 90)
    assert request.prompt.tolist() == [VOCAB.bos, *b"a dog", VOCAB.boi, *b"90*90", VOCAB.img]
    assert request.max_new_tokens == 90 * 91 + 3
