"""Agreement of picture and alt text: the real code path on a tiny CLIP of random weights, and off without weights."""

import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_clip import tiny_clip
from torch.nn import functional as F

from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import clip_alt, create

TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
SPREAD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def sample(images, alt):
    frames = Frames(images, np.zeros(len(images)), np.zeros((0, 3, 8, 8), np.uint8))
    return Sample("s", "i", "video", 0.0, 1.0, 32, 32, 30.0, frames, alt=alt)


def test_it_is_the_lowest_cosine_of_first_middle_and_last_frame(tmp_path, monkeypatch):
    clip = tiny_clip(tmp_path, "tiny-alt", TINY)
    import open_clip  # only after what makes torchvision fit torch

    save_file({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}, tmp_path / "clip.safetensors")
    monkeypatch.setattr(clip_alt, "ARCHITECTURE", "tiny-alt")
    scorer = create("clip_alt", {"checkpoint": str(tmp_path / "clip.safetensors")})
    scorer.setup()
    images = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    text = "a windmill at dusk"
    with torch.no_grad():
        inputs = torch.stack([(torch.from_numpy(images[n]).permute(2, 0, 1) / 255 - MEAN) / SPREAD for n in (0, 2, 4)])
        words = clip.encode_text(open_clip.get_tokenizer("tiny-alt")([text]))
        expected = float(F.cosine_similarity(clip.encode_image(inputs), words).min())
    told, silent, empty = scorer.score([sample(images, text), sample(images, None), sample(images[:0], text)])
    assert told["alt_agreement"] == pytest.approx(expected, abs=1e-4)
    assert silent == empty == {"alt_agreement": None}


def test_without_the_weights_it_is_off_and_says_so(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    scorer = create("clip_alt")
    with caplog.at_level(logging.WARNING):
        scorer.setup()
    assert "reelmill models pull clip-vit-l14" in caplog.text
    assert scorer.score([sample(np.zeros((1, 32, 32, 3), np.uint8), "a mill")]) == [{"alt_agreement": None}]
