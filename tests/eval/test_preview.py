import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.eval.generation.preview import GREY, preview, rows_so_far
from reelmill.tokenize.documents import Visual, interleaved_document, seconds_of
from reelmill.tokenize.vision import load
from reelmill.tokenize.vocabulary import Vocabulary

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
