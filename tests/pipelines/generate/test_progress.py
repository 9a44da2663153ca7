"""What is seen while a model draws."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from reelmill.errors import ConfigError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.decoding import Decoding
from reelmill.eval.generation.row_decoding import ByRows
from reelmill.pipelines.generate.progress import LiveProgress, half_blocks, side_by_side
from reelmill.tokenize.vision import load
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 4096)


@pytest.fixture(scope="module")
def studio():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=VOCAB.size, hidden=16, layers=1, heads=2, kv_heads=1, mlp=24)).eval()
    return Studio(model.requires_grad_(False), VOCAB, load("reelmill-tok-xs"))


def shown(studio, preview, terminal=True):
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system="truecolor", width=60, height=30)
    with LiveProgress(studio, preview, console) as progress:
        images = replace(studio, on_token=progress.update).images(["a", "b"], 4, 6)
    return images, console.file.getvalue()


def test_a_terminal_shows_the_speed_and_the_pictures_as_they_come(studio):
    _, text = shown(studio, "terminal")
    assert "tokens/s" in text and "62 tokens in" in text
    assert "▀" in text
    _, text = shown(studio, "")
    assert "tokens/s" in text and "▀" not in text


def test_elsewhere_a_line_says_how_fast_it_was(studio):
    _, text = shown(studio, "", terminal=False)
    assert text.startswith("62 tokens in ") and text.count("\n") == 1


def test_a_file_holds_the_rows_so_far_and_at_the_end_all(studio, tmp_path, monkeypatch):
    path, seen = tmp_path / "now.png", []
    monkeypatch.setattr("reelmill.pipelines.generate.progress.INTERVAL_S", 0.0)
    monkeypatch.setattr("reelmill.pipelines.generate.progress.TIME_SHARE", float("inf"))
    update = LiveProgress.update

    def update_and_look(live, progress):
        update(live, progress)
        if path.exists():
            seen.append(np.asarray(Image.open(path)))

    monkeypatch.setattr(LiveProgress, "update", update_and_look)
    images, _ = shown(studio, str(path), terminal=False)
    heights = [int((picture[:, :48] != 128).any(axis=(1, 2)).sum()) for picture in seen]
    assert list(dict.fromkeys(heights)) == [8, 16, 24, 32]
    assert np.array_equal(Image.open(path), side_by_side(images))


def test_a_file_shows_a_picture_that_is_drawn_in_another_order(studio, tmp_path, monkeypatch):
    """Rows side by side: whole only at the end, with something to see before the first token is complete."""
    path, seen = tmp_path / "now.png", []
    monkeypatch.setattr("reelmill.pipelines.generate.progress.INTERVAL_S", 0.0)
    monkeypatch.setattr("reelmill.pipelines.generate.progress.TIME_SHARE", float("inf"))
    by_rows = replace(studio, decoding=Decoding("rows", 1, ByRows(1)))
    with LiveProgress(by_rows, str(path), Console(file=io.StringIO())) as progress:

        def look(draft):
            progress.update_draft(draft)
            seen.append(np.asarray(Image.open(path)))

        images = replace(by_rows, on_token=progress.update, on_draft=look).images(["a"], 4, 6)
    grey = [int((picture == 128).all(axis=2).sum()) for picture in seen]
    assert len(seen) == 4 + 6 - 1 - 1  # passes but the last
    assert grey[0] >= 8 * 8 * (4 * 6 - 1) and grey == sorted(grey, reverse=True)
    assert np.array_equal(Image.open(path), images[0])


def test_a_length_beyond_the_training_rows_is_said_once(studio):
    _, text = shown(replace(studio, context=20), "", terminal=False)
    assert text.count("trained on rows of 20") == 1


def test_half_blocks_are_two_pixels_each():
    picture = np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    text = half_blocks(picture, 10, 10)
    assert text.plain == "▀▀▀\n▀▀▀\n"
    styles = [str(span.style) for span in text.spans]
    assert styles[4] == "rgb({},{},{}) on rgb({},{},{})".format(*picture[2, 1], *picture[3, 1])
    wide = half_blocks(np.zeros((100, 300, 3), dtype=np.uint8), 30, 20)
    assert wide.plain == ("▀" * 30 + "\n") * 5


def test_other_previews_are_refused(studio):
    with pytest.raises(ConfigError, match=r"--preview is x\.gif"):
        LiveProgress(studio, "x.gif")
    with pytest.raises(ConfigError, match="stderr is not one"):
        shown(studio, "terminal", terminal=False)
