"""Recipe `image`: Emu3's rules of pictures, and the road of those that fail taste."""

import copies
import cv2
import numpy as np
import pytest
from dumps import curate_here
from PIL import Image

from reelmill import weights
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.report.gather import numbers

NO_TASTE = "rules.image_aesthetic.min=11"  # also where CLIP is
SMALL = ("tokens.tokenizer=reelmill-tok-xs", "tokens.text=bytes", "tokens.area=16384")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Pictures of which none passes by taste: all take the second road."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "dump").mkdir()
    photograph = np.asarray(Image.open(weights.path("media-astronaut")).convert("RGB"))
    page = np.full((700, 700, 3), 255, np.uint8)
    page[:, :40] = (200, 60, 40)
    for row in range(12):
        cv2.putText(page, "THE MILL GRINDS SLOWLY", (60, 60 + 52 * row), cv2.FONT_HERSHEY_DUPLEX, 1.4, (20, 20, 60), 3)
    pictures = {
        "photograph": photograph,
        "grey": np.repeat(photograph.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)[:, ::-1],
        "page": page,
        "small": copies.scaled(photograph, 0.9),
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / "dump" / f"{name}.png")
    (folder / "dump" / "left.txt").write_text("Texts are not read by this recipe.")
    curate_here(folder / "dump", folder / "out", "image", NO_TASTE, *SMALL)
    return folder / "out"


def test_pictures_take_the_second_road_by_little_text_and_colour(run):
    with LedgerQueries(run) as ledger:
        rows = ledger.rows("SELECT uri, rule, second_chance, skipped, text_area FROM samples ORDER BY uri")
        funnel = numbers(ledger, recipes.image().rules, "")["funnel"]
    assert {row["uri"]: (row["rule"], row["second_chance"]) for row in rows} == {
        "grey.png": ("image_aesthetic", None),
        "page.png": ("text_rich", None),
        "photograph.png": (None, "image_aesthetic"),
        "small.png": ("image_resolution", None),
    }
    by_uri = {row["uri"]: row for row in rows}
    assert by_uri["small.png"]["skipped"] == "text"
    assert by_uri["page.png"]["text_area"] > 0.03
    names = [step["name"] for step in funnel]
    road = funnel[names.index("second chance")]
    assert names.index("second chance") == names.index("image_aesthetic") + 1
    assert (road["saved"], road["left"]["image"]) == (1, 1)


def test_what_is_made_to_be_read_has_a_selection_of_its_own(run):
    with LedgerQueries(run) as ledger:
        rows = ledger.rows(
            """SELECT uri, v.status, v.rule, picture_class FROM verdicts v JOIN samples USING (sample_id)
            WHERE selection = 'text_rich' ORDER BY uri"""
        )
    assert [tuple(row.values()) for row in rows] == [
        ("grey.png", "rejected", "text_rich", "picture"),
        ("page.png", "kept", None, "text_rich"),
        ("photograph.png", "rejected", "text_rich", "picture"),
        ("small.png", "rejected", "image_resolution", None),
    ]
