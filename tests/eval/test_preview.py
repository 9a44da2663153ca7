import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_decoder import random_decoder

from reelmill.eval.generation import Engine, PictureDraft, image_request
from reelmill.eval.generation.denoising import Denoising
from reelmill.eval.generation.diagonal_decoding import ByDiagonals
from reelmill.eval.generation.preview import GREY, draft_preview, preview, rows_so_far
from reelmill.eval.generation.row_decoding import ByRows
from reelmill.tokenize.documents import Grammar, Visual, interleaved_document, seconds_of
from reelmill.tokenize.vision import load
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.objectives.dida.path import fitted_path

VOCAB = Vocabulary("bytes", 4096)


@pytest.fixture(scope="module")
def vision():
    return load("reelmill-tok-xs")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.data())
def test_a_sequence_cut_anywhere_shows_its_whole_rows(h, w, t, data):
    codes = np.random.default_rng(h * w * t).integers(0, 4096, (t, h, w))
    first = Visual(np.zeros((2, 2), dtype=np.int64))
    tokens = interleaved_document(VOCAB, ["a", first, "b", Visual(codes, 8.0, seconds_of(t, 8.0))])
    begin = int(np.flatnonzero(tokens == VOCAB.img)[-1])
    cut = data.draw(st.integers(begin + 1, len(tokens)))
    header, rows = rows_so_far(VOCAB, tokens[:cut])
    assert (header.t, header.h, header.w) == (t, h, w)
    assert len(rows) == np.isin(tokens[begin:cut], range(VOCAB.vision_start, VOCAB.size)).sum() // w
    assert np.array_equal(rows, codes.reshape(-1, w)[: len(rows)])


def test_an_image_fills_in_from_the_top(vision):
    codes = np.random.default_rng(0).integers(0, 4096, (3, 4))
    tokens = interleaved_document(VOCAB, ["a", Visual(codes)])
    opening = int(np.flatnonzero(tokens == VOCAB.img)[0]) + 1
    assert preview(VOCAB, vision, tokens[:3]) is None
    assert preview(VOCAB, vision, tokens[: opening + 3]) is None
    two = preview(VOCAB, vision, tokens[: opening + 11])
    assert two.shape == (24, 32, 3)
    assert (two[16:] == GREY).all()
    assert np.array_equal(two[:16], vision.decode_image(codes[:2]))
    assert np.array_equal(preview(VOCAB, vision, tokens), vision.decode_image(codes))


def test_a_video_shows_new_rows_above_those_of_the_frame_before(vision):
    codes = np.random.default_rng(0).integers(0, 4096, (2, 3, 4))
    tokens = interleaved_document(VOCAB, [Visual(codes, 8.0, 1.0)])
    opening = int(np.flatnonzero(tokens == VOCAB.img)[0]) + 1
    frame = 3 * 5 + 1
    assert np.array_equal(preview(VOCAB, vision, tokens[: opening + frame]), vision.decode_image(codes[0]))
    mixed = np.concatenate((codes[1, :1], codes[0, 1:]))
    assert np.array_equal(preview(VOCAB, vision, tokens[: opening + frame + 5]), vision.decode_image(mixed))
    assert np.array_equal(preview(VOCAB, vision, tokens), vision.decode_image(codes[1]))


WAYS = {
    "rows": ByRows(1),
    "diagonal": ByDiagonals(),
    "dida": Denoising(fitted_path(torch.randn(64, 4, generator=torch.Generator().manual_seed(0))), steps=4),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_drawn_in_another_order_is_seen_after_each_pass(way):
    """Of two that are drawn together, the first alone was asked for."""
    vocab = Vocabulary("bytes", 64)
    model = random_decoder(vocab, vertical_layers=1)
    request = image_request(Grammar(vocab, one_block=True), "a", 3, 4)
    engine = Engine(model, vocab, rows=2, capacity=request.max_length, pictures=WAYS[way])
    drafts: list[PictureDraft] = []
    engine.submit(5, request, drafts.append)
    engine.submit(6, request)
    tokens = []
    while not engine.is_idle:
        tokens += [event.token for event in engine.step() if event.request == 5]
    passes = {"rows": 4 + 2, "diagonal": 3 + 4 - 1, "dida": 4}[way]
    np.testing.assert_allclose([draft.done for draft in drafts], np.arange(1, passes) / passes)
    assert {draft.request for draft in drafts} == {5}
    whole = np.array([vocab.img, *tokens])[: len(drafts[0].ids)]
    for draft in drafts:
        is_drawn = draft.ids >= 0
        assert np.array_equal(is_drawn, is_drawn | ~vocab.is_vision(whole))  # only codes can be missing
        if way != "dida":
            np.testing.assert_array_equal(draft.ids[is_drawn], whole[is_drawn])
    drawn = [int(vocab.is_vision(draft.ids).sum()) for draft in drafts]
    assert drawn == ([12] * 3 if way == "dida" else sorted(drawn)) and drawn[0] >= 1
    if way == "diagonal":
        assert drawn == [1, 3, 6, 9, 11]


def test_a_draft_shows_what_is_drawn_and_gray_elsewhere(vision):
    codes = np.random.default_rng(0).integers(0, 4096, (2, 3, 4))
    tokens = interleaved_document(VOCAB, [Visual(codes, 8.0, seconds_of(2, 8.0))]).astype(np.int64)
    places = np.flatnonzero(VOCAB.is_vision(tokens))
    ids = tokens[np.flatnonzero(tokens == VOCAB.img)[0] : places[-1] + 1]
    assert np.array_equal(draft_preview(VOCAB, vision, PictureDraft(0, ids, 0.5)), vision.decode_image(codes[1]))
    first = ids.copy()
    first[np.flatnonzero(VOCAB.is_vision(ids))[12:]] = -1  # the second frame is not begun
    assert np.array_equal(draft_preview(VOCAB, vision, PictureDraft(0, first, 0.5)), vision.decode_image(codes[0]))
    corner = ids.copy()
    corner[np.flatnonzero(VOCAB.is_vision(ids))[14:]] = -1  # two codes of it
    shown = draft_preview(VOCAB, vision, PictureDraft(0, corner, 0.5))
    assert shown.shape == (24, 32, 3)
    assert (shown[:, 16:] == GREY).all() and (shown[8:] == GREY).all()
    assert not (shown[:8, :16] == GREY).all()
