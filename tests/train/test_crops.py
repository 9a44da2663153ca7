"""Crops are documents: well-formed, of the size that they state, with the codes of their box."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.crops import crop, draw_boxes, most_tokens

VOCAB = Vocabulary("bytes", 64)


@settings(max_examples=100, deadline=None)
@given(
    frames=st.integers(0, 6),
    h=st.integers(1, 30),
    w=st.integers(1, 30),
    fps=st.sampled_from([1.0, 8.0, 23.976]),
    caption=st.text(max_size=12),
    after=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_crop_is_a_document_of_its_box(frames, h, w, fps, caption, after, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 64, (max(1, frames), h, w))
    if frames:
        seconds = documents.seconds_of(frames, fps)
        tokens = documents.video_document(VOCAB, codes, caption, fps, seconds, caption_after=after)
    else:
        tokens = documents.image_document(VOCAB, codes[0], caption, caption_after=after)
    whole = parse(VOCAB, tokens)
    grids = np.repeat([codes.shape], 20, axis=0)
    boxes = draw_boxes(grids, rng)
    most = most_tokens(VOCAB, np.full(20, len(tokens)), grids, np.full(20, frames > 0), boxes)
    for box, bound in zip(boxes, most, strict=True):
        found = crop(whole, box)
        t, row, column, height, width, has_caption = box
        assert found.kind == "image"
        expected = (whole.caption, whole.caption_after) if has_caption else ("", False)
        assert (found.caption, found.caption_after) == expected
        assert np.array_equal(found.codes[0], codes[t, row : row + height, column : column + width])
        assert found.grid == (1, height, width), "the box lies inside the grid"
        assert parse(VOCAB, found.tokens).n_vision == height * width
        slack = bound - len(found.tokens)
        assert 0 <= slack <= (16 if frames and has_caption else 0)


def test_boxes_have_every_size_and_place():
    boxes = draw_boxes(np.repeat([[3, 5, 4]], 4_000, axis=0), np.random.default_rng(0))
    for column, values in enumerate((range(3), range(5), range(4), range(1, 6), range(1, 5), range(2))):
        assert set(boxes[:, column]) == set(values)
    assert set((boxes[:, 2] + boxes[:, 4]).tolist()) == {1, 2, 3, 4}


def test_a_text_has_no_crop():
    text = parse(VOCAB, documents.text_document(VOCAB, "no picture"))
    with pytest.raises(DataError, match="no codes"):
        crop(text, np.array([0, 0, 0, 1, 1, 1]))
