"""Copies as the web makes them: pictures that were scaled, cropped, compressed, mirrored, written on, framed."""

import io

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont


def scaled(image, factor=0.5):
    height, width = image.shape[:2]
    size = max(round(width * factor), 8), max(round(height * factor), 8)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def compressed(image, quality=30):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def cut(image, left, top, right, bottom):
    """Without these shares of its sides."""
    height, width = image.shape[:2]
    rows = slice(round(height * top), height - round(height * bottom))
    return np.ascontiguousarray(image[rows, round(width * left) : width - round(width * right)])


def mirrored(image):
    return np.ascontiguousarray(image[:, ::-1])


def captioned(image, words="WHEN THE MILL GRINDS"):
    """White letters with a black edge across the lower part."""
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    font = ImageFont.load_default(size=max(8, width // 14))
    place = (width * 0.05, height * 0.82)
    ImageDraw.Draw(picture).text(place, words, "white", font, stroke_fill="black", stroke_width=max(1, height // 150))
    return np.asarray(picture)


def under_a_title(image):
    """Below a white bar with words."""
    height, width = image.shape[:2]
    framed = cv2.copyMakeBorder(image, round(height * 0.18), 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    picture = Image.fromarray(framed)
    font = ImageFont.load_default(size=max(8, width // 14))
    ImageDraw.Draw(picture).text((width * 0.03, height * 0.03), "When the mill grinds slowly", "black", font)
    return np.asarray(picture)


def letterboxed(image, share=0.15):
    bar = round(image.shape[0] * share)
    return cv2.copyMakeBorder(image, bar, bar, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))


EDITS = {
    "rescale": scaled,
    "jpeg 30": compressed,
    "mirror": mirrored,
    "crop 10 %": lambda image: cut(image, 0.05, 0.05, 0.05, 0.05),
    "crop left": lambda image: cut(image, 0.1, 0, 0, 0),
    "crop corner": lambda image: cut(image, 0.02, 0.0, 0.08, 0.1),
    "caption": captioned,
    "title": under_a_title,
    "letterbox": lambda image: compressed(letterboxed(image), 80),
    "mirror, crop, jpeg": lambda image: compressed(cut(mirrored(image), 0.04, 0.06, 0.05, 0.03)),
    "watermark, rescale": lambda image: scaled(captioned(image, "(c) millpictures.test"), 0.6),
}
"""Name to what it does to an RGB picture."""
