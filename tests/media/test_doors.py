"""The same odd files through every door: each gets the same upright sRGB picture."""

import base64
import io
import re

import numpy as np
import pytest
from command_line import CommandLine
from dumps import light_recipe
from grading import BT2020, PQ, graded
from media_reading import expand, near, options, source
from odd_media import CORNERS, HEIGHT, WIDTH, corners_of, film, picture, pictures, set_matrix
from odd_pictures import in_profile, png, profile, turned
from PIL import Image

from reelmill.curation import clips
from reelmill.curation import picture_job as chat_pictures
from reelmill.curation.rules import Rule
from reelmill.eval.generation.media_files import read_clip, read_image, read_media
from reelmill.eval.reconstruction.inputs import clip_at, picture_at
from reelmill.media.reader import MediaReader
from reelmill.pipelines.serve.uploads import UploadDecoder
from reelmill.tokenize import vision
from reelmill.train.vision.media import MediaCache, MediaFile, find, media_file

AREA = WIDTH * HEIGHT
CLIP = {"key": "k", "start_s": 0.0, "fps": 10.0, "frames": 1, "width": WIDTH, "height": HEIGHT}


def sideways(path):
    stored, exif = turned(picture(), 6)
    stored.save(path, exif=exif, quality=95)


def cut_out(path):
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[HEIGHT // 3 : HEIGHT // 2, WIDTH // 3 : WIDTH // 2] = 0
    path.write_bytes(png(np.dstack([picture(), alpha]), colour=6))


PICTURES = {
    "sideways.jpg": sideways,
    "cut_out.png": cut_out,
    "p3.png": lambda path: Image.fromarray(in_profile(picture(), "p3")).save(path, icc_profile=profile("p3")),
    "deep.png": lambda path: path.write_bytes(png(picture().astype(np.uint16) * 257, depth=16)),
}
VIDEOS = {
    "mirrored.mp4": lambda path: set_matrix(
        film(path, [np.ascontiguousarray(p[:, ::-1]) for p in pictures(20)]), (-1, 0, 0, 1)
    ),
    "pq.mkv": lambda path: graded(path, PQ, BT2020, count=20),
}


def clip_of(job, path):
    return next(
        arrays["frames"][0] for body, arrays in job(source(path), options(clips=[CLIP])) if body["type"] == "clip"
    )


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture(tmp_path, name):
    path = tmp_path / name
    PICTURES[name](path)
    samples, _ = expand(path)
    uploads = UploadDecoder()
    bounds = options(least=AREA, most=AREA, multiple=8)
    ((_, chat),) = chat_pictures.picture(source(path), bounds)
    with MediaReader() as reader:
        whole = reader.picture(source(path))[0]
    seen = {
        "curate": samples[0][1]["images"][0],
        "tokens, captions, report": clip_of(clips.image_clip, path),
        "tokenizer train": MediaCache(HEIGHT, 10**8).frames(find([tmp_path])[0])[0],
        "generate --image": read_image(path, AREA, 8).frames[0],
        "ask": read_media(path, AREA, 8, 8.0, 1.0).frames[0],
        "serve": uploads.picture(path.read_bytes(), AREA, 8, "image"),
        "chat import": chat["frames"][0],
    }
    uploads.close()
    assert near(corners_of(whole), CORNERS, 8)
    assert {door for door, image in seen.items() if not np.array_equal(image, whole)} == set()
    left = (WIDTH - HEIGHT) // 2
    assert np.array_equal(picture_at(MediaFile(path), HEIGHT)[0], whole[:, left : left + HEIGHT])
    assert not media_file(path).is_video


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video(tmp_path, name):
    path = tmp_path / name
    VIDEOS[name](path)
    samples, _ = expand(path)
    seen = {
        "curate": samples[0][1]["images"][0],
        "tokens, captions, report": clip_of(clips.video_clips, path),
        "tokenizer train": MediaCache(HEIGHT, 10**8).frames(find([tmp_path])[0])[0],
        "eval reconstruction": clip_at(MediaFile(path), HEIGHT, 10.0, 2.0)[0],
        "generate --video": read_clip(path, AREA, 8, 10.0, 2.0).frames[0],
        "ask": read_media(path, AREA, 8, 10.0, 2.0).frames[0],
    }
    assert {door: image.shape for door, image in seen.items()} == dict.fromkeys(seen, (HEIGHT, WIDTH, 3))
    assert {door for door, image in seen.items() if not near(corners_of(image), CORNERS, 8)} == set()
    assert media_file(path).is_video


@pytest.fixture
def reelmill(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.mark.parametrize("name", ["sideways.jpg", "p3.png", "mirrored.mp4"])
def test_tokenizer_encode(tmp_path, reelmill, name):
    """The command's codes are those of the upright sRGB pixels."""
    path, codes = tmp_path / name, tmp_path / "codes.npz"
    (PICTURES | VIDEOS)[name](path)
    done = reelmill("tokenizer", "encode", "reelmill-tok-xs", path, codes, "--fps", 10)
    assert done.code == 0, done.err
    tokenizer = vision.load("reelmill-tok-xs")
    with MediaReader() as reader:
        if name in PICTURES:
            frames = reader.picture(source(path))
            expected = tokenizer.encode_image(frames[0])
        else:
            frames = np.stack(list(reader.frames_at(source(path), 10.0)))
            expected = np.concatenate(list(tokenizer.encode_stream(iter(frames))))
    assert near(corners_of(frames[0]), CORNERS, 8)
    assert np.array_equal(np.load(codes)["codes"], expected)


@pytest.mark.slow
def test_the_report(tmp_path, reelmill):
    """The page that the command writes shows each of them upright and in its colours."""
    dump, out = tmp_path / "dump", tmp_path / "out"
    dump.mkdir()
    for name, write in (PICTURES | VIDEOS).items():
        write(dump / name)
    recipe = light_recipe(tmp_path / "light.toml", rules={"all": Rule("1", max=0.0)})
    assert reelmill("curate", dump, "--out", out, "--recipe", recipe, "--executor", "inline").code == 0
    assert reelmill("report", out).code == 0
    page = (out / "report/index.html").read_text(encoding="utf-8")
    seen = dict.fromkeys(PICTURES | VIDEOS)
    for data, alt in re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="([^"]+)"', page):
        if alt in seen:
            strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
            seen[alt] = corners_of(strip[:, : strip.shape[0] * WIDTH // HEIGHT])
    assert {name for name, corners in seen.items() if corners is None or not near(corners, CORNERS, 24)} == set()
