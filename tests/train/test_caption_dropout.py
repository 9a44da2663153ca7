import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.caption_dropout import SPELLING, drop_caption, leading_bits, lengths_without_caption, sampled

IDS = np.array([hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(20_000)], dtype=object)
BITS = leading_bits(IDS.tolist())


@pytest.mark.parametrize("vocab", [Vocabulary(), Vocabulary("bytes", 64)], ids=["qwen", "bytes"])
@settings(max_examples=60, deadline=None)
@given(
    caption=st.text(max_size=30),
    frames=st.integers(0, 5),
    side=st.integers(1, 12),
    fps=st.sampled_from([0.5, 8.0, 23.976, 24.0, 59.94]),
)
def test_a_document_without_its_caption_and_its_length(vocab, caption, frames, side, fps):
    codes = np.arange(max(1, frames) * side * 3).reshape(-1, side, 3) % 64
    if frames:
        seconds = documents.seconds_of(frames, fps)
        whole, expected = (documents.video_document(vocab, codes, text, fps, seconds) for text in (caption, ""))
    else:
        whole, expected = (documents.image_document(vocab, codes[0], text) for text in (caption, ""))
    assert np.array_equal(drop_caption(vocab, whole), expected)
    read = parse(vocab, whole)
    rate = np.nan if read.fps is None else read.fps
    (length,) = lengths_without_caption(vocab, np.array([read.grid]), np.array([rate]), np.array([len(whole)]))
    assert len(expected) <= length <= min(len(whole), len(expected) + (SPELLING if frames else 0))


def test_a_duration_spelt_longer_than_need_be_still_fits():
    vocab = Vocabulary("bytes", 64)
    codes = np.zeros((2, 1, 1), dtype=np.int64)
    video = documents.video_document(vocab, codes, "a caption that is long", 8.0, 1.00123)
    (length,) = lengths_without_caption(vocab, np.array([[2, 1, 1]]), np.array([8.0]), np.array([len(video)]))
    assert len(drop_caption(vocab, video)) <= length < len(video)


def test_the_share_is_drawn_anew_each_epoch_by_doc_id_alone():
    masks = [sampled(BITS, 0.05, seed=1, epoch=epoch) for epoch in range(3)]
    for mask in masks:
        assert mask.mean() == pytest.approx(0.05, abs=0.006)
    assert (masks[0] & masks[1]).mean() == pytest.approx(0.0025, abs=0.0015), "epochs are independent"
    order = np.random.default_rng(0).permutation(len(IDS))
    assert np.array_equal(sampled(BITS[order], 0.05, 1, 0), masks[0][order])
    assert not np.array_equal(sampled(BITS, 0.05, 2, 0), masks[0])
    assert not sampled(BITS, 0.0, 1, 0).any()
    assert sampled(BITS, 1.0, 1, 0).all()
    assert (sampled(BITS, 0.05, 1, 0) <= sampled(BITS, 0.2, 1, 0)).all(), "a larger share draws the same and more"


def test_an_id_that_is_none_is_refused():
    with pytest.raises(DataError, match="32 hex digits"):
        leading_bits(["not-an-id"])
