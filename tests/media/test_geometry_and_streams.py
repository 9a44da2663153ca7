"""Pictures stand upright whatever the file says of itself, sizes may change, and the video is the right stream."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from media_reading import expand, first_picture, near, read
from odd_media import CORNERS, FPS, Film, corners_of, film, picture, pictures, set_matrix

from reelmill.errors import Refused

TL, TR, BL, BR = CORNERS
MATRICES = {  # a b c d: a stored point (x, y) is shown at (a x + c y, b x + d y)
    "upright": ((1, 0, 0, 1), (TL, TR, BL, BR)),
    "mirrored": ((-1, 0, 0, 1), (TR, TL, BR, BL)),
    "upside down": ((-1, 0, 0, -1), (BR, BL, TR, TL)),
    "flipped": ((1, 0, 0, -1), (BL, BR, TL, TR)),
    "transposed": ((0, 1, 1, 0), (TL, BL, TR, BR)),
    "right": ((0, 1, -1, 0), (BL, TL, BR, TR)),
    "transversed": ((0, -1, -1, 0), (BR, TR, BL, TL)),
    "left": ((0, -1, 1, 0), (TR, BR, TL, BL)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices(tmp_path, name):
    matrix, expected = MATRICES[name]
    path = set_matrix(film(tmp_path / "v.mp4", pictures(3)), matrix)
    samples, item = expand(path)
    size = (96, 128) if matrix[0] == 0 else (128, 96)
    assert (item["width"], item["height"]) == (samples[0][0]["width"], samples[0][0]["height"]) == size
    assert near(corners_of(samples[0][1]["images"][0]), expected)
    assert near(corners_of(first_picture(path)), expected)


def test_a_matrix_and_oblong_pixels_go_together(tmp_path):
    path = set_matrix(film(tmp_path / "v.mp4", pictures(3), aspect=Fraction(4, 3)), (0, 1, -1, 0))
    _, item = expand(path)
    assert (item["width"], item["height"]) == (96, round(128 * 4 / 3))


def test_a_matrix_that_turns_by_a_little_is_upright(tmp_path):
    path = set_matrix(film(tmp_path / "v.mp4", pictures(3)), (0.98, 0.17, -0.17, 0.98))
    assert near(corners_of(first_picture(path)), CORNERS)


def test_pixels_that_cannot_be_are_square(tmp_path):
    _, item = expand(film(tmp_path / "v.mkv", pictures(3), aspect=Fraction(1, 200)))
    assert (item["width"], item["height"]) == (128, 96)


def joined(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_a_size_that_changes_is_a_cut(tmp_path):
    wide = film(tmp_path / "wide.ts", pictures(20))
    high = film(tmp_path / "high.ts", pictures(20, 96, 128))
    small = film(tmp_path / "small.ts", pictures(20, 64, 48))
    samples, item = expand(joined(tmp_path / "v.ts", wide, high, small))
    spans = [(s["start_s"], s["end_s"], s["width"], s["height"]) for s, _ in samples]
    assert spans == [(0, 2, 128, 96), (2, 4, 96, 128), (4, 6, 64, 48)]
    assert [a["images"].shape[1:3] for _, a in samples] == [(96, 128), (128, 96), (48, 64)]
    assert all(near(corners_of(image), CORNERS) for _, a in samples for image in a["images"])
    assert (item["width"], item["height"], item["duration_s"]) == (128, 96, 6)


def test_pixels_that_change_their_shape_are_a_cut(tmp_path):
    """What television does between films of 4:3 and 16:9: the stored size stays."""
    narrow = film(tmp_path / "n.ts", pictures(20), codec="mpeg2video", fps=25, aspect=Fraction(1, 1))
    wide = film(tmp_path / "w.ts", pictures(20), codec="mpeg2video", fps=25, aspect=Fraction(4, 3))
    samples, _ = expand(joined(tmp_path / "v.ts", narrow, wide))
    assert [(s["width"], s["height"]) for s, _ in samples] == [(128, 96), (171, 96)]


def two(path, *, first, second, seconds=(2, 2), default=(True, True), options=None):
    """A file with two video streams of these sizes; pictures of the first are grey."""
    with Film(path, options=options) as out:
        streams = [out.video(*first), out.video(*second)]
        for stream, is_default in zip(streams, default, strict=True):
            stream.disposition = av.stream.Disposition.default if is_default else av.stream.Disposition(0)
        grey = [np.full((first[1], first[0], 3), 90, np.uint8)] * int(seconds[0] * FPS)
        out.encode(streams[0], grey)
        out.encode(streams[1], pictures(int(seconds[1] * FPS), *second))
    return path


STREAMS = {
    "default": {"first": (256, 192), "second": (128, 96), "default": (False, True)},
    "largest": {"first": (64, 48), "second": (128, 96)},
    "longest": {"first": (128, 96), "second": (128, 96), "seconds": (1.5, 2)},
    "a default that is a picture": {"first": (256, 192), "second": (128, 96), "seconds": (0.1, 2)},
    "largest of none": {"first": (64, 48), "second": (128, 96), "default": (False, False)},
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("mkv", name) for name in STREAMS] + [("mp4", name) for name in STREAMS if name != "largest of none"],
)
def test_of_two_streams_the_default_the_largest_the_longest(tmp_path, kind, name):
    path = two(tmp_path / f"v.{kind}", **STREAMS[name])
    _, item = expand(path)
    assert (item["stream"], item["video_streams"]) == (1, 2)
    assert (item["width"], item["height"], item["duration_s"]) == (128, 96, 2)
    assert near(corners_of(first_picture(path)), CORNERS)


def with_cover(path, streams):
    """An MP4 with a picture among its streams that is not a track: in `covr` of its metadata."""
    cover = first_jpeg()
    data = box(b"data", struct.pack(">II", 13, 0) + cover)
    handler = box(b"hdlr", struct.pack(">II4s4s", 0, 0, b"mdir", b"appl") + bytes(9))
    meta = box(b"meta", bytes(4) + handler + box(b"ilst", box(b"covr", data)))
    raw = bytearray(streams.read_bytes())
    at = raw.rindex(b"moov") - 4
    (length,) = struct.unpack_from(">I", raw, at)
    assert at + length == len(raw)  # the index lies at the end, so nothing moves
    added = box(b"udta", meta)
    raw[at : at + 4] = struct.pack(">I", length + len(added))
    path.write_bytes(raw + added)
    return path


def box(kind, content):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def first_jpeg():
    frame = av.VideoFrame.from_ndarray(picture(), format="rgb24").reformat(format="yuvj420p")
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = 128, 96, "yuvj420p"
    codec.time_base = Fraction(1, 25)
    return bytes(codec.encode(frame)[0])


def test_a_cover_is_no_video(tmp_path):
    with Film(tmp_path / "sound.mp4") as out:
        out.hum(out.sound(), 2)
    with pytest.raises(Refused, match="no_video"):
        expand(tmp_path / "sound.mp4")
    with pytest.raises(Refused, match="no_video: the only picture is a cover"):
        expand(with_cover(tmp_path / "cover.mp4", tmp_path / "sound.mp4"))
    _, item = expand(with_cover(tmp_path / "both.mp4", film(tmp_path / "v.mp4", sound_s=2)))
    assert (item["width"], item["height"], item["frames"], item["video_streams"]) == (128, 96, 20, 1)


def test_facts_say_what_was_read(tmp_path):
    facts, _ = read(film(tmp_path / "v.mp4", sound_s=2))
    assert (facts.codec, facts.stream, facts.video_streams, facts.frames) == ("h264", 0, 1, 20)
    assert (facts.interlaced, facts.clock_steps, facts.bit_depth) == (False, 0, 8)
