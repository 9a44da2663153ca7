"""What is wrong with a clip: captions, shake, murk, … Each effect wraps a painter and returns a painter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reelmill.pipelines.sampledump.paint import Painter, Picture, noise, scroll, tint

Effect = Callable[[Painter], Painter]


def frozen(painter: Painter) -> Painter:
    """One picture for ever, like a slide."""
    still = painter(0.0)
    return lambda t: still


def grey(painter: Painter) -> Painter:
    """Without color: red = green = blue."""
    return lambda t: np.repeat(cv2.cvtColor(painter(t), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def murky(painter: Painter) -> Painter:
    """Dark and out of focus; a brown cast stays, so that the picture still has color."""

    def paint(t: float) -> Picture:
        blurred = cv2.GaussianBlur(painter(t), (0, 0), 9).astype(np.float32)
        dark: Picture = np.clip(blurred * (0.20, 0.12, 0.06) + (6, 2, 0), 0, 255).astype(np.uint8)
        return dark

    return paint


def shaken(fps: int, pixels: int) -> Effect:
    """Jumps by `pixels` to the right and back from one frame to the next; every second frame stands still."""

    def effect(painter: Painter) -> Painter:
        def paint(t: float) -> Picture:
            jump = pixels * (round(t * fps) % 2)
            return np.roll(painter(t), jump, axis=1)

        return paint

    return effect


def captioned(lines: Sequence[str], seconds_each: float) -> Effect:
    """Burnt-in subtitles, white on a dark bar in the lower third, one after another."""

    def effect(painter: Painter) -> Painter:
        def paint(t: float) -> Picture:
            image = Image.fromarray(painter(t))
            draw_text(image, lines[int(t / seconds_each) % len(lines)], 0.72, 0.09)
            return np.asarray(image)

        return paint

    return effect


def draw_text(image: Image.Image, text: str, top: float, size: float) -> None:
    """Write `text`, which may have several lines, centered on a dark bar, in place; shares of the picture's height."""
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size * image.height)
    place = (image.width / 2, top * image.height)
    left, upper, right, lower = draw.multiline_textbbox(place, text, font=font, anchor="ma", align="center")
    draw.rectangle((left - 4, upper - 3, right + 4, lower + 3), fill=(16, 16, 20))
    draw.multiline_text(place, text, fill=(250, 250, 244), font=font, anchor="ma", align="center")


def fade_out(end_s: float, fade_s: float, black_s: float) -> Effect:
    """Goes dark within `fade_s`, then stays black for `black_s` until `end_s`."""
    return lambda painter: lambda t: _dimmed(painter(t), (end_s - black_s - t) / fade_s)


def fade_in(fade_s: float, black_s: float) -> Effect:
    """Stays black for `black_s`, then comes up within `fade_s`."""
    return lambda painter: lambda t: _dimmed(painter(t), (t - black_s) / fade_s)


def _dimmed(picture: Picture, share: float) -> Picture:
    """`share` of the light and of the saturation.

    Saturation goes with the light because what is left of hue in nearly black pixels jumps about, and content detectors
    then find a cut of their own at the fade's last step.
    """
    left = np.float32(np.clip(share, 0, 1))
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    dimmed: Picture = (left * (luma + left * (picture - luma))).astype(np.uint8)
    return dimmed


def rush(width: int, height: int, speed: float) -> Painter:
    """A camera swung along a bright patchwork: everything moves left by `speed` picture heights a second."""
    patches = tint(
        noise(301, height, 6 * width, (4, 24), 4), (20, 60, 110), (220, 90, 40), (240, 220, 120), (40, 130, 70)
    )
    return lambda t: scroll(patches, speed * height * t, 0, (width, height))
