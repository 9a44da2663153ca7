"""Pictures that are made to be read: a document, a table, a chart, a screen, at the sizes that they come in."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TALE = """The mill in the valley grinds the corn of seven farms between two stones and when the wind is still the miller
mends his sails oils the wheel sweeps the floor and waits for the evening while his sister keeps the books"""
WORDS = TALE.split()


def _line(number, count):
    return " ".join(WORDS[(7 * number + word) % len(WORDS)] for word in range(count))


def document(size=(800, 1100), ink="black", ground="white"):
    page = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(page)
    draw.text((80, 60), "On Mills and Weather", ink, ImageFont.load_default(34))
    for number in range(34):
        draw.text((80, 130 + 26 * number), _line(number, 10 if number % 8 else 5), ink, ImageFont.load_default(17))
    return np.asarray(page)


def table(size=(900, 640)):
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for row in range(12):
        draw.line((40, 40 + 46 * row, 860, 40 + 46 * row), "gray", 2)
        for column in range(4):
            is_head = not row or not column
            words = WORDS[(4 * row + column) % len(WORDS)] if is_head else f"{(row * 37 + column * 11) % 97}.5"
            draw.text((56 + 205 * column, 50 + 46 * row), words, "black", ImageFont.load_default(22))
    for column in range(5):
        draw.line((40 + 205 * column, 40, 40 + 205 * column, 546), "gray", 2)
    return np.asarray(page)


def chart(size=(800, 600)):
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    draw.text((230, 20), "Flour by farm and year", "black", ImageFont.load_default(28))
    draw.line((90, 70, 90, 520, 760, 520), "black", 3)
    for bar in range(8):
        top = 500 - 40 * ((bar * 5) % 9)
        draw.rectangle((110 + 80 * bar, top, 160 + 80 * bar, 518), ("#3366cc", "#dc3912", "#ff9900")[bar % 3])
        draw.text((112 + 80 * bar, 530), WORDS[bar + 3], "black", ImageFont.load_default(18))
        draw.text((40, 510 - 55 * bar), f"{bar * 20}", "black", ImageFont.load_default(18))
    return np.asarray(page)


def screen(size=(1280, 800)):
    page = Image.new("RGB", size, "#f3f3f3")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, 1280, 50), "#20406a")
    draw.rectangle((0, 50, 240, 800), "#dfe6ee")
    for number in range(7):
        draw.text((20 + 150 * number, 14), WORDS[number + 5].title(), "white", ImageFont.load_default(20))
    for number in range(14):
        draw.text((24, 80 + 44 * number), _line(number, 2), "black", ImageFont.load_default(20))
        draw.text((280, 90 + 46 * number), _line(number + 3, 10), "#222222", ImageFont.load_default(22))
    return np.asarray(page)
