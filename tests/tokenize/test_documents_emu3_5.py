"""Emu3.5's layout: written out by hand once, read back, and its grammar beside the rule of its released inference.

The rule is written here anew from its description: text until BOI; then a header of two digits, `*` and two digits (or
the header that is given); then codes, EOL where the count since IMG is a multiple of the row, EOI at the end.
"""

from functools import lru_cache

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize import documents, text
from reelmill.tokenize.documents import (
    TASKS,
    DocumentError,
    Grammar,
    Header,
    Phase,
    Thought,
    TokenKind,
    Turn,
    Visual,
    chat_document,
    grammar_of,
    interleaved_document,
    parse,
    parse_unchecked,
    passages,
    task_document,
    task_prompt,
    unconditional_prompt,
)
from reelmill.tokenize.layout import EMU3, EMU3_5
from reelmill.tokenize.shards import document_row, read_footer, verify_shard, write_shard
from reelmill.tokenize.vocabulary import Vocabulary

EMU35, BYTES = Vocabulary("qwen", 131_072, EMU3_5), Vocabulary("bytes", 64, EMU3_5)
VOCABS = pytest.mark.parametrize("vocab", [EMU35, BYTES], ids=["qwen", "bytes"])
BSS, ESS, BOG, EOG, BOC, EOC = 151_746, 151_747, 151_706, 151_707, 151_696, 151_697
TRICKY = ["<|extra_100|>", "<|image start|>", "<|extra_51|>", "2*2", "é", "\n", "日本"]

texts = st.text(max_size=12) | st.lists(st.sampled_from(TRICKY), max_size=4).map("".join)
grids = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 999)).map(
    lambda drawn: np.random.default_rng(drawn[2]).integers(0, 64, drawn[:2])
)
parts = st.lists(texts | grids.map(Visual) | st.builds(Thought, texts, st.booleans()), max_size=5)
answers = parts.filter(lambda found: any(isinstance(part, Visual) for part in found))


@lru_cache
def released_tokenizer():
    """Emu3.5's: the whole string at once, special strings in it are specials."""
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205))]
    names += ["<|image token|>", "<|image start|>", "<|image end|>"]
    names += [f"<|visual token {n:06d}|>" for n in range(131_072)]
    plain = text.load("qwen")._bpe
    specials = {name: 151_643 + n for n, name in enumerate(names)}
    return tiktoken.Encoding(
        "emu3.5", pat_str=plain._pat_str, mergeable_ranks=plain._mergeable_ranks, special_tokens=specials
    )


def released_ids(string):
    return released_tokenizer().encode(string, allowed_special="all")


def released_image(codes):
    rows = "<|extra_200|>".join("".join(f"<|visual token {code:06d}|>" for code in row) for row in codes)
    return f"<|image start|>{len(codes)}*{len(codes[0])}<|image token|>{rows}<|image end|>"


# Layout


def test_ids_are_emu3_5s():
    v = EMU35
    assert (v.size, v.vision_start, v.vision_stop) == (282_926, 151_854, 282_926)
    assert (v.bss, v.ess, v.bog, v.eog, v.boc, v.eoc) == (BSS, ESS, BOG, EOG, BOC, EOC)
    assert [v.name(token) for token in (BSS, EOC, 151_746 - 1)] == ["BSS", "EOC", "<|extra_99|>"]


def test_an_image_token_by_token():
    v, code = EMU35, 151_854
    found = documents.image_document(v, np.array([[0, 1, 2], [3, 4, 131_071]]), "hello world")
    block = [v.boi, 17, 9, 18, v.img, code, code + 1, code + 2, v.eol, code + 3, code + 4, 282_925, v.eoi]
    assert found.tolist() == [v.bos, 14990, 1879, *block, v.eos]


@pytest.mark.parametrize(("side", "length"), [(64, 4_167), (32, 1_063)])
def test_block_lengths_are_emu3_5s(side, length):
    assert len(documents.image_document(EMU35, np.zeros((side, side), dtype=int), "")) == length + 2


def test_a_video_is_refused_with_what_to_do_instead():
    with pytest.raises(DataError, match=r"emu3\.5 has no video: a clip is its frames"):
        documents.video_document(BYTES, np.zeros((1, 2, 2), dtype=int), "", 4, 1)
    with pytest.raises(DataError, match="no video"):
        documents.generation_prompt(BYTES, "", 2, 2, fps=4, seconds=1)


