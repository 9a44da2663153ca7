"""Documents: layout, reading back, grammar, parts. Every layout is written out by hand here once."""

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import (
    DocumentError,
    Grammar,
    Header,
    Phase,
    TokenKind,
    Visual,
    grammar_of,
    parse,
    parse_unchecked,
)
from reelmill.tokenize.documents.header import is_header_prefix
from reelmill.tokenize.vocabulary import Vocabulary

QWEN, BYTES = Vocabulary(), Vocabulary("bytes", 64)
VOCABS = pytest.mark.parametrize("vocab", [QWEN, BYTES], ids=["qwen", "bytes"])
TRICKY = ["<|image start|>", "<|extra_204|>", "<|visual token 000001|>", "2*2", " 24fps 1s", "é", "\n", "\x00", "日本"]
texts = st.text(max_size=12) | st.lists(st.sampled_from(TRICKY), max_size=4).map("".join)
rates = st.sampled_from([0.5, 1.0, 2.0, 8.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 59.94, 120.0])


@st.composite
def code_grids(draw, codes=64, frames=None):
    shape = [draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 5))]
    shape[0] = frames or shape[0]
    return np.random.default_rng(draw(st.integers(0, 999))).integers(0, codes, shape)


@st.composite
def visuals(draw):
    if draw(st.booleans()):
        return Visual(draw(code_grids(frames=1))[0])
    codes, fps = draw(code_grids()), draw(rates)
    return Visual(codes, fps, documents.seconds_of(len(codes), fps))


parts = st.lists(texts | visuals(), max_size=4)


# Layout


def test_image_layout_token_by_token():
    v = QWEN
    code = v.vision_start
    found = documents.image_document(v, np.array([[0, 1, 2], [3, 4, 32_767]]), "hello world")
    assert found.dtype == np.int32
    block = [v.boi, 17, 9, 18, v.img, code, code + 1, code + 2, v.eol, code + 3, code + 4, 184_621, v.eol, v.eof, v.eoi]
    assert found.tolist() == [v.bos, 14990, 1879, *block, v.eos]
    after = documents.image_document(v, np.array([[0, 1, 2], [3, 4, 32_767]]), "hello world", caption_after=True)
    assert after.tolist() == [v.bos, *block, 14990, 1879, v.eos]


def test_video_layout_token_by_token():
    v, code = BYTES, BYTES.vision_start
    found = documents.video_document(v, np.arange(8).reshape(2, 2, 2), "cat", 29.97, documents.seconds_of(2, 29.97))
    frames = []
    for first in (0, 4):
        frames += [code + first, code + first + 1, v.eol, code + first + 2, code + first + 3, v.eol, v.eof]
    meta = list(b"2*2 29.97fps 0.266934s")
    assert found.tolist() == [v.bos, *b"cat", v.boi, *meta, v.img, *frames, v.eoi, v.eos]


def test_text_layout():
    assert documents.text_document(BYTES, "hi").tolist() == [BYTES.bos, *b"hi", BYTES.eos]


@pytest.mark.parametrize(
    ("h", "w", "block"), [(90, 90, 8_199), (68, 120, 8_238), (64, 64, 4_169)], ids=["720-square", "720-wide", "512"]
)
def test_block_lengths_are_emu3s(h, w, block):
    assert len(documents.image_document(QWEN, np.zeros((h, w), dtype=int), "")) == block + 2


def test_five_seconds_at_512_fit_the_context():
    found = documents.video_document(QWEN, np.zeros((30, 64, 64), dtype=int), "a caption", 24, 5)
    assert 124_830 < len(found) < 131_072
    assert parse(QWEN, found).n_vision == 122_880


@pytest.mark.parametrize(
    ("ratio", "area", "grid"),
    [
        ("1:1", 518_400, (90, 90)),
        ("16:9", 518_400, (68, 120)),
        ("9:16", 518_400, (120, 68)),
        ("4:3", 518_400, (78, 104)),
        ("3:4", 518_400, (104, 78)),
        ("3:2", 518_400, (73, 110)),
        ("2:3", 518_400, (110, 73)),
        ("21:9", 518_400, (59, 137)),
        ("1:1", 262_144, (64, 64)),
        ("16:9", 262_144, (48, 85)),
        ("4:3", 262_144, (55, 74)),
    ],
)
def test_emu3s_size_rule(ratio, area, grid):
    assert documents.grid_for_ratio(ratio, area) == grid


