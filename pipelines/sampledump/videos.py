"""The rendered videos: what is shot, how it is spoilt, and the facts that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from reelmill.pipelines.sampledump import effects, mills, things
from reelmill.pipelines.sampledump import landscapes as land
from reelmill.pipelines.sampledump.encode import Encoding, cut_short, encode, rotated
from reelmill.pipelines.sampledump.facts import ItemFact, SampleFact, Verdict, scene_samples
from reelmill.pipelines.sampledump.paint import Painter, Picture

TAR = "shards/crawl-000000.tar"


@dataclass(frozen=True)
class Shot:
    """A scene filmed for `seconds`: `scene(width, height)` gives the painter, `effect` spoils it. `black`: seconds of
    black at its beginning and at its end."""

    scene: Callable[[int, int], Painter]
    seconds: float
    effect: effects.Effect = lambda painter: painter
    black: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Video:
    """A rendered video. `caption` is true of what is seen; `verdict` rejects its scenes; `finish` damages its bytes."""

    uri: str
    width: int
    height: int
    fps: int
    shots: tuple[Shot, ...]
    caption: str = ""
    verdict: Verdict | None = None
    encoding: Encoding = field(default_factory=Encoding)
    turned: bool = False
    finish: Callable[[bytes], bytes] = lambda data: data
    refusal: str = ""

    def frames(self) -> Iterator[Picture]:
        """All pictures, upright, uint8 [height, width, 3]."""
        for shot, length in zip(self.shots, self.lengths(), strict=True):
            painter = shot.effect(shot.scene(self.width, self.height))
            times = self.encoding.times_ms
            for index in range(length):
                yield painter(times[index] / 1000 if times else index / self.fps)

    def lengths(self) -> list[int]:
        """Frames of each shot."""
        return [len(self.encoding.times_ms) or round(shot.seconds * self.fps) for shot in self.shots]

    def data(self) -> bytes:
        """The file."""
        if not self.turned:
            return self.finish(encode(self.frames(), self.width, self.height, self.fps, self.encoding))
        lying = (np.ascontiguousarray(np.rot90(picture)) for picture in self.frames())
        return self.finish(rotated(encode(lying, self.height, self.width, self.fps, self.encoding)))

    def fact(self) -> ItemFact:
        """What is known about it."""
        if self.refusal:
            return ItemFact(self.uri, "video", "refused", self.refusal, caption=self.caption)
        lengths = self.lengths()
        cuts = tuple(int(cut) for cut in np.cumsum(lengths)[:-1])
        samples = scene_samples(lengths, self.fps, self.verdict, [shot.black for shot in self.shots])
        if times := self.encoding.times_ms:
            samples = (SampleFact(0.0, times[-1] / 1000 + 1 / self.fps),)
        return ItemFact(
            self.uri,
            "video",
            width=self.width,
            height=self.height,
            fps=float(self.fps),
            cuts=cuts,
            samples=samples,
            caption=self.caption,
        )


def _irregular_times(seconds: float) -> tuple[int, ...]:
    """Timestamps in milliseconds, 20 to 100 ms apart, 25 frames a second on average."""
    steps = np.resize([20, 40, 60, 20, 100, 20, 40, 20, 60, 20], round(seconds * 25))
    return tuple(int(time) for time in np.cumsum(steps) - steps[0])


_WINDMILL = (
    "A white windmill with four red-brown sails turning clockwise on a green hill; white clouds drift to the right "
    "across a blue sky."
)
_BLACK_S = 0.125
_FADE = {"fade_s": 0.5, "black_s": _BLACK_S}
_SUBTITLES = (
    "The river rose in the night\nand the miller could not sleep.",
    "In the morning the wheel\nstood deep in brown water.",
)

VIDEOS: tuple[Video, ...] = (
    # Kept: one scene each, and every container, codec and oddity that must not matter.
    Video(
        "videos/valley/dawn.mp4",
        384,
        216,
        24,
        (Shot(land.valley, 6),),
        "Violet hills and dark pines at dawn under an orange sky with a low sun; the camera travels to the right.",
    ),
    Video("videos/mills/windmill.mp4", 320, 240, 24, (Shot(mills.windmill, 6),), _WINDMILL),
    Video(
        "videos/mills/waterwheel.mp4",
        320,
        240,
        30,
        (Shot(mills.waterwheel, 4),),
        "A brown wooden water wheel turns anticlockwise at a grey stone wall; blue water flows to the right below.",
    ),
    Video(
        "videos/toys/balls.avi",
        320,
        240,
        30,
        (Shot(things.balls, 5),),
        "A red, a blue and a yellow ball bounce over a green carpet.",
        encoding=Encoding("avi", "mpeg4"),
    ),
    Video(
        f"{TAR}/000000000.webm",
        320,
        180,
        24,
        (Shot(things.aquarium, 5),),
        "Orange and yellow fish swim to the left through blue water above yellow sand; bubbles rise.",
        encoding=Encoding("webm", "libvpx-vp9"),
    ),
    Video(
        "videos/rail/train with sound.mov",
        384,
        216,
        25,
        (Shot(things.train, 5),),
        "A red steam train with three wagons crosses a stone bridge to the right; white steam trails behind.",
        encoding=Encoding("mov", tone=True),
    ),
    Video(
        f"{TAR}/000000001.mp4",
        216,
        384,
        24,
        (Shot(things.balloon, 5),),
        "A balloon with red and yellow stripes rises over violet mountains and dark pines at dawn.",
    ),
    Video(
        "videos/sea/boat.mkv",
        320,
        180,
        25,
        (Shot(land.sunset_boat, 5),),
        "A boat with a red and a white sail crosses a golden sea to the right at sunset; waves roll to the left.",
        encoding=Encoding("matroska", times_ms=_irregular_times(5)),
    ),
    Video(
        f"{TAR}/000000002.mkv",
        341,
        257,
        20,
        (Shot(land.forest, 4),),
        "Walking through a green forest; brown tree trunks pass to the right, near ones faster than far ones.",
        encoding=Encoding("matroska", pixels="yuv444p"),
    ),
    Video(
        "videos/night/snow.mp4",
        320,
        240,
        12,
        (Shot(things.snow, 5),),
        "Snow falls at night on small houses with yellow windows under a full moon; the camera travels to the right.",
    ),
    Video(
        "videos/phone/VID_0007.mov",
        180,
        320,
        24,
        (Shot(mills.pinwheel, 4),),
        "A pinwheel with red, yellow, green and blue blades turns anticlockwise in front of a pale wooden wall.",
        encoding=Encoding("mov"),
        turned=True,
    ),
    Video(
        "videos/long/lava.mp4",
        256,
        144,
        12,
        (Shot(land.lava, 24),),
        "Glowing orange and yellow lava flows downwards between dark crusts.",
    ),
    Video(
        "videos/long/scenes.mp4",
        320,
        180,
        24,
        (
            Shot(partial(land.valley, light=land.NOON, seed=31, speed=-0.24), 3),
            Shot(things.aquarium, 2.5),
            Shot(land.lava, 1),
            Shot(partial(mills.windmill, light=land.AUTUMN, seed=33), 3),
            Shot(partial(land.forest, seed=91), 2.5),
            Shot(partial(things.balls, seed=121), 3),
        ),
    ),
    Video(
        f"{TAR}/000000003.mp4",
        320,
        240,
        24,
        (
            Shot(
                partial(land.valley, light=land.MIST, seed=51, speed=0.24),
                3,
                effects.fade_out(3, **_FADE),
                (0, _BLACK_S),
            ),
            Shot(
                partial(land.valley, light=land.MIST, seed=61, speed=-0.24), 3, effects.fade_in(**_FADE), (_BLACK_S, 0)
            ),
        ),
        "Pale brown hills in morning mist; the camera travels to the right, then, after a fade to black, to the left.",
    ),
    Video(
        "videos/valley/clouds.mp4",
        320,
        240,
        24,
        (Shot(land.clouds, 4),),
        "White clouds drift to the right over green hills and pines under a blue sky.",
    ),
    # Rejected, each by one rule.
    Video(
        "videos/spoilt/subtitles.mp4",
        320,
        240,
        24,
        (Shot(partial(land.valley, light=land.NOON, seed=12), 4, effects.captioned(_SUBTITLES, 2)),),
        "Green hills under a blue sky with subtitles about a river.",
        Verdict("text", "high"),
    ),
    Video(
        "videos/spoilt/slide.mp4",
        320,
        240,
        24,
        (Shot(partial(things.balloon, seed=14), 4, effects.frozen),),
        "A still picture of a striped balloon over mountains.",
        Verdict("motion", "low"),
    ),
    Video(
        f"{TAR}/000000004.mp4",
        480,
        160,
        24,
        (Shot(partial(effects.rush, speed=1.6), 4),),
        "A fast swing of the camera along a patchwork of colours.",
        Verdict("motion", "high"),
    ),
    Video(
        "videos/spoilt/shake.mp4",
        320,
        240,
        24,
        (Shot(partial(land.forest, seed=95, speed=-0.08), 4, effects.shaken(24, 12)),),
        "A green forest filmed with a violently shaking camera.",
        Verdict("jitter", "high"),
    ),
    Video(
        "videos/spoilt/grey.mp4",
        320,
        240,
        24,
        (Shot(partial(land.valley, seed=17), 4, effects.grey),),
        "Hills and pines in black and white; the camera travels to the right.",
        Verdict("colour", "low"),
    ),
    Video(
        f"{TAR}/000000005.mp4",
        320,
        240,
        24,
        (Shot(partial(land.valley, seed=130, speed=0.4), 4, effects.murky),),
        "Something moves in the dark, out of focus.",
        Verdict("quality", "low"),
    ),
    Video("videos/spoilt/blink.mp4", 320, 240, 24, (Shot(things.balls, 1),), "A red, a blue and a yellow ball."),
    Video("videos/spoilt/stamp.mp4", 96, 64, 24, (Shot(mills.windmill, 4),), _WINDMILL, Verdict("resolution", "low")),
    # Refused.
    Video(
        "videos/broken/stops.mkv",
        320,
        180,
        24,
        (Shot(partial(land.valley, light=land.NOON, seed=18), 6),),
        "Green hills under a blue sky.",
        encoding=Encoding("matroska"),
        finish=partial(cut_short, share=0.6),
        refusal="truncated",
    ),
    Video(
        "videos/broken/half.mp4",
        320,
        180,
        24,
        (Shot(partial(land.valley, light=land.NOON, seed=18), 3),),
        "Green hills under a blue sky.",
        finish=partial(cut_short, share=0.5),
        refusal="truncated",
    ),
)

PAGE = """<!DOCTYPE html>
<html><head><title>404 Not Found</title></head>
<body><h1>Not Found</h1><p>The requested video has moved to another river.</p></body></html>
"""
NOT_A_VIDEO = ItemFact("videos/broken/page.mp4", "video", "refused", "not_a_video")
_ORIGINAL = next(video for video in VIDEOS if video.uri == "videos/valley/dawn.mp4").fact()
DUPLICATE = replace(
    _ORIGINAL,
    uri="videos/zz copies/dawn (1).mp4",
    samples=tuple(replace(sample, rule="exact_duplicate") for sample in _ORIGINAL.samples),
    duplicate_of=_ORIGINAL.uri,
    caption="",
)