def test_thoughts_and_tasks_are_this_layouts_alone():
    emu3 = Vocabulary("bytes", 64)
    with pytest.raises(DataError, match="no thoughts"):
        interleaved_document(emu3, [Thought("why")])
    with pytest.raises(DataError, match=r"tasks are Emu3\.5's"):
        task_prompt(emu3, "t2i", "a cat")
    grammar = Grammar(emu3)
    for token in (emu3.bss, emu3.bog, emu3.boc):
        with pytest.raises(DocumentError, match="found B"):
            grammar.advance_all(grammar.start(), [emu3.bos, token])


@pytest.mark.parametrize(
    ("ratio", "area", "grid"),
    [
        ("1:1", 1_048_576, (64, 64)),
        ("1:1", 518_400, (45, 45)),
        ("4:3", 518_400, (39, 52)),
        ("800:531", 262_144, (26, 39)),
    ],
)
def test_emu3_5s_size_rule(ratio, area, grid):
    assert documents.grid_for_ratio(ratio, area, 16, EMU3_5) == grid


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(65_536, 4_000_000))
def test_sizes_are_those_of_the_released_resize(width, height, area):
    """Its description: aspect kept, both sides cut to whole pixels, then to the nearest multiple of 16."""
    tall = int((area / (width / height)) ** 0.5)
    wide = int(tall * (width / height))
    sides = tuple((side + 8) // 16 for side in (tall, wide))
    if all(sides):
        assert documents.grid_for_ratio(f"{width}:{height}", area, 16, EMU3_5) == sides
    else:
        with pytest.raises(ConfigError, match="16 x 16"):
            documents.grid_for_ratio(f"{width}:{height}", area, 16, EMU3_5)


# Tasks

CODES = np.array([[5, 131_071], [0, 7], [1, 2]])


@pytest.mark.parametrize(
    ("task", "system", "asked"),
    [
        ("t2i", "You are a helpful assistant for t2i task.", "{question}{images}"),
        ("x2i", "You are a helpful assistant for x2i task.", "{images}{question}"),
        ("story", "You are a helpful assistant for story task.", "{question}{images}"),
        (
            "howto",
            "You are a helpful assistant for howto task. Please generate a response with interleaved text and images.",
            "{question}{images}",
        ),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_prompts_are_the_released_ones_to_the_id(task, system, asked, count):
    question = "Replace it, isn't it?  Été 2024"
    pictures = [Visual(np.minimum(CODES + n, 131_071)) for n in range(count)]
    images = "".join(released_image(picture.codes) for picture in pictures)
    string = f"<|extra_203|>{system} USER: {asked.format(question=question, images=images)} ASSISTANT: <|extra_100|>"
    assert task_prompt(EMU35, task, question, pictures).tolist() == released_ids(string)
    plain = f"<|extra_203|>You are a helpful assistant. USER: {images} ASSISTANT: <|extra_100|>"
    assert unconditional_prompt(EMU35, pictures).tolist() == released_ids(plain)


def test_an_answer_is_the_released_one_to_the_id():
    answer = ["Step 1.", Thought("the whole", is_global=True), Thought("a pan"), Visual(CODES), "Done"]
    chat = task_document(EMU35, "howto", "Cook", answer)
    string = "Step 1.<|extra_60|>the whole<|extra_61|><|extra_50|>a pan<|extra_51|>" + released_image(CODES)
    expected = released_ids(string + "Done<|extra_101|><|extra_204|>")
    ((start, stop),) = chat.answers
    assert chat.tokens[start:].tolist() == expected
    assert (chat.tokens[start - 1], chat.tokens[stop - 1], stop) == (BSS, ESS, len(chat.tokens) - 1)


def test_unknown_tasks_name_the_nearest():
    with pytest.raises(ConfigError, match=r"no task 'storry'; did you mean 'story'"):
        task_prompt(BYTES, "storry", "x")
    assert set(TASKS) == {"t2i", "x2i", "howto", "story", "explore", "vla"}


def test_turns_follow_each_other_and_begin_with_their_prompts():
    turns = [Turn(["What?"], ["A cat."]), Turn(["Draw it"], [Thought("how"), Visual(CODES[:1] % 64)])]
    chat = chat_document(BYTES, turns)
    for number, (start, stop) in enumerate(chat.answers):
        prompt = documents.chat_prompt(BYTES, turns[number].question, turns[:number])
        assert np.array_equal(chat.tokens[:start], prompt)
        assert chat.tokens[stop - 1] == BYTES.ess
    said = [(p.kind, p.text, p.in_answer) for p in passages(parse(BYTES, chat.tokens))]
    assert said == [
        ("text", "You are a helpful assistant. USER: What? ASSISTANT: ", False),
        ("text", "A cat.", True),
        ("text", " USER: Draw it ASSISTANT: ", False),
        ("thought", "how", True),
        ("block", "", True),
    ]
    with pytest.raises(DataError, match="answer of turn 1 is empty"):
        chat_document(BYTES, [Turn(["x"], [Thought(" ")])])


# Round trips


@VOCABS
@settings(deadline=None, max_examples=60)
@given(question=texts, pictures=st.lists(grids.map(Visual), max_size=3), answer=answers)
def test_documents_round_trip(vocab, question, pictures, answer):
    chat = task_document(vocab, "story", question, answer, pictures)
    document = parse(vocab, chat.tokens)
    assert document.kind == "interleaved"
    tidy = vocab.tokenizer.normalise
    found = passages(document)
    kinds = {"block": [], "thought": [], "global_thought": []}
    for passage in found:
        if passage.kind in kinds and passage.in_answer:
            kinds[passage.kind].append(passage)
    wanted = [part for part in answer if isinstance(part, Visual)]
    for visual, passage in zip(wanted, kinds["block"], strict=True):
        assert np.array_equal(document.block_codes(passage.block)[0], visual.codes)
    for name, is_global in (("thought", False), ("global_thought", True)):
        thoughts = [part.text for part in answer if isinstance(part, Thought) and part.is_global == is_global]
        assert [passage.text for passage in kinds[name]] == list(map(tidy, thoughts))
    words = "".join(passage.text for passage in found if passage.kind == "text" and passage.in_answer)
    assert words == "".join(tidy(part) for part in answer if isinstance(part, str))
    asked = "".join(passage.text for passage in found if not passage.in_answer)
    before = f"You are a helpful assistant for story task. USER: {question}"
    assert asked == (tidy(before) + " ASSISTANT: " if pictures else tidy(before + " ASSISTANT: "))
    assert len(document.blocks) == len(pictures) + len(wanted)


@VOCABS
@settings(deadline=None, max_examples=60)
@given(parts=parts)
def test_an_unchecked_document_is_read_as_a_parsed_one_and_every_token_has_its_kind(vocab, parts):
    tokens = interleaved_document(vocab, parts)
    read, unchecked = parse(vocab, tokens), parse_unchecked(vocab, tokens)
    assert unchecked.blocks == read.blocks
    assert np.array_equal(unchecked.kinds, read.kinds)
    for token, kind in zip(tokens.tolist(), read.kinds.tolist(), strict=True):
        is_text = token < vocab.text_size
        is_code = token >= vocab.vision_start
        assert kind in ((TokenKind.TEXT, TokenKind.META) if is_text else (TokenKind.VISION,) if is_code else (1,))


@given(codes=grids, caption=texts, after=st.booleans())
def test_images_round_trip(codes, caption, after):
    document = parse(BYTES, documents.image_document(BYTES, codes, caption, caption_after=after))
    assert (document.kind, document.caption) == ("image", BYTES.tokenizer.normalise(caption))
    assert document.grid == (1, *codes.shape)
    assert np.array_equal(document.codes[0], codes)
    bounds = documents.latent_frame_bounds(document)
    assert np.diff(bounds).tolist() == [codes.shape[0] * (codes.shape[1] + 1) - 1]


# The grammar is what reading takes, token by token


def same_verdict(vocab, tokens):
    """Where `parse` refuses the tokens, or None; the state machine must say the same."""
    try:
        parse(vocab, tokens)
        by_parse = None
    except DocumentError as error:
        by_parse = error.position
    grammar = grammar_of(vocab)
    state, by_grammar = grammar.start(), None
    for position, token in enumerate(tokens):
        is_allowed = not state.is_complete and 0 <= token < vocab.size and grammar.mask(state)[token]
        if not is_allowed:
            by_grammar = position
            break
        state = grammar.advance(state, token)
    if by_grammar is None and not state.is_complete:
        by_grammar = len(tokens)
    assert by_parse == by_grammar
    return by_parse


def special_ids(vocab):
    spans = [vocab.bss, vocab.ess, vocab.bog, vocab.eog, vocab.boc, vocab.eoc]
    structure = [vocab.bos, vocab.eos, vocab.pad, vocab.boi, vocab.eoi, vocab.img, vocab.eol, vocab.eof]
    return [*spans, *structure, -1, 0, vocab.text_size, vocab.vision_start, vocab.size]


@given(data=st.data(), question=texts, answer=answers)
@settings(max_examples=250, deadline=None)
def test_reading_and_grammar_agree_on_mutants(data, question, answer):
    tokens = task_document(BYTES, "t2i", question, answer).tokens.tolist()
    assert same_verdict(BYTES, tokens) is None
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(tokens)))
        change = data.draw(st.sampled_from(["replace", "insert", "delete"]))
        ids = st.sampled_from([*special_ids(BYTES), *b"0123456789*. fps"])
        tokens[position : position + (change != "insert")] = [] if change == "delete" else [data.draw(ids)]
    same_verdict(BYTES, tokens)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_grammar_allows_can_be_read(data):
    """Constrained decoding never gets stuck and ends in documents."""
    grammar, v = grammar_of(BYTES), BYTES
    state, tokens = grammar.start(), []
    free = st.sampled_from([*b"12*a", v.boi, v.img, v.eos, v.bss, v.ess, v.bog, v.eog, v.boc, v.eoc])
    while not state.is_complete and len(tokens) < 300:
        mask = grammar.mask(state)
        wanted = data.draw(free) if state.phase in (Phase.TEXT, Phase.HEADER, Phase.THOUGHT) else -1
        tokens.append(wanted if wanted >= 0 and mask[wanted] else int(np.flatnonzero(mask)[-1]))
        state = grammar.advance(state, tokens[-1])
    if state.is_complete:
        assert same_verdict(v, tokens) is None


def test_an_answer_may_end_with_the_document():
    tokens = task_document(BYTES, "t2i", "x", ["y"]).tokens
    cut = np.delete(tokens, np.flatnonzero(tokens == BYTES.ess))
    assert [passage.in_answer for passage in passages(parse(BYTES, cut))] == [False, True]


# The rule of the released inference


def rule(tokens, vocab, h, w):
    """(first, last) ids that may follow tokens that stand inside a block of h x w codes, whose header is given."""
    boi = len(tokens) - 1 - tokens[::-1].index(vocab.boi)
    if vocab.img not in tokens[boi:]:
        meta = [*f"{h}*{w}".encode()]
        done = len(tokens) - boi - 1
        return (meta[done],) * 2 if done < len(meta) else (vocab.img,) * 2
    count = len(tokens) - (boi + tokens[boi:].index(vocab.img))
    if count == h * (w + 1):
        return (vocab.eoi,) * 2
    return (vocab.eol,) * 2 if count % (w + 1) == 0 else (vocab.vision_start, vocab.vision_stop - 1)


def drawn(h, w, choose):
    """(tokens so far, grammar's ranges) of the steps from the first code to EOI."""
    grammar = grammar_of(BYTES)
    tokens = [*task_prompt(BYTES, "t2i", "a").tolist(), BYTES.boi, *f"{h}*{w}".encode(), BYTES.img]
    state = grammar.advance_all(grammar.start(), tokens)
    while tokens[-1] != BYTES.eoi:
        ranges = grammar.allowed(state)
        yield tokens, ranges
        tokens = [*tokens, choose(ranges)]
        state = grammar.advance(state, tokens[-1])
    assert state.phase == Phase.TEXT


@pytest.mark.parametrize("h", range(1, 21))
def test_codes_are_drawn_by_the_released_rule_at_every_step_of_every_size(h):
    for w in range(1, 21):
        for tokens, ranges in drawn(h, w, lambda ranges: ranges[0][0]):
            first, last = rule(tokens, BYTES, h, w)
            assert ranges == ((first, last + 1),)


@settings(max_examples=12, deadline=None)
@given(h=st.integers(1, 30), w=st.integers(1, 120), seed=st.integers(0, 99))
def test_whatever_is_drawn_at_larger_sizes_too(h, w, seed):
    rng = np.random.default_rng(seed)
    for tokens, ranges in drawn(h, w, lambda ranges: int(rng.integers(*ranges[0]))):
        first, last = rule(tokens, BYTES, h, w)
        assert ranges == ((first, last + 1),)


@settings(max_examples=40, deadline=None)
@given(h=st.integers(1, 9_999), w=st.integers(1, 9_999))
def test_any_size_may_be_written_and_a_given_one_takes_the_released_steps(h, w):
    """The released rule writes two digits a side; a size of two digits takes the same steps here, and so do others."""
    grammar = grammar_of(BYTES)
    tokens = [*task_prompt(BYTES, "t2i", "a").tolist(), BYTES.boi]
    state = grammar.advance_all(grammar.start(), tokens)
    offset = 1
    free = {1: b"123456789", 2: b"0123456789", 3: b"*", 4: b"123456789", 5: b"0123456789"}
    while state.phase == Phase.HEADER:
        first, last = rule(tokens, BYTES, h, w)
        assert first == last
        assert grammar.mask(state)[first]
        if 10 <= h <= 99 and 10 <= w <= 99:
            by_rule = [*free.get(offset, [BYTES.img])]
            assert first in by_rule
            assert grammar.mask(state)[by_rule].all()
        offset += 1
        tokens.append(first)
        state = grammar.advance(state, first)
    assert (state.t, state.h, state.w) == (1, h, w)


def test_text_is_what_the_released_rule_allows_at_most():
    """It lets everything but codes stand in text; the grammar keeps of that what a document may say."""
    grammar = grammar_of(BYTES)
    inside = grammar.advance_all(grammar.start(), task_prompt(BYTES, "t2i", "a").tolist())
    outside = grammar.advance_all(grammar.start(), [BYTES.bos])
    assert not grammar.mask(inside)[BYTES.vision_start :].any()
    marks = {name: getattr(BYTES, name) for name in ("boi", "eos", "bss", "ess", "bog", "boc", "eoi", "eog", "pad")}
    assert {n for n, t in marks.items() if grammar.mask(inside)[t]} == {"boi", "eos", "ess", "bog", "boc"}
    assert {n for n, t in marks.items() if grammar.mask(outside)[t]} == {"boi", "eos", "bss", "bog", "boc"}
    thinking = grammar.advance(inside, BYTES.boc)
    assert {n for n, t in (*marks.items(), ("eoc", BYTES.eoc)) if grammar.mask(thinking)[t]} == {"eoc"}


def test_later_images_have_sizes_of_their_own():
    two = [Visual(np.zeros((3, 7), dtype=int)), "and", Visual(np.zeros((12, 1), dtype=int))]
    blocks = parse(BYTES, task_document(BYTES, "story", "x", two).tokens).blocks
    assert [(block.header.h, block.header.w) for block in blocks] == [(3, 7), (12, 1)]


def test_one_block_closes_answer_and_document():
    grammar, v = Grammar(BYTES, one_block=True), BYTES
    tokens = [*task_prompt(v, "t2i", "a").tolist(), v.boi, *b"1*1", v.img, v.vision_start, v.eoi]
    state = grammar.advance_all(grammar.start(), tokens)
    for token in (v.ess, v.eos):
        assert grammar.allowed(state) == ((token, token + 1),)
        state = grammar.advance(state, token)
    assert state.is_complete
    plain = grammar.advance_all(grammar.start(), [v.bos, v.boi, *b"1*1", v.img, v.vision_start, v.eoi])
    assert grammar.allowed(plain) == ((v.eos, v.eos + 1),)


# Shards


def test_shards_say_their_layout_and_emu3s_say_what_they_always_said(tmp_path):
    fingerprint = "ab" * 32
    story = task_document(BYTES, "story", "a cat", ["One.", Visual(np.zeros((2, 3), dtype=int))])
    known = {"sample_id": "s", "item_id": "i", "fingerprint": fingerprint}
    row = document_row(BYTES, story.tokens, answers=story.answers, **known)
    assert (row["kind"], row["n_vision"]) == ("interleaved", 6)
    path = tmp_path / "unit-000000.parquet"
    write_shard(path, [row], BYTES, fingerprint)
    assert verify_shard(path, BYTES) == []
    assert "not Vocabulary" in verify_shard(path, Vocabulary("bytes", 64))[0]
    metadata = read_footer(path)[1].to_metadata()
    assert metadata["reelmill.vocabulary"] == '{"text": "bytes", "codes": 64, "layout": "emu3.5"}'
    assert read_footer(path)[1].vocab.layout == EMU3_5
    assert Vocabulary("bytes", 64).to_json() == '{"text": "bytes", "codes": 64}'
    assert Vocabulary.from_json('{"text": "qwen", "codes": 32768}').layout == EMU3
    with pytest.raises(DataError, match=r"layouts are emu3, emu3\.5"):
        Vocabulary.from_json('{"text": "qwen", "codes": 32768, "layout": "emu4"}')


def test_a_document_of_one_layout_is_none_of_the_other():
    emu3, codes = Vocabulary("bytes", 64), np.zeros((2, 2), dtype=int)
    with pytest.raises(DocumentError, match="found EOI at position 12; allowed there: EOL"):
        parse(emu3, documents.image_document(BYTES, codes, "a"))
    with pytest.raises(DocumentError, match="found EOL at position 12; allowed there: EOI"):
        parse(BYTES, documents.image_document(emu3, codes, "a"))
    assert Header(2, 2).text == "2*2"
