"""Text-rich pictures against rendered pages, and photographs with words on them."""

import copies
import numpy as np
import pages_to_read
import pytest
from PIL import Image

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create

PAGES = {
    **{name: getattr(pages_to_read, name) for name in ("document", "table", "chart", "screen")},
    "sepia": lambda: pages_to_read.document(ink="#402010", ground="#e8dcc0"),
    "night": lambda: pages_to_read.document(ink="#e8e8e8", ground="#202428"),
}


@pytest.fixture(scope="module")
def text():
    scorer = create("text")
    scorer.setup()
    return scorer


def classified(text, picture):
    scale = 256 / min(picture.shape[:2])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    seen = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    frames = Frames(seen[None], np.zeros(1), np.zeros((0, 3, 1, 1), np.uint8))
    sample = Sample("s", "i", "image", 0.0, 0.0, *picture.shape[1::-1], 0.0, frames)
    if text is not None:
        sample.columns.update(text.score([sample])[0])
    (row,) = create("layout").score([sample])
    return row["picture_class"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_text_rich_compressed_or_not(text, page):
    picture = PAGES[page]()
    assert classified(text, picture) == classified(text, copies.compressed(picture, 40)) == "text_rich"


@pytest.mark.parametrize("card", ["media-china", "media-flower", "media-astronaut", "media-rocket"])
def test_photographs_with_words_on_them_are_not(text, card):
    photograph = np.asarray(Image.open(weights.path(card)).convert("RGB"))
    for picture in (photograph, copies.captioned(photograph), copies.under_a_title(photograph)):
        assert classified(text, picture) == "picture"


def test_what_is_drawn_without_words_is_not_and_without_a_look_for_text_nothing_is_said(text):
    plain = np.full((600, 800, 3), 255, np.uint8)
    plain[100:300, 200:400] = (200, 30, 30)
    assert classified(text, plain) == "picture"
    assert classified(None, pages_to_read.table()) is None
