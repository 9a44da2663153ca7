"""The corpus' odd clocks, cut files and files of several streams."""

import struct
from fractions import Fraction

import av
import numpy as np
from corpus_case import FRAMES, HEIGHT, WIDTH, Case, refused
from corpus_videos import FAST, from_packets
from grading import BT709, BT2020, BT2020_10, HLG, P3, PC, PQ, TV, graded
from odd_media import Film, boxes, cut, film, pictures
from odd_pictures import saved
from PIL import Image

LONG = 16
UNEVEN = [0, 100, 140, 300, 420, 430, 600, 900, 1000, 1040]


def _film(path, count=FRAMES, **how):
    return film(path, pictures(count, WIDTH, HEIGHT), **how)


def shifted(seconds, first=0, count=None, dts=True):
    """Moves the timestamps of `count` packets from the first on."""
    number = -1

    def move(packet):
        nonlocal number
        number += 1
        if number >= first and (count is None or number < first + count):
            ticks = round(seconds / packet.time_base)
            packet.pts += ticks
            packet.dts += ticks if dts else 0
        return packet

    return move


def dropped(first, count):
    """Leaves packets out."""
    number = -1

    def move(packet):
        nonlocal number
        number += 1
        return None if first <= number < first + count else packet

    return move


def clocks():
    """Time as a person would see it."""
    for kind in ("mp4", "mkv", "ts", "flv"):
        yield Case(f"late.{kind}", lambda path: _film(path, move=shifted(7)), seconds=0.6)
        yield Case(f"slip.{kind}", lambda path: _film(path, LONG, move=shifted(300, 9, 1, dts=False)), seconds=1.6,
                   facts={"clock_steps": 1, "frames": LONG})  # fmt: skip
        yield Case(f"jump.{kind}", lambda path: _film(path, LONG, move=shifted(600, 9)), seconds=1.6,
                   facts={"clock_steps": 1, "frames": LONG})  # fmt: skip
        yield Case(f"pause.{kind}", lambda path: _film(path, LONG, move=shifted(2, 9)), seconds=3.6,
                   facts={"clock_steps": 0})  # fmt: skip
        yield Case(f"reordered.{kind}", lambda path: _film(path, LONG, options={"bf": "3", "preset": "medium"}),
                   seconds=1.6, facts={"frames": LONG})  # fmt: skip
        yield Case(f"uneven.{kind}", lambda path: _film(path, 10, ticks=1000, pts=UNEVEN), facts={"frames": 10,
                   "clock_steps": 0})  # fmt: skip
        yield Case(f"twice.{kind}", lambda path: _film(path, 6, ticks=1000, pts=[0, 100, 101, 200, 300, 400]),
                   facts={"frames": 6, "clock_steps": 0})  # fmt: skip
        yield Case(f"one.{kind}", lambda path: _film(path, 1), seconds=0.1, facts={"frames": 1})
        yield Case(f"dropped.{kind}", lambda path: _film(path, LONG, options={"g": "1"}, move=dropped(5, 4)),
                   seconds=1.6, facts={"frames": LONG - 4})  # fmt: skip
    for fps in (Fraction(24000, 1001), Fraction(30000, 1001), 12.5, 60, 240, 1):
        yield Case(f"rate-{float(fps):.3f}.mp4", lambda path, fps=fps: _film(path, fps=fps),
                   seconds=float(FRAMES / Fraction(fps).limit_denominator(1001)))  # fmt: skip
    for fps in (10, 24, 30, 50):
        yield Case(f"elementary-{fps}.h264", lambda path, fps=fps: _film(path, fps=fps), seconds=FRAMES / fps,
                   facts={"fps": float(fps)})  # fmt: skip
    yield Case("wrapped.ts", lambda path: _film(path, LONG, move=shifted((1 << 33) / 90_000 - 0.8)), seconds=1.6,
               facts={"frames": LONG})  # fmt: skip
    yield Case("edited.mp4", lambda path: edited(_film(path, 20, options={"g": "1"}), 0.4, 1.0), seconds=1.0)
    yield Case("delayed.mp4", lambda path: edited(_film(path, 10), -0.5, 1.0), seconds=1.0)
    yield Case("open.ts", _open_group, facts={"clock_steps": 0})
    yield Case("inside.ts", lambda path: _film(path, LONG, move=dropped(0, 4)), seconds=0.6, facts={"frames": 6})
    yield Case("joined.ts", lambda path: _joined(path, 3), seconds=1.8, facts={"clock_steps": 2, "frames": 18})
    yield Case("joined.mpg", lambda path: _joined(path, 2, codec="mpeg2video", fps=25), seconds=0.48,
               facts={"frames": 12})  # fmt: skip
    yield Case("sizes.ts", _sizes, seconds=1.2, samples=2)