@pytest.mark.parametrize(
    ("ratio", "area"), [("16/9", 9), ("0:1", 9), (":", 9), ("a:b", 9), ("1:1", 9), ("1:1", -4), ("²:1", 9)]
)
def test_impossible_sizes(ratio, area):
    with pytest.raises(ConfigError):
        documents.grid_for_ratio(ratio, area)


@pytest.mark.parametrize(
    ("codes", "fps", "seconds", "message"),
    [
        (np.zeros((2, 2, 2), int), 24, 5, "30"),
        (np.zeros((2, 2), int), 24, 5, r"\[T, H, W\]"),
        (np.zeros((2, 2, 2), int), None, None, r"\[H, W\]"),
        (np.zeros((2, 2)), None, None, "integers"),
        (np.full((2, 2), 64), None, None, "0 to 63"),
        (np.full((2, 2), -1), None, None, "0 to 63"),
        (np.zeros((0, 2), int), None, None, "1 to 9,999"),
        (np.zeros((2, 10_000), int), None, None, "1 to 9,999"),
        (np.zeros((1, 2, 2), int), 24, 0.05, "less than one"),
        (np.zeros((1, 2, 2), int), 24, float("nan"), "duration"),
        (np.zeros((1, 2, 2), int), float("inf"), 1, "frame rate"),
        (np.zeros((1, 2, 2), int), -24, -5, "frame rate"),
        (np.zeros((1, 2, 2), int), 24, None, "both"),
    ],
)
def test_what_no_document_can_say_is_refused(codes, fps, seconds, message):
    with pytest.raises(DataError, match=message):
        documents.interleaved_document(BYTES, [Visual(codes, fps, seconds)])


# Reading back


@VOCABS
@settings(deadline=None)
@given(caption=texts, codes=code_grids(frames=1), after=st.booleans())
def test_images_round_trip(vocab, caption, codes, after):
    read = parse(vocab, documents.image_document(vocab, codes[0], caption, caption_after=after))
    assert read.kind == "image"
    assert read.caption == vocab.tokenizer.normalise(caption)
    assert read.caption_after == (after and caption != "")
    assert read.grid == codes.shape
    assert (read.fps, read.seconds) == (None, None)
    np.testing.assert_array_equal(read.codes, codes)


@VOCABS
@settings(deadline=None)
@given(caption=texts, codes=code_grids(), after=st.booleans(), fps=rates)
def test_videos_round_trip(vocab, caption, codes, after, fps):
    seconds = documents.seconds_of(len(codes), fps)
    read = parse(vocab, documents.video_document(vocab, codes, caption, fps, seconds, caption_after=after))
    assert read.kind == "video"
    assert read.caption == vocab.tokenizer.normalise(caption)
    assert read.caption_after == (after and caption != "")
    assert (read.grid, read.fps, read.seconds) == (codes.shape, fps, seconds)
    np.testing.assert_array_equal(read.codes, codes)


@VOCABS
@settings(deadline=None)
@given(text=texts)
def test_texts_round_trip(vocab, text):
    read = parse(vocab, documents.text_document(vocab, text))
    assert (read.kind, read.caption, read.grid, read.n_vision) == (
        "text",
        vocab.tokenizer.normalise(text),
        (0, 0, 0),
        0,
    )
    with pytest.raises(DataError, match="no codes"):
        _ = read.codes


@settings(deadline=None)
@given(parts=parts)
def test_interleaved_documents_round_trip(parts):
    read = parse(BYTES, documents.interleaved_document(BYTES, parts))
    written = [part for part in parts if isinstance(part, Visual)]
    for block, visual in zip(read.blocks, written, strict=True):
        np.testing.assert_array_equal(read.block_codes(block).ravel(), visual.codes.ravel())
        assert (block.header.fps, block.header.seconds) == (visual.fps, visual.seconds)
    text, texts_between = "", []
    for part in parts:
        if isinstance(part, str):
            text += part
        else:
            texts_between, text = [*texts_between, text], ""
    assert read.texts == (*texts_between, text)
    assert read.n_vision == sum(visual.codes.size for visual in written)
    if len(written) > 1:
        assert read.kind == "interleaved"
        with pytest.raises(DataError, match="interleaved"):
            _ = read.caption


