"""The corpus' videos: containers and codecs, geometry, pixel formats, colour."""

from fractions import Fraction

import av
from corpus_case import BL, BR, FRAMES, HEIGHT, TL, TR, WIDTH, Case
from odd_media import film, pictures, rename_first_box, set_matrix, with_time_codes
from odd_pictures import saved
from odd_pictures import turned as turned_by_exif

FAST = {
    "libx265": {"x265-params": "pools=none:frame-threads=1:log-level=none", "preset": "ultrafast", "crf": "12"},
    "libsvtav1": {"preset": "13", "crf": "15", "svtav1-params": "lp=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "2M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lossless": "1"},
    "mpeg4": {"qscale": "2"},
    "dnxhd": {"profile": "dnxhr_hq"},
}
OF_25 = ("mpeg1video", "mpeg2video", "rv10", "rv20")
"""Codecs that know only some frame rates, 25 among them."""
PIXELS = {
    "prores_ks": "yuv422p10le", "mjpeg": "yuvj420p", "qtrle": "rgb24", "png": "rgb24", "huffyuv": "yuv422p",
    "ffvhuff": "yuv420p", "utvideo": "yuv420p", "magicyuv": "gbrp", "cinepak": "rgb24", "rpza": "rgb555le",
    "msvideo1": "rgb555le", "zmbv": "bgr0", "flashsv": "bgr24", "flashsv2": "bgr24", "v210": "yuv422p10le",
    "svq1": "yuv410p", "libx264rgb": "rgb24", "jpeg2000": "rgb24", "dnxhd": "yuv422p",
    "cljr": "yuv411p", "cfhd": "yuv422p10le", "targa": "bgr24", "tiff": "rgb24",
    "jpegls": "bgr24", "ljpeg": "yuvj420p", "r210": "gbrp10le",
    "v308": "yuv444p",
    "dxv": "rgba",
}  # fmt: skip
CODECS = {
    "mp4": "libx264 libx265 libsvtav1 mpeg4 mpeg2video libvpx-vp9 mjpeg png",
    "mov": "libx264 libx265 prores_ks mjpeg qtrle png v210 cinepak rpza svq1 jpeg2000 mpeg4 dnxhd cfhd targa "
    "r210 tiff v308 dxv",
    "m4v": "libx264",
    "f4v": "libx264",
    "3gp": "libx264 mpeg4",
    "3g2": "mpeg4",
    "mkv": "libx264 libx264rgb libx265 libsvtav1 libvpx libvpx-vp9 ffv1 mpeg4 mpeg2video mjpeg rawvideo "
    "prores_ks snow",
    "webm": "libvpx libvpx-vp9 libsvtav1",
    "avi": "mpeg4 msmpeg4v2 msmpeg4 mjpeg huffyuv ffvhuff utvideo ffv1 rawvideo libx264 cinepak msvideo1 zmbv "
    "asv1 asv2 wmv1 wmv2 h263p png magicyuv cljr v210 ljpeg snow jpegls",
    "flv": "flv libx264 flashsv flashsv2 libx265 libsvtav1",
    "wmv": "wmv1 wmv2 msmpeg4 mpeg4",
    "asf": "wmv2 libx264 mjpeg",
    "ts": "libx264 libx265 mpeg2video mpeg1video mpeg4",
    "mts": "libx264",
    "mpg": "mpeg1video mpeg2video libx264",
    "vob": "mpeg2video",
    "ogv": "libvpx",
    "mxf": "mpeg2video libx264 prores_ks jpeg2000 dnxhd",
    "ivf": "libvpx libvpx-vp9 libsvtav1",
    "nut": "mpeg4 ffv1 rawvideo libx264",
    "wtv": "mpeg2video",
    "rm": "rv20",
    "obu": "libsvtav1",
    "h264": "libx264", "264": "libx264", "hevc": "libx265", "265": "libx265",
    "m2v": "mpeg2video",
    "y4m": "rawvideo",
}  # fmt: skip
MUXERS = {"f4v": "f4v", "mts": "mpegts", "264": "h264", "265": "hevc", "y4m": "yuv4mpegpipe"}


def containers():
    """Every container with every codec that goes into it."""
    for kind, codecs in CODECS.items():
        for codec in codecs.split():
            fps = 25 if codec in OF_25 or kind in ("mxf", "obu") else 10
            width = 256 if codec == "dnxhd" else WIDTH
            height = 128 if codec == "dnxhd" else HEIGHT
            how = {"codec": codec, "fps": fps, "options": FAST.get(codec), "container": MUXERS.get(kind)}
            pixels = PIXELS.get(codec, "yuv420p")

            def make(path, how=how, pixels=pixels, size=(width, height)):
                return film(path, pictures(FRAMES, *size), pixels=pixels, **how)

            yield Case(f"kind-{codec}.{kind}", make, width, height, seconds=FRAMES / fps, within=24)


def framed():
    """The same film in other wrappings of MP4 and Matroska."""
    wraps = {
        "fast.mp4": {"movflags": "faststart"},
        "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
        "dash.mp4": {"movflags": "dash+frag_every_frame+empty_moov"},
        "cmaf.mp4": {"movflags": "cmaf+frag_keyframe+empty_moov"},
        "hybrid.mp4": {"movflags": "hybrid_fragmented+frag_keyframe"},
        "live.mkv": {"live": "1"},
        "live.webm": {"live": "1"},
        "cues.mkv": {"cues_to_front": "1", "reserve_index_space": "2000"},
        "negative.mp4": {"avoid_negative_ts": "disabled", "use_editlist": "0"},
    }
    for name, muxing in wraps.items():
        codec = "libvpx" if name.endswith("webm") else "libx264"

        def make(path, muxing=muxing, codec=codec):
            return film(path, pictures(FRAMES, WIDTH, HEIGHT), codec=codec, muxing=muxing, options=FAST.get(codec))

        yield Case(name, make, seconds=0.6)
    for kind in (b"styp", b"free", b"skip", b"uuid", b"pnot", b"wide", b"junk"):
        yield Case(f"first-{kind.decode()}.mp4", lambda path, kind=kind: rename_first_box(_plain(path), kind),
                   seconds=0.6)  # fmt: skip
    yield Case("own.m2ts", lambda path: _plain(path, container="mpegts"), seconds=0.6)
    yield Case("codes.mts", lambda path: with_time_codes(_plain(path, container="mpegts")), seconds=0.6)


def _plain(path, **how):
    return film(path, pictures(FRAMES, WIDTH, HEIGHT), **how)


MATRICES = {
    "upright": ((1, 0, 0, 1), (TL, TR, BL, BR)),
    "mirrored": ((-1, 0, 0, 1), (TR, TL, BR, BL)),
    "turned180": ((-1, 0, 0, -1), (BR, BL, TR, TL)),
    "flipped": ((1, 0, 0, -1), (BL, BR, TL, TR)),
    "transposed": ((0, 1, 1, 0), (TL, BL, TR, BR)),
    "right": ((0, 1, -1, 0), (BL, TL, BR, TR)),
    "transversed": ((0, -1, -1, 0), (BR, TR, BL, TL)),
    "left": ((0, -1, 1, 0), (TR, BR, TL, BL)),
}


def turned():
    """All display matrices, with square and oblong pixels, and those that come in the stream."""
    for name, (matrix, corners) in MATRICES.items():
        for kind, codec in (("mp4", "libx264"), ("mov", "mpeg4"), ("3g2", "libx264")):
            for aspect in (None, Fraction(4, 3)) if kind == "mp4" else (None,):

                def make(path, matrix=matrix, codec=codec, aspect=aspect):
                    return set_matrix(_plain(path, codec=codec, options=FAST.get(codec), aspect=aspect), matrix)

                width = round(WIDTH * (aspect or 1))
                size = (HEIGHT, width) if matrix[0] == 0 else (width, HEIGHT)
                label = "oblong" if aspect else "matrix"
                yield Case(f"{label}-{name}.{kind}", make, *size, seconds=0.6, corners=corners)
    for name, says, corners in (
        ("right", "rotate=270", MATRICES["right"][1]),
        ("left", "rotate=90", MATRICES["left"][1]),
        ("over", "rotate=180", MATRICES["turned180"][1]),
        ("mirrored", "flip=horizontal", MATRICES["mirrored"][1]),
        ("flipped", "flip=vertical", MATRICES["flipped"][1]),
    ):
        size = (HEIGHT, WIDTH) if name in ("left", "right") else (WIDTH, HEIGHT)
        for kind in ("mkv", "ts", "h264"):
            yield Case(f"sei-{name}.{kind}", lambda path, says=says: _with_sei(path, says), *size, corners=corners)


def _with_sei(path, says):
    """Every key frame says in its own words how it is to be turned."""
    whole = _plain(path.with_name(f"{path.name}.h264"), fps=25)
    with av.open(str(whole), format="h264") as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        filtered = av.BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{says}", stream)
        made = out.add_stream_from_template(stream)
        count = 0
        for packet in source.demux(stream):
            for changed in filtered.filter(packet if packet.size else None):
                changed.stream = made
                changed.pts = changed.dts = count * 48_000
                changed.time_base = Fraction(1, 1_200_000)
                count += 1
                out.mux(changed)
    whole.unlink()
    return path


def motion_jpeg():
    """Each picture has EXIF of its own, as cameras write it, by which it is turned too."""
    for kind in ("avi", "mov", "mkv"):
        for orientation in range(1, 9):

            def make(path, orientation=orientation):
                images = []
                for image in pictures(FRAMES, WIDTH, HEIGHT):
                    stored, exif = turned_by_exif(image, orientation)
                    images.append(saved(stored, format="JPEG", quality=95, exif=exif))
                return from_packets(path, images, "mjpeg", stored.size)

            yield Case(f"exif{orientation}.{kind}", make, seconds=0.6)


def from_packets(path, packets, codec, size):
    """A file of packets that are there already, at 10 frames/s."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, PIXELS.get(codec, "yuv420p")
        stream.codec_context.time_base = stream.time_base = Fraction(1, 10)
        for n, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = n
            packet.duration = 1
            out.mux(packet)
    return path


def oblong():
    """Pixels that are not square, said by the container or by the stream."""
    for kind, codec in (
        ("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("mpg", "mpeg2video"), ("mov", "mpeg4"),
        ("flv", "libx264"), ("avi", "mpeg4"), ("mov", "prores_ks"), ("mxf", "mpeg2video"), ("wmv", "wmv2"),
    ):  # fmt: skip
        is_mpeg2 = codec == "mpeg2video"  # which says what the whole picture's sides are to each other
        for aspect in (Fraction(4, 3), Fraction(1) if is_mpeg2 else Fraction(1, 2)):
            fps = 25 if is_mpeg2 else 10

            def make(path, codec=codec, aspect=aspect, fps=fps):
                pixels = PIXELS.get(codec, "yuv420p")
                return _plain(path, codec=codec, aspect=aspect, fps=fps, options=FAST.get(codec), pixels=pixels)

            name = f"aspect-{aspect.numerator}-{aspect.denominator}-{codec}.{kind}"
            yield Case(name, make, round(WIDTH * aspect), seconds=FRAMES / fps)


LOSSLESS = {"codec": "ffv1", "options": {"level": "3"}}
FORMATS = (
    "yuv420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p", "yuv440p", "yuva420p", "yuva422p", "yuva444p", "gray",
    "gray10le", "gray12le", "gray16le", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv422p12le",
    "yuv444p12le", "yuv444p16le", "bgr0", "bgra", "gbrp9le", "gbrp10le", "gbrp12le", "gbrp14le", "rgb48le",
    "rgba64le", "yuva444p10le",
)  # fmt: skip
RAW = ["rgb24", "bgr24", "argb", "rgba", "0rgb", "uyvy422", "yuyv422", "nv12", "gray", "yvyu422"]


def formats():
    """Pixel formats: without loss in FFV1, as they lie in raw video."""
    for pixels in FORMATS:
        grey = pixels.startswith("gray")
        corners = tuple((luma(c),) * 3 for c in (TL, TR, BL, BR)) if grey else (TL, TR, BL, BR)

        def make(path, pixels=pixels):
            return _plain(path, pixels=pixels, **LOSSLESS)

        yield Case(f"pixels-{pixels}.mkv", make, corners=corners, within=8, facts={"codec": "ffv1"})
    for pixels in RAW:
        kind = "avi" if pixels in ("bgr24", "uyvy422", "yuyv422") else "nut"
        corners = tuple((luma(c),) * 3 for c in (TL, TR, BL, BR)) if pixels == "gray" else (TL, TR, BL, BR)

        def raw(path, pixels=pixels):
            frames = [av.VideoFrame.from_ndarray(p, format="rgb24").reformat(format=pixels)
                      for p in pictures(FRAMES, WIDTH, HEIGHT)]  # fmt: skip
            return film(path, frames, codec="rawvideo", pixels=pixels)

        yield Case(f"raw-{pixels}.{kind}", raw, corners=corners, within=10)


def luma(colour):
    """Grey of a colour, as PyAV makes it."""
    red, green, blue = colour
    return round(0.299 * red + 0.587 * green + 0.114 * blue)
