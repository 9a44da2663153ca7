from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reelmill.errors import DataError
from reelmill.eval.generation import Clip, SamplingParams, Studio, TokenSampling, image_request
from reelmill.eval.generation.media_files import read_clip, read_image, read_media, read_settings, write_clip
from reelmill.tokenize.documents import Header
from reelmill.tokenize.vision import load
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 4096)


@pytest.fixture(scope="module")
def studio():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=VOCAB.size, hidden=16, layers=1, heads=2, kv_heads=1, mlp=24)).eval()
    return Studio(model.requires_grad_(False), VOCAB, load("reelmill-tok-xs"))


def moving_square(count, height=32, width=48):
    frames = np.full((count, height, width, 3), 60, dtype=np.uint8)
    for number in range(count):
        frames[number, 8:24, 2 * number : 2 * number + 12] = (220, 40, 40)
    return frames


def test_pictures_of_any_ratio_and_the_tokens_seen_as_they_come(studio):
    seen = []

    def on_token(progress):
        seen.append((progress.new_tokens, progress.max_new_tokens, progress.tokens[progress.last.request][-1]))

    images = replace(studio, on_token=on_token).images(["a", "b"], 2, 5)
    assert [image.shape for image in images] == [(16, 40, 3)] * 2
    assert not np.array_equal(*images)
    most = 2 * (2 * 6 + 3)
    assert [count for count, _, _ in seen] == list(range(1, most + 1))
    assert {total for _, total, _ in seen} == {most}
    assert seen[-1][2] == VOCAB.eos
    assert np.array_equal(studio.images(["b"], 2, 5, streams=[1])[0], images[1])


def test_a_drawing_that_goes_on_is_whole(studio):
    request = image_request(studio.visual_grammar, "a", 2, 3)
    (whole,) = studio.generate([request])
    cut = len(request.prompt) + 5
    (again,) = studio.generate([replace(request, generated=whole[len(request.prompt) : cut])])
    assert np.array_equal(again, whole)
    assert studio.generate([]) == []


def test_a_video_begins_with_the_picture_or_clip_it_is_given(studio):
    frames = moving_square(8)
    picture = Clip(frames[:1])
    header = Header(4, 6, 8.0, 1.5)
    animated = studio.video("a square", header, prefix=picture)
    assert animated.frames.shape == (12, 32, 48, 3)
    codes = studio.vision.encode_image(frames[0])
    expected = studio.vision.decode(codes[None])
    assert np.array_equal(animated.frames[:4], expected)
    continued = studio.video("a square", header, prefix=Clip(frames, 8.0))
    whole = studio.vision.decode(studio.vision.encode(frames))
    assert np.array_equal(continued.frames[:8], whole[:8])
    with pytest.raises(DataError, match="8 frames/s, the video 12"):
        studio.video("", Header(4, 6, 12.0, 1.0), prefix=Clip(frames, 8.0))
    with pytest.raises(DataError, match="fewer of them"):
        studio.video("", Header(4, 6, 8.0, 1.0), prefix=Clip(frames, 8.0))


def test_the_future_is_drawn_window_by_window(studio):
    frames = moving_square(8)
    drawn = studio.future(Clip(frames, 8.0), 1.5, window_s=0.5)
    assert drawn.frames.shape == (20, 32, 48, 3)
    assert np.array_equal(drawn.frames[:8], studio.vision.decode(studio.vision.encode(frames)))
    with pytest.raises(DataError, match="only a video has a future"):
        studio.future(Clip(frames[:1]), 1.0)


def test_words_about_pictures_hold_no_pictures(studio):
    clip = Clip(moving_square(4), 8.0)
    sampling = SamplingParams(text=TokenSampling(temperature=2.0))
    assert isinstance(studio.caption(clip, max_new_tokens=30, sampling=sampling), str)
    assert isinstance(studio.answer(Clip(clip.frames[:1]), "What is red?", max_new_tokens=30, sampling=sampling), str)


def test_interleaved_parts_are_words_and_whole_pictures(studio):
    vocab, codes = VOCAB, np.zeros((1, 2), dtype=np.int64)
    from reelmill.tokenize.documents import Visual, interleaved_document

    tokens = interleaved_document(vocab, ["first", Visual(codes), "then", Visual(codes), "last"])
    parts = list(studio.parts(tokens))
    assert [part if isinstance(part, str) else part.frames.shape for part in parts] == [
        "first", (1, 8, 16, 3), "then", (1, 8, 16, 3), "last",
    ]  # fmt: skip
    cut = list(studio.parts(tokens[: len(tokens) - 9]))
    assert [part for part in cut if isinstance(part, str)] == ["first", "then"]
    assert len([part for part in cut if not isinstance(part, str)]) == 1
    ((_, page),) = studio.pages(["go"], max_new_tokens=60)
    assert all(isinstance(part, str | Clip) for part in page)


def test_files_hold_what_they_were_made_from(studio, tmp_path):
    settings = {"prompt": "水车", "seed": 3}
    write_clip(Clip(moving_square(1)), tmp_path / "a.png", settings)
    write_clip(Clip(moving_square(8), 8.0), tmp_path / "deep/a.mp4", settings)
    assert read_settings(tmp_path / "a.png") == settings
    assert read_settings(tmp_path / "deep/a.mp4") == settings
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), moving_square(1)[0])
    clip = read_clip(tmp_path / "deep/a.mp4", 32 * 48, 8, 8.0, 0.5)
    assert clip.frames.shape == (4, 32, 48, 3)
    assert np.abs(clip.frames.astype(int) - moving_square(8)[4:].astype(int)).mean() < 8
    assert read_image(tmp_path / "a.png", 64 * 96, 8).frames.shape == (1, 64, 96, 3)
    with pytest.raises(DataError, match="has 1 s"):
        read_clip(tmp_path / "deep/a.mp4", 32 * 48, 8, 8.0, 3.0)
    assert read_media(tmp_path / "deep/a.mp4", 32 * 48, 8, 8.0, 3.0).frames.shape == (8, 32, 48, 3)
    with pytest.raises(DataError, match="not_an_image"):
        read_image(tmp_path / "deep/a.mp4", 64, 8)
    with pytest.raises(DataError, match="there is no"):
        read_image(tmp_path / "none.png", 64, 8)