@VOCABS
@settings(deadline=None)
@given(parts=parts, more=parts)
def test_a_trusted_document_is_read_as_a_parsed_one(vocab, parts, more):
    parsed, another = (parse(vocab, documents.interleaved_document(vocab, p)) for p in (parts, more))
    trusted = parse_unchecked(vocab, parsed.tokens)
    assert trusted.blocks == parsed.blocks
    assert trusted.kind == parsed.kind
    np.testing.assert_array_equal(trusted.kinds, parsed.kinds)
    both = documents.token_kinds(vocab, np.concatenate((parsed.tokens, another.tokens)))
    np.testing.assert_array_equal(both, np.concatenate((parsed.kinds, another.kinds)))


@VOCABS
@settings(deadline=None)
@given(parts=parts)
def test_every_token_has_its_kind(vocab, parts):
    read = parse(vocab, documents.interleaved_document(vocab, parts))
    for position, (token, kind) in enumerate(zip(read.tokens, read.kinds, strict=True)):
        inside = any(block.start < position < block.body - 1 for block in read.blocks)
        if token < vocab.text_size:
            assert kind == (TokenKind.META if inside else TokenKind.TEXT)
        else:
            assert kind == (TokenKind.VISION if token >= vocab.vision_start else TokenKind.STRUCTURE)
    assert (read.kinds == TokenKind.VISION).sum() == read.n_vision
    assert set(read.loss_kinds) <= {TokenKind.TEXT, TokenKind.STRUCTURE, TokenKind.VISION}
    np.testing.assert_array_equal(documents.loss_kinds(vocab, read.tokens), read.loss_kinds)
    rebuilt = np.concatenate([np.full(stop - start, kind) for start, stop, kind in read.spans])
    np.testing.assert_array_equal(rebuilt, read.kinds)
    assert all(a.stop == b.start and a.kind != b.kind for a, b in zip(read.spans, read.spans[1:], strict=False))


def test_a_long_video_parses_fast():
    codes = np.random.default_rng(0).integers(0, QWEN.codes, (30, 64, 64))
    tokens = documents.video_document(QWEN, codes, "a caption", 24, 5)
    parse(QWEN, tokens)
    began = time.process_time()
    for _ in range(5):
        parse(QWEN, tokens)
    assert (time.process_time() - began) / 5 < 0.05


def test_a_header_of_a_giant_grid_costs_nothing():
    """A hostile header may state any size; only the tokens that are there are looked at."""
    tokens = [BYTES.bos, BYTES.boi, *b"9999*9999 999999fps 999999s", BYTES.img, BYTES.vision_start]
    with pytest.raises(DocumentError, match="found the end at position 31"):
        parse(BYTES, tokens)


@pytest.mark.parametrize("tokens", [[[1, 2]], [0.5], [2**40], "text", []])
def test_what_is_no_row_of_ids(tokens):
    with pytest.raises(DataError):
        parse(BYTES, tokens)


# Grammar: reading and the state machine are the same language


def read_or_refuse(vocab, tokens):
    """The position at which `parse` refuses, or None; the state machine must say the same, token by token."""
    try:
        parse(vocab, tokens)
        by_parse = None
    except DocumentError as error:
        by_parse = error.position
    grammar = grammar_of(vocab)
    state, by_grammar = grammar.start(), None
    for position, token in enumerate(tokens):
        if state.is_complete:  # padding may follow in a batch, but not inside a stored document
            by_grammar = position
            break
        try:
            state = grammar.advance(state, token)
        except DocumentError as error:
            assert error.position == position
            by_grammar = position
            break
    if by_grammar is None and not state.is_complete:
        by_grammar = len(tokens)
    assert by_parse == by_grammar
    return by_parse


