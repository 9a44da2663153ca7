"""Damage of videos: what decoder, container and clock say of it becomes columns, and rules judge by them."""

import av
import numpy as np
import pytest
from media_reading import expand, read
from odd_media import FPS, cut, film, pictures
from videos import scene_frames

from reelmill.errors import Refused
from reelmill.media.damage import Damage

X264 = {"options": {"g": "10", "bf": "0", "crf": "20"}}


def scenes(path, **how):
    """Two seconds of one texture, two of another: two clips, a key frame at least each second."""
    return film(path, list(scene_frames([(1, 40), (2, 40)], 96, 128)), fps=20, **(how or X264))


def flipped(path, share, count=40):
    """Change bytes from a share of the file on."""
    data = bytearray(path.read_bytes())
    at = int(len(data) * share)
    for n in range(at, at + count):
        data[n] ^= 0x55
    path.write_bytes(data)
    return path


def found(path):
    samples, item = expand(path)
    return [(body["damaged_frames"], body["missing_frames"]) for body, _ in samples], item


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.wmv", "a.webm", "a.mpg"])
def test_a_sound_file_shows_none(tmp_path, name):
    codec = {"avi": "mpeg4", "wmv": "wmv2", "webm": "libvpx", "mpg": "mpeg2video"}.get(name[2:], "libx264")
    path = film(tmp_path / name, list(scene_frames([(1, 50)], 96, 128)), codec=codec, fps=25, options={"g": "10"})
    clips, item = found(path)
    assert (clips, item["errors"], item["damage"]) == ([(0, 0)], 0, None)
    assert item["steadiness"] > 0.95  # the timestamps of an MPEG program stream may slip


def test_an_error_spoils_the_frames_up_to_the_next_key_frame_and_leaves_other_clips_alone(tmp_path):
    path = flipped(scenes(tmp_path / "a.mp4"), 0.75)
    (first, second), item = found(path)
    assert first == (0, 0)
    assert 0 < second[0] <= 20 and item["errors"] > 0
    assert item["damage"].startswith("h#: ")


def test_errors_of_intra_only_video_spoil_a_frame_each(tmp_path):
    path = film(tmp_path / "a.avi", list(scene_frames([(1, 30)], 96, 128)), codec="mjpeg", pixels="yuvj420p",
                colours=(5, 2, 2, 2))  # fmt: skip
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(500) + data[half + 500 :])
    ((damaged, _),), _ = found(path)
    assert 1 <= damaged <= 2


