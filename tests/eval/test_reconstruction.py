"""`reelmill eval reconstruction`: what is shown to the tokenizer, what is compared, what is said."""

import json

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from videos import scene_frames, textured, write_video

from reelmill.errors import DataError, WeightsError
from reelmill.eval.reconstruction import EMU3, Evaluation
from reelmill.eval.reconstruction.inputs import clip_at, picture_at
from reelmill.pipelines.cli import app
from reelmill.train.vision.media import MediaFile


class Lossless:
    """A tokenizer in whose codes everything is kept. It remembers what it saw."""

    name, codes, spatial, temporal = "lossless", 256, 8, 4

    def __init__(self, darken=()):
        self.seen = []
        self.darken = list(darken)

    def encode(self, frames):
        self.seen.append(frames)
        return np.zeros((len(frames) // 4, frames.shape[1] // 8, frames.shape[2] // 8), np.int32)

    def decode(self, codes, shape):
        frames = self.seen[-1].copy()
        assert frames.shape[:3] == shape
        frames[self.darken] //= 2
        return frames

    def encode_image(self, image):
        self.seen.append(image)
        return np.arange(image.shape[0] // 8 * image.shape[1] // 8, dtype=np.int32).reshape(image.shape[0] // 8, -1)

    def decode_image(self, codes):
        return self.seen[-1]


def steps(count, height=64, width=80):
    """Frames of one brightness each: 4, 8, 12, ..."""
    return [np.full((height, width, 3), 4 + 4 * i, np.uint8) for i in range(count)]


def brightness(frames):
    return np.round((frames.mean(axis=(1, 2, 3)) - 4) / 4).astype(int).tolist()


def test_a_clip_holds_what_is_on_screen_at_each_moment(tmp_path):
    exact = MediaFile(write_video(tmp_path / "12.mp4", steps(24), fps=12))
    assert brightness(clip_at(exact, 64, 12, 5)) == list(range(24))
    faster = MediaFile(write_video(tmp_path / "24.mp4", steps(48), fps=24))
    assert brightness(clip_at(faster, 64, 12, 5)) == list(range(0, 48, 2))
    slower = MediaFile(write_video(tmp_path / "6.mp4", steps(10), fps=6))
    assert brightness(clip_at(slower, 64, 12, 5)) == [i // 2 for i in range(20)]
    assert brightness(clip_at(slower, 64, 12, 1)) == [i // 2 for i in range(12)]


def test_a_playlist_that_is_called_a_video_opens_nothing(tmp_path):
    write_video(tmp_path / "real.mp4", steps(24), fps=12)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'real.mp4'}\n")
    with pytest.raises(DataError, match="not_a_video"):
        clip_at(MediaFile(tmp_path / "list.mp4"), 64, 12, 5)


def test_a_clip_keeps_its_aspect_and_nothing_is_enlarged(tmp_path):
    source = MediaFile(write_video(tmp_path / "wide.mp4", scene_frames([(1, 6)], height=120, width=200), fps=12))
    assert clip_at(source, 64, 12, 5).shape == (6, 64, 107, 3)
    with pytest.raises(DataError, match=r"wide\.mp4 is 200x120, smaller than 128"):
        clip_at(source, 128, 12, 5)
    with pytest.raises(DataError, match="fewer than two frames at 1 frames/s"):
        clip_at(source, 64, 1, 5)


def test_a_clip_may_be_part_of_a_video(tmp_path):
    part = MediaFile(write_video(tmp_path / "24.mp4", steps(48), fps=24), start_s=0.5, end_s=1.0)
    assert brightness(clip_at(part, 64, 12, 5)) == [12, 14, 16, 18, 20, 22]


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"sound\.mp4 .*has no video stream"):
        clip_at(MediaFile(tmp_path / "sound.mp4"), 64, 12, 5)


def test_a_picture_is_cut_to_its_middle(tmp_path):
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 200
    Image.fromarray(picture).save(tmp_path / "three.png")
    assert (picture_at(MediaFile(tmp_path / "three.png"), 96)[:, :, 2:-2] == 200).all()
    with pytest.raises(DataError, match=r"three\.png is 300x100, smaller than 128"):
        picture_at(MediaFile(tmp_path / "three.png"), 128)


def test_of_a_long_video_five_seconds_are_reconstructed_and_eight_frames_compared(tmp_path):
    source = MediaFile(write_video(tmp_path / "long.mp4", scene_frames([(1, 72)], height=64, width=96), fps=12))
    compared = [0, 8, 17, 25, 34, 42, 51, 59]
    missed = [i for i in range(60) if i not in compared]
    tokenizer = Lossless(darken=missed)
    evaluation = Evaluation(tokenizer, 64)
    evaluation.add(source)
    assert tokenizer.seen[0].shape == (60, 64, 96, 3)
    (score,) = evaluation.scores
    assert score.frames == 60
    assert score.quality.psnr == 60
    assert score.quality.ssim == pytest.approx(1)
    assert score.quality.lpips == 0
    assert score.quality.ms_ssim is None
    assert score.quality.bits_per_pixel == pytest.approx(8 / (8 * 8 * 4))
    assert score.flicker_within > 0
    darkened = Evaluation(Lossless(darken=compared[:1]), 64)
    darkened.add(source)
    assert np.isfinite(darkened.scores[0].quality.lpips) and darkened.scores[0].quality.lpips > 0


def test_pictures_are_summed_up_with_jpeg_beside_them(tmp_path):
    evaluation = Evaluation(Lossless(), 64)
    for seed in (1, 2):
        Image.fromarray(textured(seed)).save(tmp_path / f"{seed}.png")
        evaluation.add(MediaFile(tmp_path / f"{seed}.png"))
    summary = evaluation.summary("picture")
    assert (summary.files, summary.frames, summary.tokens) == (2, 2, 128)
    assert summary.codes_used == 64 / 256
    assert summary.perplexity == pytest.approx(64)
    assert summary.flicker_within is None
    jpegs = [score.jpeg for score in evaluation.scores]
    assert summary.jpeg.psnr == pytest.approx((jpegs[0].psnr + jpegs[1].psnr) / 2)
    assert 15 < summary.jpeg.psnr < 40
    assert evaluation.summary("video") is None


def test_a_size_that_the_tokenizer_cannot_take_is_refused():
    with pytest.raises(DataError, match="multiple of 8"):
        Evaluation(Lossless(), 100)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "clip.mp4", scene_frames([(1, 24)], height=128, width=160), fps=24)
    Image.fromarray(textured(2, 160, 200)).save(folder / "picture.png")
    Image.fromarray(textured(3, 60, 60)).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["eval", "reconstruction", "reelmill-tok-xs", *map(str, arguments)])


def test_the_command_reports_every_file_and_draws_it(media, tmp_path):
    result = run(media, "--size", 128, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {(file["name"], file["frames"]) for file in report["files"]} == {("clip.mp4", 12), ("picture.png", 1)}
    assert report["summary"]["video"]["tokens"] == 3 * 16 * 20
    assert report["summary"]["picture"]["quality"]["bits_per_pixel"] == pytest.approx(12 / 64)
    assert report["summary"]["picture"]["jpeg"]["lpips"] > 0
    assert 10 < report["summary"]["video"]["quality"]["psnr"] < 50
    assert [reason.partition("/broken")[2][:4] or reason for reason in report["left_out"]] == [
        ".jpg",
        f"{media}/small.png is 60x60, smaller than 128",
    ]
    drawn = {file.name: Image.open(file).size for file in (tmp_path / "out" / "pictures").iterdir()}
    assert set(drawn) == {"video-00-clip.png", "picture-00-picture.png"}
    assert drawn["video-00-clip.png"][0] > 8 * 256
    assert drawn["picture-00-picture.png"][0] > 3 * 256


def test_the_table_stands_beside_the_published_one(media):
    result = run(media / "clip.mp4", "--size", 128)
    assert result.exit_code == 0, result.output
    rows = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if "│" in line}
    assert str(EMU3[128].psnr) in rows["PSNR, dB"]
    assert "flicker across chunks, levels" in rows
    assert "rFID (lower is nearer)" not in rows


def test_nothing_to_judge_is_an_error_that_says_why(media, tmp_path):
    with pytest.raises(DataError, match=r"nothing could be judged:\n.*small.png is 60x60, smaller than 128"):
        raise run(media / "small.png", "--size", 128).exception
    with pytest.raises(DataError, match="no pictures or videos in"):
        raise run(tmp_path).exception


def test_a_missing_inception_names_the_command_that_brings_it(media, tmp_path, monkeypatch):
    from reelmill import weights

    lpips = weights.path("lpips-alex")
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    place = tmp_path / "weights" / lpips.parent.name
    place.mkdir(parents=True)
    (place / lpips.name).symlink_to(lpips)
    with pytest.raises(WeightsError, match="reelmill models pull inception-fid"):
        raise run(media, "--rfid").exception