@VOCABS
@given(parts=parts)
@settings(max_examples=50, deadline=None)
def test_every_prefix_of_a_document_is_allowed_and_no_document(vocab, parts):
    tokens = documents.interleaved_document(vocab, parts).tolist()
    grammar = grammar_of(vocab)
    state = grammar.start()
    for token in tokens:
        assert not state.is_complete
        mask = grammar.mask(state)
        assert mask.shape == (vocab.size,)
        assert mask[token]
        state = grammar.advance(state, token)
    assert state.is_complete
    assert read_or_refuse(vocab, tokens) is None
    for cut in {0, 1, len(tokens) // 2, len(tokens) - 1}:
        assert read_or_refuse(vocab, tokens[:cut]) == cut


def interesting_tokens(vocab):
    special = [vocab.bos, vocab.eos, vocab.pad, vocab.boi, vocab.eoi, vocab.img, vocab.eol, vocab.eof, vocab.img - 1]
    edges = [-1, 0, vocab.text_size - 1, vocab.vision_start - 1, vocab.vision_start, vocab.vision_stop - 1, vocab.size]
    return st.sampled_from([*special, *edges, *vocab.tokenizer.encode("0123456789*. fps s")])


@VOCABS
@given(data=st.data(), parts=parts)
@settings(max_examples=300, deadline=None)
def test_reading_and_grammar_agree_on_mutants(vocab, data, parts):
    tokens = documents.interleaved_document(vocab, parts).tolist()
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(tokens)))
        change = data.draw(st.sampled_from(["replace", "insert", "delete"]))
        new = [] if change == "delete" else [data.draw(interesting_tokens(vocab))]
        tokens[position : position + (change != "insert")] = new
    read_or_refuse(vocab, tokens)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_grammar_allows_can_be_read(data):
    """Constrained decoding never gets stuck and ends in documents: draw among the allowed, then head for the end."""
    vocab, grammar = BYTES, grammar_of(BYTES)
    state, tokens = grammar.start(), []
    tiny = st.sampled_from([*b"123*. fps", vocab.boi, vocab.img, vocab.eos])
    while not state.is_complete and len(tokens) < 400:
        mask = grammar.mask(state)
        wanted = data.draw(tiny) if state.phase in (Phase.TEXT, Phase.HEADER) else -1
        allowed = np.flatnonzero(mask)
        assert allowed.size
        token = wanted if wanted >= 0 and mask[wanted] else int(allowed[-1])
        tokens.append(token)
        state = grammar.advance(state, token)
    if state.is_complete:
        assert parse(vocab, tokens).n_vision >= 0


def emu3_rule(vocab, h, w, offset):
    """The ids that Emu3's released inference allows `offset` tokens after IMG, test by test in its order."""
    row = w + 1
    if offset % row == 0:
        return ((vocab.eol, vocab.eol + 1),)
    last = row * h
    for place, token in ((last + 1, vocab.eof), (last + 2, vocab.eoi), (last + 3, vocab.eos)):
        if offset == place:
            return ((token, token + 1),)
    if offset > last + 3:
        return ((vocab.pad, vocab.pad + 1),)
    return ((vocab.vision_start, vocab.vision_stop),)


LISTED = [(90, 90), (68, 120), (120, 68), (78, 104), (104, 78), (73, 110), (110, 73), (59, 137), (64, 64), (48, 85)]


@pytest.mark.parametrize("size", [None, *LISTED])
def test_decoding_an_image_is_emu3s_rule_step_by_step(size):
    """All sizes to 24 x 24 and the listed ones, from W = 3: below, Emu3's first test hides EOI or EOS behind EOL."""
    vocab = BYTES
    grammar = Grammar(vocab, one_block=True)
    for h, w in [size] if size else [(h, w) for h in range(1, 25) for w in range(3, 25)]:
        state = grammar.advance_all(grammar.start(), documents.generation_prompt(vocab, "cat", h, w).tolist())
        for offset in range(1, h * (w + 1) + 5):
            if offset > h * (w + 1) + 4 and offset % (w + 1) == 0:
                continue  # after EOS Emu3's rule says EOL here; finished rows are padded instead
            allowed = grammar.allowed(state)
            if offset == h * (w + 1) + 4 and offset % (w + 1) == 0:
                assert allowed == ((vocab.pad, vocab.pad + 1),)
            else:
                assert allowed == emu3_rule(vocab, h, w, offset), (h, w, offset)
            state = grammar.advance(state, allowed[0][0])


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (2, 2), (5, 2)])
def test_narrow_grids_work_too(size):
    codes = np.zeros(size, dtype=int)
    assert parse(BYTES, documents.image_document(BYTES, codes, "")).grid == (1, *size)


def test_a_finished_row_is_padded():
    grammar = grammar_of(BYTES)
    state = grammar.advance_all(grammar.start(), documents.text_document(BYTES, "a").tolist())
    assert state.is_complete
    for _ in range(3):
        assert grammar.allowed(state) == ((BYTES.pad, BYTES.pad + 1),)
        state = grammar.advance(state, BYTES.pad)
        assert not state.is_complete


def test_errors_name_place_find_and_choice():
    tokens = documents.image_document(BYTES, np.zeros((2, 3), int), "cat")
    eol = tokens.tolist().index(BYTES.eol)
    tokens[eol] = BYTES.vision_start + 5
    with pytest.raises(DocumentError, match=f"found code 5 at position {eol}; allowed there: EOL") as caught:
        parse(BYTES, tokens)
    assert (caught.value.position, caught.value.found, caught.value.allowed) == (eol, "code 5", "EOL")