def test_checksums_of_matroska_see_what_no_decoder_does(tmp_path):
    path = film(tmp_path / "a.mkv", [np.full((96, 128, 3), 90 + n, np.uint8) for n in range(20)], codec="libvpx-vp9",
                options={"g": "10", "deadline": "realtime"})  # fmt: skip
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        last = [packet.pos + packet.size // 2 for packet in container.demux(video=0) if packet.size][-1]
    data[last + 8] ^= 1
    path.write_bytes(data)
    ((damaged, _),), item = found(path)
    assert damaged and "a cluster's checksum is wrong" in item["damage"]


def packets(path):
    """(where its bytes begin in the file, how many, whether it is a key) of each packet."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size, packet.is_keyframe) for packet in container.demux(video=0) if packet.size]


def with_bit(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    flipped = path.with_name(f"flipped{path.suffix}")
    flipped.write_bytes(data)
    return flipped


VP9 = {"codec": "libvpx-vp9", "options": {"g": "10", "deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"}}


def test_a_frame_of_vp9_ends_where_its_packet_does(tmp_path):
    path = scenes(tmp_path / "a.mp4", **VP9)
    sound, item = found(path)
    assert (sound, item["errors"]) == ([(0, 0), (0, 0)], 0)
    for number in range(12, 78, 16):
        place, size, _ = packets(path)[number]
        clips, item = found(with_bit(path, place + size * 2 // 3))
        touched, other = (clips[0], clips[-1]) if number < 40 else (clips[-1], clips[0])
        assert item["errors"] and touched[0] and other == (0, 0)


def test_a_loss_touches_the_clip_in_which_the_frame_before_it_stays(tmp_path):
    path = scenes(tmp_path / "a.mp4", **VP9)
    last = packets(path)[39]  # of the first scene; its picture is lost, and the next is a key frame
    assert packets(path)[40][2]
    (first, _), item = found(with_bit(path, last[0] + last[1] // 2))
    assert item["errors"] and first[0]


def test_a_key_frame_of_vp8_ends_where_its_packet_does(tmp_path):
    path = scenes(tmp_path / "a.webm", codec="libvpx", options={"g": "10", "deadline": "realtime", "crf": "20"})
    assert found(path)[1]["errors"] == 0
    keys = [(place, size) for place, size, is_key in packets(path) if is_key]
    hit = [found(with_bit(path, place + size // 2))[1]["damage"] for place, size in keys[1:6]]
    assert sum(bool(words) and words.startswith("vp#: a key frame") for words in hit) >= 4


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx265"), ("a.mkv", "libx264")])
def test_holes_of_zeros_are_no_units(tmp_path, name, codec):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = film(tmp_path / name, list(scene_frames([(1, 20)], 96, 128)), codec=codec, fps=20, options=options)
    assert found(path)[1]["errors"] == 0
    place, size, _ = packets(path)[0]
    data = bytearray(path.read_bytes())
    data[place + size - 60 : place + size - 40] = bytes(20)
    path.write_bytes(data)
    assert "zeros that no writer leaves" in found(path)[1]["damage"]


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_pictures_of_mpeg_are_numbered(tmp_path, codec):
    path = film(tmp_path / "a.mpg", pictures(40), codec=codec, fps=25, options={"g": "10", "bf": "2"})
    assert found(path)[1]["errors"] == 0
    for dropped in (3, 5, 10):  # a B picture, a P picture, a key frame
        lost = tmp_path / f"{dropped}.avi"
        with av.open(str(path)) as read_from, av.open(str(lost), "w") as out:
            copy = out.add_stream_from_template(read_from.streams.video[0])
            for n, packet in enumerate(packet for packet in read_from.demux(video=0) if packet.size):
                if n != dropped:
                    packet.stream, packet.pts, packet.dts = copy, n, n
                    packet.time_base = copy.time_base or packet.time_base
                    out.mux(packet)
        assert "mpeg: " in (found(lost)[1]["damage"] or ""), dropped


def test_frames_that_a_steady_clock_misses_are_counted_where_they_are(tmp_path):
    path = scenes(tmp_path / "a.mp4")
    lost = tmp_path / "lost.mp4"
    with av.open(str(path)) as read_from, av.open(str(lost), "w") as out:
        stream = read_from.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for n, packet in enumerate(packet for packet in read_from.demux(stream) if packet.size):
            if n not in (67, 68, 69):
                packet.stream = copy
                out.mux(packet)
    (first, second), item = found(lost)
    assert (first, second[1]) == ((0, 0), 3)
    assert item["steadiness"] == pytest.approx(75 / 76)


@pytest.mark.parametrize(
    ("ticks", "missing", "steadiness"),
    [
        ([0, 100, 200, 500, 600, 700], 2, 0.8),
        ([0, 100, 200, 1200, 1300, 1400], 0, 0.8),  # a pause
        ([0, 100, 130, 290, 330, 480], 0, 0.2),  # no steady clock
    ],
)
def test_gaps_pauses_and_clocks_that_are_not_steady(tmp_path, ticks, missing, steadiness):
    path = film(tmp_path / "a.mkv", pictures(len(ticks)), ticks=1000, pts=ticks)
    ((_, lost),), item = found(path)
    assert (lost, item["steadiness"]) == (missing, pytest.approx(steadiness))


def test_where_the_clock_slips_and_comes_back_nothing_is_missing(tmp_path):
    path, slips = film(tmp_path / "a.mkv", pictures(20), codec="mjpeg", pixels="yuvj420p"), tmp_path / "b.mkv"
    with av.open(str(path)) as read_from, av.open(str(slips), "w") as out:
        stream = read_from.streams.video[0]
        copy = out.add_stream_from_template(stream)
        step = round(1 / FPS / stream.time_base)
        for n, packet in enumerate(packet for packet in read_from.demux(stream) if packet.size):
            packet.stream = copy
            packet.pts += step * (3 if n == 10 else 5)
            out.mux(packet)
    ((_, lost),), item = found(slips)
    assert (lost, item["clock_steps"]) == (0, 1)


def test_files_that_were_joined_or_begin_inside_a_group_are_sound(tmp_path):
    parts = [film(tmp_path / name, sound_s=2).read_bytes() for name in ("a.ts", "b.ts")]
    joined, inside = tmp_path / "joined.ts", tmp_path / "inside.ts"
    joined.write_bytes(parts[0] + parts[1])
    with av.open(str(tmp_path / "a.ts")) as container:
        third = [packet.pos for packet in container.demux(video=0) if packet.size][3]
    inside.write_bytes(parts[0][third // 188 * 188 :] + parts[1])
    for path in (joined, inside):
        facts, _ = read(path)
        assert (facts.errors, facts.damage) == (0, None)


@pytest.mark.parametrize(("more", "damaged"), [(0, 0), (2, 0), (9, 1)])
def test_an_avi_with_fewer_frames_than_its_header_counts(tmp_path, more, damaged):
    path = film(tmp_path / "a.avi", codec="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32
    data[at : at + 4] = (20 + more).to_bytes(4, "little")
    path.write_bytes(data)
    ((found_damaged, _),), item = found(path)
    assert (found_damaged, item["errors"]) == (damaged, damaged)


def test_a_file_that_ends_within_its_last_packet(tmp_path):
    path = film(tmp_path / "a.ivf", codec="libvpx", options={"deadline": "realtime"})
    assert found(path)[0] == [(0, 0)]
    ((damaged, _),), item = found(cut(path, end=-20))
    assert damaged and "a packet is marked as corrupt" in item["damage"]


def test_a_file_that_decodes_to_nothing_is_refused(tmp_path):
    path = scenes(tmp_path / "a.mp4")
    data = path.read_bytes()
    at = data.index(b"mdat") + 4
    path.write_bytes(data[:at] + bytes(len(data) - at - 2000) + data[-2000:])
    with pytest.raises(Refused):
        read(path)


def test_rate(tmp_path):
    facts, _ = read(film(tmp_path / "a.mp4"))
    assert (facts.fps, facts.steadiness) == (FPS, 1.0)


def test_colours_that_no_picture_has(tmp_path):
    """Planes of Y, U and V with a patch that is (0, 0, 0), as decoders show what they never wrote: a bright green."""
    frames = []
    for n in range(12):
        planes = np.full((96 * 3 // 2, 128), 128, np.uint8)
        if n >= 6:
            planes[:96, :32] = 0
            planes[96:] = np.where(np.arange(128) % 64 < 16, 0, 128)
        frames.append(av.VideoFrame.from_ndarray(planes, format="yuv420p"))
    ((body, _),), _ = expand(film(tmp_path / "a.mkv", frames, codec="ffv1"))
    assert body["impossible_colours"] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("matrix", [(1, 1, 1, 1), (5, 6, 6, 2), (9, 14, 9, 1)])
def test_the_purest_colours_are_possible(tmp_path, matrix):
    pure = np.zeros((96, 128, 3), np.uint8)
    for n in range(8):
        pure[:, n * 16 : n * 16 + 16] = [255 * (n >> bit & 1) for bit in range(3)]
    path = film(tmp_path / "a.mkv", [pure] * 4, codec="ffv1", pixels="yuv444p", colours=matrix)
    ((body, _),), _ = expand(path)
    assert body["impossible_colours"] == 0


def test_frames_of_rgb_are_not_measured(tmp_path):
    ((body, _),), _ = expand(film(tmp_path / "a.mov", pictures(6), codec="qtrle", pixels="rgb24"))
    assert (body["damaged_frames"], body["impossible_colours"]) == (0, None)


def test_errors_whose_frames_never_come_take_no_room():
    damage = Damage()
    for n in range(5000):
        damage.note(["a packet cannot be decoded"], 10**15 + n)
    assert (damage.errors, damage.unshown) == (5000, 1000)
    assert damage.words() == "a packet cannot be decoded (5000)"
