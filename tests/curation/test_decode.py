"""Decode once: upright, honest times, truncation found, bounds held, memory bounded."""

import io
import json
import struct
import subprocess
import sys
import zlib
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from videos import scene_frames, textured, write_video

from reelmill.config import to_dict
from reelmill.curation import clips
from reelmill.curation.expanders import image, text, video
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig
from reelmill.curation.texts.config import TextConfig
from reelmill.errors import Refused
from reelmill.media.source import Source


def options(**changes):
    scenes = {**to_dict(ScenesConfig()), **changes.pop("scenes", {})}
    return {**to_dict(DecodeConfig()), **changes, "scenes": scenes}


def source(path):
    return Source(str(path), 0, path.stat().st_size)


def expand(path, **changes):
    messages = list(video.expand(source(path), options(**changes)))
    samples = [(body, arrays) for body, arrays in messages if body["type"] == "sample"]
    return samples, messages[-1][0]


def rotate_mp4(path, degrees):
    """Write a display matrix into an mp4's track header (clockwise degrees to turn for display)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    turned = {90: (0, 65536, -65536, 0), 180: (-65536, 0, 0, -65536), 270: (0, -65536, 65536, 0)}[degrees]
    a, b, c, d = turned
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def test_samples_cover_the_video_and_frames_lie_where_they_say(tmp_path):
    path = write_video(tmp_path / "v.mp4", scene_frames([(1, 48), (2, 72)]))
    samples, item = expand(path)
    assert [(round(s["start_s"], 3), round(s["end_s"], 3)) for s, _ in samples] == [(0.0, 2.0), (2.0, 5.0)]
    assert [list(a["times"]) for _, a in samples] == [[0, 0.5, 1, 1.5], [2, 2.5, 3, 3.5, 4, 4.5]]
    assert samples[0][1]["images"].shape == (4, 120, 160, 3)
    assert samples[0][1]["runs"].shape == (4, 3, 120, 160)
    assert (item["width"], item["height"], item["fps"], item["duration_s"]) == (160, 120, 24.0, 5.0)
    wanted = list(scene_frames([(1, 48), (2, 72)]))
    for _, arrays in samples:
        for at, got in zip(arrays["times"], arrays["images"], strict=True):
            assert np.abs(got.astype(int) - wanted[round(at * 24)]).mean() < 8


def test_no_run_crosses_a_cut(tmp_path):
    path = write_video(tmp_path / "v.mp4", scene_frames([(1, 49), (2, 60)]))  # sampled at frame 48, cut at 49
    samples, _ = expand(path)
    assert samples[0][0]["end_s"] == pytest.approx(49 / 24)
    assert [len(a["images"]) for _, a in samples] == [5, 5]
    assert [len(a["runs"]) for _, a in samples] == [4, 4]  # nor the end of the file


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path, degrees):
    picture = textured(3)
    path = rotate_mp4(write_video(tmp_path / "r.mp4", [picture] * 24), degrees)
    samples, item = expand(path)
    upright = np.rot90(picture, -degrees // 90)
    assert (item["height"], item["width"]) == upright.shape[:2]
    assert samples[0][1]["images"].shape[1:3] == upright.shape[:2]
    assert np.abs(samples[0][1]["images"][0].astype(int) - upright).mean() < 8
    clip = {"key": "k", "start_s": 0.0, "fps": 8.0, "frames": 4, "width": upright.shape[1], "height": upright.shape[0]}
    (_, arrays), *_ = [m for m in clips.video_clips(source(path), options(clips=[clip])) if m[0]["type"] == "clip"]
    assert np.abs(arrays["frames"][0].astype(int) - upright).mean() < 8


def test_the_pixels_aspect_is_applied(tmp_path):
    path = write_video(tmp_path / "s.mp4", [textured(1)] * 12, aspect=Fraction(2, 1))
    _, item = expand(path)
    assert (item["width"], item["height"]) == (320, 120)


def test_variable_rate_is_sampled_by_time(tmp_path):
    frames = list(scene_frames([(1, 60)]))
    times = [i / 30 if i < 30 else 1 + (i - 30) / 10 for i in range(60)]
    path = write_video(tmp_path / "vfr.mkv", frames, times=times)
    samples, item = expand(path)
    taken = np.concatenate([a["times"] for _, a in samples])
    assert np.allclose(taken, np.arange(len(taken)) / 2, atol=0.06)
    assert item["duration_s"] == pytest.approx(4.0, abs=0.15)


def test_missing_timestamps_count_frames(tmp_path):
    path = write_video(tmp_path / "raw.avi", scene_frames([(1, 48)]), codec="mpeg4", options={"g": "12"})
    samples, item = expand(path)
    assert item["duration_s"] == pytest.approx(2.0, abs=0.05)
    assert len(samples[0][1]["times"]) == 4


def test_a_truncated_mkv_is_found_though_it_raises_nothing(tmp_path):
    path = write_video(tmp_path / "t.mkv", scene_frames([(1, 96)]))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    with pytest.raises(Refused, match="truncated: "):
        expand(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("page.mp4", b"<!DOCTYPE html><html>not a video</html>", "not_a_video"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\nfile:///etc/passwd\n", "not_a_video"),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "not_a_video"),
        ("empty.mp4", b"", "not_a_video"),
        ("noise.mkv", b"\x1aE\xdf\xa3" + bytes(range(256)) * 20, "cannot_open"),
    ],
)
def test_what_is_no_video_is_refused_by_its_bytes(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Refused, match=reason):
        expand(path)


def test_bounds_are_checked_before_the_pixels(tmp_path):
    path = write_video(tmp_path / "v.mp4", scene_frames([(1, 48)]))
    for bound, reason in (({"max_bytes": 100}, "too_large"), ({"max_pixels": 1000}, "too_many_pixels")):
        with pytest.raises(Refused, match=reason):
            expand(path, **bound)
    with pytest.raises(Refused, match="too_long"):
        expand(path, max_duration_s=1.0)


def test_a_long_scene_is_closed_in_time_and_divided_evenly(tmp_path):
    path = write_video(tmp_path / "v.mp4", scene_frames([(1, 24 * 13)], 32, 48))
    samples, _ = expand(path, scenes={"max_s": 2.0, "max_open_s": 8.0})
    lengths = [s["end_s"] - s["start_s"] for s, _ in samples]
    assert lengths == pytest.approx([2.0] * 4 + [5 / 3] * 3, abs=1e-3)


def test_clips_are_the_pictures_on_the_screen(tmp_path):
    frames = list(scene_frames([(1, 240)]))
    path = write_video(tmp_path / "v.mp4", frames)
    wanted = [
        {"key": "late", "start_s": 8.0, "fps": 8.0, "frames": 8, "width": 160, "height": 120},
        {"key": "early", "start_s": 0.5, "fps": 12.0, "frames": 4, "width": 160, "height": 120},
    ]
    got = {b["key"]: a["frames"] for b, a in clips.video_clips(source(path), options(clips=wanted)) if "key" in b}
    for clip in wanted:
        for k, picture in enumerate(got[clip["key"]]):
            index = int(round((clip["start_s"] + k / clip["fps"]) * 24, 6))
            assert np.abs(picture.astype(int) - frames[index]).mean() < 8


def save(picture, **how):
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return buffer.getvalue()


def image_of(tmp_path, data, **changes):
    path = tmp_path / "image"
    path.write_bytes(data)
    (sample, arrays), (item, _) = image.expand(source(path), options(**changes))
    return sample, arrays["images"][0], item


def test_images_come_upright_and_rgb(tmp_path):
    picture = Image.fromarray(textured(1))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(picture.rotate(90, expand=True), format="JPEG", quality=95, exif=exif)
    for data in (save(picture.convert("CMYK"), format="JPEG", quality=95), turned, save(picture, format="WEBP")):
        sample, got, item = image_of(tmp_path, data)
        assert (sample["width"], sample["height"], item["codec"] != "") == (160, 120, True)
        assert np.abs(got.astype(int) - np.asarray(picture)).mean() < 12


def test_transparency_lies_over_white(tmp_path):
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    _, got, _ = image_of(tmp_path, save(clear, format="PNG"))
    assert got.min() == 255


def test_bad_images_are_refused(tmp_path):
    jpeg = save(Image.fromarray(textured(1)), format="JPEG")
    bomb = bytearray(save(Image.new("1", (8, 8)), format="PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    for data, reason in (
        (jpeg[: len(jpeg) // 2], "corrupt"),
        (b"GIF89a nonsense", "corrupt|not_an_image"),
        (b"%!PS-Adobe EPS", "not_an_image"),
        (bytes(bomb), "too_many_pixels"),
    ):
        with pytest.raises(Refused, match=reason):
            image_of(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\xff\xfe\x00x", "not_utf8"), (b"  \n", "empty"), (b"a\x00b", "not_text"), (b"x" * 99, "too_large")],
)
def test_bad_texts_are_refused(tmp_path, data, reason):
    path = tmp_path / "t.txt"
    path.write_bytes(data)
    with pytest.raises(Refused, match=reason):
        text.read_text(source(path), TextConfig(clean=False), 50)


@pytest.mark.slow
def test_memory_is_bounded_on_a_two_hour_file(tmp_path):
    """Two hours of one shot, 320x180 at 5 frames/s: peak memory stays under 700 MB (it holds 300 s of samples)."""
    picture = textured(1, 180, 320)
    frames = (np.roll(picture, i, 1) for i in range(2 * 3600 * 5))
    path = write_video(tmp_path / "long.mp4", frames, fps=5, options={"crf": "40", "preset": "ultrafast"})
    code = (
        "import sys, json\n"
        "from reelmill.curation.expanders import video\n"
        "from reelmill.media.source import Source\n"
        "options = json.loads(sys.argv[3])\n"
        "n = sum(b['type'] == 'sample' for b, _ in video.expand(Source(sys.argv[1], 0, int(sys.argv[2])), options))\n"
        # What getrusage says would include whoever started this process.
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(n, int(status['VmHWM'].split()[0]) // 1024)"
    )
    command = [sys.executable, "-c", code, str(path), str(path.stat().st_size), json.dumps(options())]
    samples, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(samples) == 360
    assert int(megabytes) < 700
