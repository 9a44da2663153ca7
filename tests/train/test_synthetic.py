"""Lessons begin as documents do: of their document's codes, no larger than it, whole or cut after a row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import parse, read_header
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.synthetic import MOST_ROWS, synthetic_documents

VOCAB = Vocabulary("bytes", 64)


def completed(synthetic):
    """(the document that a synthetic begins, whether it is cut): what is missing is filled with the code 3."""
    ids = synthetic.tokens
    boi, img = (int(np.flatnonzero(ids == token)[0]) for token in (VOCAB.boi, VOCAB.img))
    header = read_header(VOCAB.tokenizer.decode(ids[boi + 1 : img].tolist()))
    frame = np.full((header.h, header.w + 1), VOCAB.vision_start + 3)
    frame[:, -1] = VOCAB.eol
    whole = np.concatenate((ids[: img + 1], frame.ravel(), [VOCAB.eof, VOCAB.eoi, VOCAB.eos]))
    whole[: len(ids)] = ids
    return parse(VOCAB, whole), len(ids) < len(whole)


@settings(max_examples=30, deadline=None)
@given(
    frames=st.integers(0, 6),
    h=st.integers(1, 30),
    w=st.integers(1, 30),
    fps=st.sampled_from([1.0, 8.0, 23.976]),
    caption=st.text(max_size=12),
    after=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_lesson_is_a_document_of_random_codes_or_its_beginning(frames, h, w, fps, caption, after, seed):
    rng = np.random.default_rng(seed)
    codes = rng.choice([3, 5, 60], (max(1, frames), h, w))
    if frames:
        seconds = documents.seconds_of(frames, fps)
        tokens = documents.video_document(VOCAB, codes, caption, fps, seconds, caption_after=after)
    else:
        tokens = documents.image_document(VOCAB, codes[0], caption, caption_after=after)
    for synthetic in synthetic_documents([parse(VOCAB, tokens)], 6, rng):
        document, is_cut = completed(synthetic)
        assert np.array_equal(synthetic.kinds, document.loss_kinds[: len(synthetic.tokens)])
        t, height, width = document.grid
        assert (t, document.fps) in {(1, None), (1, fps if frames else None)}
        assert (document.caption, document.caption_after) in {("", False), (caption, False)}
        assert set(document.codes.ravel()) <= {3, *codes.ravel()}
        if is_cut:
            assert 1 <= height <= h
            assert 1 <= width <= w
            assert synthetic.tokens[-1] == VOCAB.eol
            assert 1 <= (synthetic.tokens == VOCAB.eol).sum() <= MOST_ROWS
        else:
            assert (height, width) == (h, w)


def test_lessons_have_every_size_both_headers_and_a_caption_or_none():
    codes = np.arange(60).reshape(3, 5, 4)
    video = parse(VOCAB, documents.video_document(VOCAB, codes, "a film", 8.0, documents.seconds_of(3, 8.0)))
    drawn = [completed(synthetic) for synthetic in synthetic_documents([video], 1_000, np.random.default_rng(0))]
    assert {document.grid for document, _ in drawn} == {(1, h, w) for h in range(1, 6) for w in range(1, 5)}
    assert {(document.kind, document.caption) for document, _ in drawn} == {
        (kind, caption) for kind in ("image", "video") for caption in ("", "a film")
    }
    assert 80 < sum(not is_cut for _, is_cut in drawn) < 180
    widths = np.bincount([document.grid[2] for document, is_cut in drawn if is_cut])
    assert widths[4] > widths[1], "wide ones are the commoner"


def test_codes_are_drawn_as_often_as_they_occur():
    often, rare = np.full((3, 30), 7), np.full((1, 10), 9)
    images = [parse(VOCAB, documents.image_document(VOCAB, codes, "")) for codes in (often, rare)]
    drawn = np.concatenate(
        [synthetic.tokens for synthetic in synthetic_documents(images, 300, np.random.default_rng(1))]
    )
    codes = drawn[VOCAB.is_vision(drawn)] - VOCAB.vision_start
    assert set(codes) == {7, 9}
    assert 0.88 < (codes == 7).mean() < 0.92


def test_without_documents_there_are_none_and_a_text_is_refused():
    rng = np.random.default_rng(0)
    assert synthetic_documents([], 3, rng) == []
    with pytest.raises(DataError, match="no codes"):
        synthetic_documents([parse(VOCAB, documents.text_document(VOCAB, "no picture"))], 1, rng)