@VOCABS
def test_prompts_are_the_beginnings_of_documents(vocab):
    image = documents.image_document(vocab, np.zeros((12, 7), int), "two cats")
    prompt = documents.generation_prompt(vocab, "two cats", 12, 7)
    np.testing.assert_array_equal(image[: len(prompt)], prompt)
    assert image[len(prompt)] == vocab.vision_start
    video = documents.video_document(vocab, np.zeros((6, 3, 7), int), "two cats", 8, 3)
    prompt = documents.generation_prompt(vocab, "two cats", 3, 7, fps=8, seconds=3)
    np.testing.assert_array_equal(video[: len(prompt)], prompt)
    assert video[len(prompt)] == vocab.vision_start


# Headers


numbers = st.floats(1e-4, 999_999).map(lambda x: float(f"{x:g}")).filter(lambda x: 1e-4 <= x <= 999_999)
headers = st.builds(
    lambda h, w, rate: Header(h, w) if rate is None else Header(h, w, *rate),
    st.integers(1, 9999),
    st.integers(1, 9999),
    st.none() | st.tuples(numbers, numbers).filter(lambda rate: documents.latent_frames(*rate) >= 1),
)


@settings(deadline=None)
@given(header=headers)
@example(Header(1, 1, 0.0001, 999_999))
@example(Header(9999, 10, 0.000123456, 100_000))
def test_headers_round_trip_and_can_be_written_token_by_token(header):
    assert documents.read_header(header.text) == header
    assert all(is_header_prefix(header.text[:stop]) for stop in range(len(header.text) + 1))
    pieces = [QWEN.tokenizer.decode([token]) for token in documents.header_ids(QWEN, header)]
    assert set(pieces) <= {*"0123456789*. s", "fps"}
    state = grammar_of(QWEN).advance_all(grammar_of(QWEN).start(), [QWEN.bos, QWEN.boi])
    state = grammar_of(QWEN).advance_all(state, documents.header_ids(QWEN, header))
    assert grammar_of(QWEN).mask(state)[QWEN.img]


@given(text=st.text("0123456789*. fps", max_size=14) | headers.map(lambda header: header.text), data=st.data())
@settings(max_examples=400, deadline=None)
def test_every_prefix_leads_to_a_header(text, data):
    """`is_header_prefix` is exact: what it accepts can be completed, what it refuses is no header's beginning."""
    stop = data.draw(st.integers(0, len(text)))
    text = text[:stop] + data.draw(st.sampled_from(["", *"0123456789*. fps"]))
    if documents.read_header(text):
        assert is_header_prefix(text)
    if not is_header_prefix(text):
        assert documents.read_header(text) is None
        assert all(documents.read_header(text + rest) is None for rest in ("0", "1", "*1", "fps 1s", "s", " 1fps 4s"))
        return
    for _ in range(40):
        if documents.read_header(text):
            break
        text += next(char for char in "fps*9 .0" if is_header_prefix(text + char))
    assert documents.read_header(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "2*",
        "*2",
        "02*2",
        "2*02",
        "0*2",
        "2*2 ",
        "2*2 24fps",
        "2*2 24fps 5",
        "2*2 24fps 5s ",
        "2*2 024fps 5s",
        "2*2 24.0fps 5s",
        "2*2 24fps 5.10s",
        "2*2 1e3fps 5s",
        "2*2 0fps 5s",
        "2*2 24fps 0s",
        "2*2 24fps 0.05s",
        "10000*2",
        "2*2 1234567fps 5s",
        "2*2 0.00001fps 5s",
        "2*2 24fps 5s\n",
        "２*2",
        "2*2 .5fps 8s",
        "2*2 5.fps 8s",
    ],
)
def test_what_is_no_header(text):
    assert documents.read_header(text) is None


DEAD_ENDS = """2*2 123456.|2*2 1.00000|2*2 1.23450|2*2 1.234567|2*2 0.0000|2*2 1234567|2*2 00|2*2 .|0|12345
2*2 24fps 0.00|2*2 0.0001fps 1.|2*2 0.0001fps 20000f|2*2 24ps|2**|2*2  |2*2 f|x"""