def edited(path, start_s, seconds):
    """Write an edit list into an MP4: `seconds` from `start_s` on; where that is negative, so long nothing first."""
    data = bytearray(path.read_bytes())
    ((at, end),) = [(at, end) for kind, at, end in boxes(data) if kind == b"moov"]
    assert end == len(data)
    ((track, track_end),) = [(a, b) for kind, a, b in boxes(data, at + 8, end) if kind == b"trak"]
    inside = {kind: (a, b) for kind, a, b in boxes(data, track + 8, track_end)}
    a, b = inside[b"mdia"]
    media = {kind: place for kind, *place in boxes(data, a + 8, b)}
    units = struct.unpack_from(">I", data, media[b"mdhd"][0] + 20)[0]
    header = next(a for kind, a, _ in boxes(data, at + 8, end) if kind == b"mvhd")
    ticks = struct.unpack_from(">I", data, header + 20)[0]
    edits = [(round(-start_s * ticks), -1)] if start_s < 0 else []
    edits.append((round(seconds * ticks), round(max(start_s, 0) * units)))
    listed = struct.pack(">II", 0, len(edits)) + b"".join(struct.pack(">IiHH", *edit, 1, 0) for edit in edits)
    box = struct.pack(">I4s", 16 + len(listed), b"edts") + struct.pack(">I4s", 8 + len(listed), b"elst") + listed
    old = inside.get(b"edts", (a, a))
    data[old[0] : old[1]] = box
    grown = len(box) - (old[1] - old[0])
    for place in (at, track):
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + grown)
    path.write_bytes(data)
    return path


def _open_group(path):
    """The first pictures need frames before the file's beginning, and are shown before its key frame."""
    options = {"bf": "3", "g": "8", "preset": "medium", "x264-params": "open-gop=1:scenecut=0:b-adapt=0"}
    return film(path, pictures(24, WIDTH, HEIGHT), options=options, move=dropped(0, 8))


def _joined(path, count, **how):
    part = _film(path.with_name(f"part-{path.name}"), **how)
    path.write_bytes(part.read_bytes() * count)
    part.unlink()


def _sizes(path):
    parts = [film(path.with_name(f"{n}-{path.name}"), pictures(FRAMES, *size)) for n, size in
             enumerate([(WIDTH, HEIGHT), (HEIGHT, WIDTH)])]  # fmt: skip
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


CUT = {
    "mp4": {"muxing": {"movflags": "faststart"}},
    "mov": {"muxing": {"movflags": "faststart"}},
    "3gp": {"codec": "mpeg4", "muxing": {"movflags": "faststart"}},
    "mkv": {},
    "webm": {"codec": "libvpx"},
    "avi": {"codec": "mpeg4"},
    "flv": {"codec": "flv"},
    "wmv": {"codec": "wmv2"},
    "ogv": {"codec": "libvpx"},
    "nut": {"codec": "mpeg4"},
    "ivf": {"codec": "libvpx"},
    "mxf": {"codec": "mpeg2video", "fps": 25},
}


