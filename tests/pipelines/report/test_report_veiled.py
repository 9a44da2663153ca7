"""What may not be safe for work is blurred in the report: a drawing that open_nsfw takes for skin, beside a texture."""

import re

import cv2
import numpy as np
import pytest
from dumps import curate_here, light_recipe
from PIL import Image
from videos import textured

from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report.page import write_report
from reelmill.pipelines.report.veiled import veiled


def balls(side=520):
    """Shaded bodies of the color of skin."""
    image = np.full((side, side, 3), (240, 235, 230), np.float32)
    rng = np.random.default_rng(16)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(4):
        x, y = rng.integers(120, 400, 2)
        long, short = rng.integers(80, 200, 2)
        turn = rng.random() * 3
        along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
        across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
        distance = (along / long) ** 2 + (across / short) ** 2
        shade = np.sqrt(np.clip(1 - distance, 0, 1)) * 0.5 + 0.55
        inside = distance < 1
        image[inside] = (np.array((224, 172, 140)) * shade[..., None])[inside]
    return cv2.GaussianBlur(np.clip(image, 0, 255).astype(np.uint8), (0, 0), 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("veiled")
    dump = folder / "dump"
    dump.mkdir()
    Image.fromarray(balls()).save(dump / "balls.jpg")
    Image.fromarray(textured(1, 520, 520)).save(dump / "texture.jpg")
    curate_here(dump, folder / "out", light_recipe(folder / "light.toml"), "score.scorers.nsfw={}")
    return folder / "out"


def test_what_may_not_be_safe_is_blurred_until_it_is_clicked(run):
    with LedgerQueries(run) as ledger:
        found = {row["uri"]: row for row in ledger.rows("SELECT uri, sample_id, nsfw FROM samples")}
        assert found["balls.jpg"]["nsfw"] > 0.2 > found["texture.jpg"]["nsfw"]
        ids = [row["sample_id"] for row in found.values()]
        assert list(veiled(ledger, ids)) == [found["balls.jpg"]["sample_id"]]
    page = write_report(run).page.read_text(encoding="utf-8")
    tiles = re.findall(r'<figure class="clip".*?</figure>', page, re.DOTALL)
    assert {("balls.jpg" in tile, 'class="veil"' in tile) for tile in tiles} == {(True, True), (False, False)}
    assert ".veil:not(:checked) + .strip" in page


def test_without_the_scorer_nothing_is_hidden(still_run, tmp_path):
    out = still_run(tmp_path)
    with LedgerQueries(out) as ledger:
        assert veiled(ledger, [row["sample_id"] for row in ledger.rows("SELECT sample_id FROM samples")]) == {}