@pytest.mark.parametrize("text", DEAD_ENDS.replace("\n", "|").split("|"))
def test_dead_ends_are_refused_before_they_are_entered(text):
    assert not is_header_prefix(text)


@pytest.mark.parametrize(
    "text", ["2*2 12345.", "2*2 1.0000", "2*2 0.000", "2*2 24fps 0.0", "2*2 0.0001fps 1", "2*2 24f", ""]
)
def test_what_can_still_become_a_header_is_allowed(text):
    assert is_header_prefix(text)


def test_latent_frames_round_as_python_does():
    assert [documents.latent_frames(fps, s) for fps, s in ((24, 5), (8, 5), (10, 1), (6, 1), (29.97, 4.004))] == [
        30,
        10,
        2,
        2,
        30,
    ]


@settings(deadline=None)
@given(latents=st.integers(1, 10_000), fps=rates | st.sampled_from([23.976023976, 29.97002997, 1000 / 33]))
def test_a_stated_duration_gives_the_frames_back(latents, fps):
    seconds = documents.seconds_of(latents, fps)
    assert Header(1, 1, fps, seconds).t == latents
    assert documents.read_header(Header(1, 1, fps, seconds).text).t == latents


def test_a_duration_that_cannot_be_stated():
    with pytest.raises(DataError, match="cannot be stated"):
        documents.seconds_of(1_234_567, 24)


# Parts


@VOCABS
@given(data=st.data(), caption=texts, codes=code_grids(), fps=rates, after=st.booleans())
@settings(max_examples=50, deadline=None)
def test_parts_of_a_video_are_documents(vocab, data, caption, codes, fps, after):
    seconds = documents.seconds_of(len(codes), fps)
    whole = parse(vocab, documents.video_document(vocab, codes, caption, fps, seconds, caption_after=after))
    bounds = documents.latent_frame_bounds(whole)
    assert len(bounds) == len(codes) + 1
    assert all(whole.tokens[bound - 1] == vocab.eof for bound in bounds[1:])
    assert whole.tokens[bounds[0] - 1] == vocab.img
    assert whole.tokens[bounds[-1]] == vocab.eoi
    first = data.draw(st.integers(0, len(codes) - 1))
    count = data.draw(st.integers(1, len(codes) - first))
    part = parse(vocab, documents.video_part(whole, first, count))
    np.testing.assert_array_equal(part.codes, codes[first : first + count])
    assert (part.caption, part.caption_after, part.fps) == (whole.caption, whole.caption_after, fps)
    assert part.blocks[0].header == documents.part_header(whole.blocks[0].header, count)
    np.testing.assert_array_equal(documents.video_part(whole, 0, len(codes)), whole.tokens)


def test_what_cannot_be_split():
    image = parse(BYTES, documents.image_document(BYTES, np.zeros((2, 2), int), "a"))
    video = parse(BYTES, documents.video_document(BYTES, np.zeros((2, 2, 2), int), "a", 8, 1))
    text = parse(BYTES, documents.text_document(BYTES, "a"))
    assert documents.latent_frame_bounds(image).tolist() == [7, 14]
    for document, first, count in (
        (image, 0, 1),
        (text, 0, 1),
        (video, 0, 3),
        (video, 2, 1),
        (video, -1, 1),
        (video, 0, 0),
    ):
        with pytest.raises(DataError):
            documents.video_part(document, first, count)


# Ids and choices


def test_document_ids():
    first = documents.doc_id("sample", 0, "fingerprint")
    assert first == documents.doc_id("sample", 0, "fingerprint", documents.LAYOUT_VERSION)
    others = [
        ("sample", 1, "fingerprint", 1),
        ("sample", 0, "other", 1),
        ("sampl", 0, "efingerprint", 1),
        ("sample", 0, "fingerprint", 2),
    ]
    assert len({first, *(documents.doc_id(*other) for other in others)}) == 5
    assert len(first) == 32


def test_the_share_of_captions_after_is_kept_and_repeats():
    keys = [f"doc{n}" for n in range(4000)]
    chosen = [documents.caption_after(key, 0.2, seed=1) for key in keys]
    assert chosen == [documents.caption_after(key, 0.2, seed=1) for key in keys]
    assert 0.17 < np.mean(chosen) < 0.23
    assert chosen != [documents.caption_after(key, 0.2, seed=2) for key in keys]
    assert not any(documents.caption_after(key, 0.0) for key in keys)
    assert all(documents.caption_after(key, 1.0) for key in keys)
