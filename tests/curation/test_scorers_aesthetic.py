"""The aesthetic scorer: its real code path on a tiny random CLIP, and how loudly it is off without weights."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import tiny_clip

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.judging.agreement import Agreement, said_near
from reelmill.curation.judging.config import ClipConfig
from reelmill.curation.scorers import aesthetic, create
from reelmill.errors import WeightsError

TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny CLIP of random weights and a random head, as the files that the real ones come in."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    clip = tiny_clip(folder, "tiny-clip", TINY)
    head = torch.nn.Linear(24, 1)
    save_file({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}, folder / "clip.safetensors")
    torch.save(head.state_dict(), folder / "head.pth")
    return folder, clip, head


@pytest.fixture
def installed(tiny, monkeypatch):
    folder, *_ = tiny
    files = {aesthetic.CLIP_WEIGHTS: folder / "clip.safetensors", aesthetic.HEAD_WEIGHTS: folder / "head.pth"}
    monkeypatch.setattr(weights, "path", files.__getitem__)
    monkeypatch.setattr(aesthetic, "ARCHITECTURE", "tiny-clip")
    scorer = create("aesthetic")
    scorer.setup()
    return scorer


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 40, 56, 3), dtype=np.uint8)


def sample(images, kind="video"):
    frames = Frames(images, np.zeros(len(images)), np.zeros((0, 3, 8, 8), np.uint8))
    return Sample("s", "i", kind, 0.0, 1.0, 64, 64, 30.0, frames)


def preprocessed(images):
    """Pictures as CLIP sees them, by hand: resize, centre crop and normalise with PIL and torch."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    spread = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    shown = []
    for image in images:
        small = np.asarray(Image.fromarray(image).resize((44, 32), Image.Resampling.BICUBIC))[:, 6:38]
        shown.append((torch.from_numpy(small.copy()).permute(2, 0, 1) / 255 - mean) / spread)
    return torch.stack(shown)


def reference(tiny, images):
    """The same by hand: what CLIP sees, CLIP's tower, unit length, the head."""
    _, clip, head = tiny
    with torch.no_grad():
        features = clip.visual(preprocessed(images))
        unit = features / features.norm(dim=1, keepdim=True)
        return (unit @ head.weight.T + head.bias)[:, 0].tolist()


def test_an_image_scores_what_a_plain_reference_gives(installed, tiny):
    image = pictures(1)
    (row,) = installed.score([sample(image, "image")])
    assert row["aesthetic_score"] == pytest.approx(reference(tiny, image)[0], abs=1e-4)


def test_a_clip_scores_its_worst_of_first_middle_and_last(installed, tiny):
    images = pictures(9, seed=1)
    (row,) = installed.score([sample(images)])
    assert row["aesthetic_score"] == pytest.approx(min(reference(tiny, images[[0, 4, 8]])), abs=1e-4)
    assert installed.score([sample(images[:0])]) == [{"aesthetic_score": None}]


@pytest.mark.gpu
def test_a_gpu_scores_what_a_cpu_scores(installed, tiny):
    images = pictures(9, seed=2)
    (row,) = installed.score([sample(images)])
    assert row["aesthetic_score"] == pytest.approx(min(reference(tiny, images[[0, 4, 8]])), abs=0.01)


def test_with_the_weights_the_scorer_is_available(installed):
    assert installed.available() is None


def test_without_the_weights_it_is_off_and_says_so(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    assert "reelmill models pull clip-vit-l14" in aesthetic.Aesthetic.available()
    scorer = create("aesthetic")
    with caplog.at_level(logging.WARNING):
        scorer.setup()
    assert "aesthetic_score is off" in caplog.text
    assert scorer.score([sample(pictures(3))]) == [{"aesthetic_score": None}]


def test_a_head_of_another_width_is_refused(tiny, tmp_path):
    folder, *_ = tiny
    torch.save(torch.nn.Linear(768, 1).state_dict(), tmp_path / "head.pth")
    with pytest.raises(WeightsError, match="768"):
        aesthetic.Predictor("tiny-clip", folder / "clip.safetensors", tmp_path / "head.pth")


def test_frames_that_show_the_same_again_are_counted(tiny, tmp_path):
    folder, *_ = tiny
    images = pictures(3, seed=2)
    again = images[[0, 1, 0, 2, 1]]
    own = {"model": "tiny-clip", "checkpoint": str(folder / "clip.safetensors")}
    scorer = create("clip_repeats", {**own, "alike": 0.9999})
    scorer.setup()
    row, nothing = scorer.score([sample(again), sample(again[:0])])
    assert (row, nothing) == ({"clip_repeated": pytest.approx(2 / 5)}, {"clip_repeated": None})
    everything = create("clip_repeats", {**own, "alike": -1.0})
    everything.setup()
    assert everything.score([sample(images)]) == [{"clip_repeated": pytest.approx(2 / 3)}]  # all but the first
    absent = create("clip_repeats", {"checkpoint": str(tmp_path / "none.pt")})
    absent.setup()
    assert "which score.scorers.clip_repeats.checkpoint names" in absent.available()
    assert absent.score([sample(again)]) == [{"clip_repeated": None}]


def test_pictures_are_compared_with_what_is_said_near_them(tiny, tmp_path):
    folder, clip, _ = tiny
    images, said = list(pictures(3, seed=3)), ["a mill", "", "a wheel"]
    config = ClipConfig("tiny-clip", str(folder / "clip.safetensors"))
    found = Agreement(config).judge(images, said)
    import open_clip

    tokens = open_clip.get_tokenizer("tiny-clip")(["a mill", "a wheel"])
    with torch.no_grad():
        told = torch.nn.functional.normalize(clip.encode_text(tokens), dim=1)
        seen = torch.nn.functional.normalize(clip.encode_image(preprocessed([images[0], images[2]])), dim=1)
    assert found.value == pytest.approx(float((told * seen).sum(dim=1).mean()), abs=1e-4)
    assert Agreement(config).judge(images, ["", "", ""]).problem == "nothing_said"
    words = [{"text": text, "start_s": n * 1.0, "end_s": n + 0.9} for n, text in enumerate(["one", "two", "three"])]
    assert said_near(words, 0.0, 2.0) == "one two" and said_near(words, 9.0, 2.0) == ""
    with pytest.raises(WeightsError, match=r"judging\.clip\.checkpoint"):
        Agreement(ClipConfig(checkpoint=str(tmp_path / "none.pt")))