def cuts():
    """Files that end too early, and files that only look so."""
    for kind, how in CUT.items():
        for name, share, end in (("half", 0.5, None), ("packet", None, -200)):
            if kind in ("nut", "ivf", "mxf") and name == "packet":
                continue

            def make(path, how=how, share=share, end=end):
                codec = how.get("codec", "libx264")
                return cut(_film(path, LONG, **{"options": FAST.get(codec), **how}), share, end)

            yield refused(f"{name}.{kind}", make, "corrupt" if kind == "nut" else "truncated")
    yield refused("unfinished.mp4", _without_index, "cannot_open")
    yield refused("empty.mp4", lambda path: path.write_bytes(b""), "not_a_video")
    yield refused("blank.mkv", lambda path: path.write_bytes(bytes(4000)), "not_a_video")
    yield refused("few.mp4", lambda path: cut(_film(path), end=20), "truncated")
    yield refused("list.mp4", lambda path: path.write_text("#EXTM3U\nfile:///etc/passwd\n"), "not_a_video")
    yield refused("concat.avi", lambda path: path.write_text("ffconcat version 1.0\nfile /etc/passwd\n"), "not_a_video")
    yield Case("torn.avi", lambda path: _torn(path, [20]), seconds=4.0, facts={"frames": 39})
    yield refused("shreds.avi", lambda path: _torn(path, range(20, 25)), "corrupt: 5 of 41")
    yield refused("torn.y4m", _torn_frames, "corrupt: the container cannot be read on")
    yield refused("sound.mp4", _sound, "no_video")
    yield Case("heard.mp4", lambda path: _film(path, sound_s=2), seconds=0.6)
    yield Case("heard.mkv", lambda path: _film(path, sound_s=2), seconds=0.6)


def _without_index(path):
    data = _film(path).read_bytes()
    at = next(start for kind, start, _ in boxes(data) if kind == b"moov")
    path.write_bytes(data[:at])


def _torn(path, broken):
    """Pictures in PNG, some of which are rubbish behind their mark."""
    images = [saved(Image.fromarray(image), format="PNG") for image in pictures(40, WIDTH, HEIGHT)]
    for n in broken:
        images[n] = images[n][:60] + b"rubbish" * 40 + images[n][340:]
    from_packets(path, images, "png", (WIDTH, HEIGHT))


def _torn_frames(path):
    data = _film(path, codec="rawvideo", container="yuv4mpegpipe").read_bytes()
    at = data.rindex(b"FRAME")
    path.write_bytes(data[:at] + b"ERROR" + data[at + 5 :])


def _sound(path):
    with Film(path) as out:
        out.hum(out.sound(), 1)


def streams():
    """Which of several streams is the video."""
    other = np.full((HEIGHT // 2, WIDTH // 2, 3), 90, np.uint8)
    for kind in ("mkv", "ts"):

        def two(path, first=other):
            with Film(path) as out:
                made = [out.video(first.shape[1], first.shape[0]), out.video(WIDTH, HEIGHT)]
                made[0].disposition = made[1].disposition = av.stream.Disposition(0)
                out.encode(made[0], [first] * FRAMES)
                out.encode(made[1], pictures(FRAMES, WIDTH, HEIGHT))

        yield Case(f"two.{kind}", two, seconds=0.6, facts={"stream": 1, "video_streams": 2})
    for kind in ("mp4", "mov", "mkv", "ts"):

        def long(path):
            with Film(path) as out:
                made = [out.video(WIDTH, HEIGHT), out.video(WIDTH, HEIGHT)]
                out.encode(made[0], [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 2)
                out.encode(made[1], pictures(LONG, WIDTH, HEIGHT))

        yield Case(f"longest.{kind}", long, seconds=1.6, facts={"stream": 1, "video_streams": 2})


def grades():
    """High dynamic range, wide primaries, depths and ranges: what is said and what is seen."""
    words = {PQ: "smpte2084", HLG: "arib-std-b67", BT709: "bt709", BT2020_10: "bt2020-10"}
    names = {BT709: "bt709", BT2020: "bt2020", P3: "smpte432"}
    for transfer, primaries in ((PQ, BT2020), (HLG, BT2020), (PQ, P3), (BT709, P3), (BT2020_10, BT2020)):
        for bits in (10, 12):
            for span in (TV, PC):
                said = {"transfer": words[transfer], "primaries": names[primaries], "bit_depth": bits,
                        "colour_range": "tv" if span == TV else "pc"}  # fmt: skip
                name = f"grade-{words[transfer]}-{names[primaries]}-{bits}-{said['colour_range']}.mkv"
                how = (transfer, primaries, bits, span)
                yield Case(name, lambda path, how=how: graded(path, *how), 128, 96, within=4, facts=said)
