"""Lessons are documents: well-formed, no larger than theirs, of its codes, counted up to the end of their rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import TokenKind, parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.lessons import counted, lessons

VOCAB = Vocabulary("bytes", 64)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(0, 6),
    h=st.integers(1, 30),
    w=st.integers(1, 30),
    fps=st.sampled_from([1.0, 8.0, 23.976]),
    caption=st.text(max_size=12),
    after=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_lesson_is_a_document_of_random_codes(frames, h, w, fps, caption, after, seed):
    rng = np.random.default_rng(seed)
    codes = rng.choice([3, 5, 60], (max(1, frames), h, w))
    if frames:
        seconds = documents.seconds_of(frames, fps)
        tokens = documents.video_document(VOCAB, codes, caption, fps, seconds, caption_after=after)
    else:
        tokens = documents.image_document(VOCAB, codes[0], caption, caption_after=after)
    for lesson in lessons([parse(VOCAB, tokens)], 10, rng):
        assert np.array_equal(parse(VOCAB, lesson.tokens).codes, lesson.codes)
        t, height, width = lesson.grid
        assert t == 1
        assert 1 <= height <= h
        assert 1 <= width <= w
        assert lesson.fps in {None, fps if frames else None}
        assert lesson.caption in {"", caption}
        assert not lesson.caption_after
        assert set(lesson.codes.ravel()) <= set(codes.ravel())
        is_counted = counted(lesson)
        ends = np.isin(lesson.tokens, (VOCAB.eof, VOCAB.eoi, VOCAB.eos))
        assert np.array_equal(~is_counted, (lesson.kinds == TokenKind.TEXT) | ends)
        assert (lesson.tokens[is_counted] == VOCAB.eol).sum() == height


def test_lessons_have_every_size_both_headers_and_a_caption_or_none():
    codes = np.arange(60).reshape(3, 5, 4)
    video = parse(VOCAB, documents.video_document(VOCAB, codes, "a film", 8.0, documents.seconds_of(3, 8.0)))
    drawn = lessons([video], 1_000, np.random.default_rng(0))
    assert {lesson.grid for lesson in drawn} == {(1, h, w) for h in range(1, 6) for w in range(1, 5)}
    assert {(lesson.kind, lesson.caption) for lesson in drawn} == {
        (kind, caption) for kind in ("image", "video") for caption in ("", "a film")
    }
    widths = np.bincount([lesson.grid[2] for lesson in drawn])
    assert widths[4] > widths[1], "wide ones are the commoner"


def test_codes_are_drawn_as_often_as_they_occur():
    often, rare = np.full((3, 30), 7), np.full((1, 10), 9)
    images = [parse(VOCAB, documents.image_document(VOCAB, codes, "")) for codes in (often, rare)]
    drawn = np.concatenate([lesson.codes.ravel() for lesson in lessons(images, 300, np.random.default_rng(1))])
    assert 0.88 < (drawn == 7).mean() < 0.92


def test_without_documents_there_are_none_and_a_text_is_refused():
    rng = np.random.default_rng(0)
    assert lessons([], 3, rng) == []
    with pytest.raises(DataError, match="no codes"):
        lessons([parse(VOCAB, documents.text_document(VOCAB, "no picture"))], 1, rng)
