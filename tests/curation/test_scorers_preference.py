"""HPSv2.1 and MPS: their real code paths on tiny random weights, and how loudly they are off without."""

import logging
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import tiny_clip
from torch.nn import functional as F

from reelmill import weights
from reelmill.compat import torchvision
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create, mps, preference
from reelmill.curation.scorers.mps_weights import read_tensors
from reelmill.errors import WeightsError

HPS_TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MPS_TINY = {
    "projection_dim": 20,
    "text_config": {**TOWER, "max_position_embeddings": 77},
    "vision_config": {**TOWER, "patch_size": 8, "image_size": 32},
}
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
SPREAD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
PROMPT = "a windmill at dusk, in colour"


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 40, 56, 3), dtype=np.uint8)


def sample(images, alt=PROMPT, kind="video"):
    frames = Frames(images, np.zeros(len(images)), np.zeros((0, 3, 8, 8), np.uint8))
    return Sample("s", "i", kind, 0.0, 1.0, 64, 64, 30.0, frames, alt=alt)


def normalised(image):
    return (torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255 - MEAN) / SPREAD


@pytest.fixture(scope="module")
def hps(tmp_path_factory):
    """A tiny CLIP of random weights, saved as HPSv2.1's is."""
    folder = tmp_path_factory.mktemp("hps")
    clip = tiny_clip(folder, "tiny-hps", HPS_TINY)
    torch.save({"epoch": 1, "state_dict": clip.state_dict()}, folder / "hps.pt")
    return folder / "hps.pt", clip


@pytest.fixture
def scorer(hps, monkeypatch):
    monkeypatch.setattr(preference, "HPS_ARCHITECTURE", "tiny-hps")
    made = create("hps", {"checkpoint": str(hps[0])})
    made.setup()
    return made


def hps_by_hand(clip, image):
    """The longer side made to fit, black above and below, unit length, a hundred times the cosine."""
    import open_clip

    small = Image.new("RGB", (32, 32))
    small.paste(Image.fromarray(image).resize((32, 23), Image.Resampling.BICUBIC), (0, 4))
    with torch.no_grad():
        seen, words = (
            clip.visual(normalised(small)[None]),
            clip.encode_text(open_clip.get_tokenizer("tiny-hps")([PROMPT])),
        )
    return 100 * float(F.cosine_similarity(seen, words))


def test_hps_is_a_hundred_cosines_of_the_whole_picture_and_its_text(scorer, hps):
    image = pictures(1)
    (row,) = scorer.score([sample(image, kind="image")])
    assert row == {"hps_score": pytest.approx(hps_by_hand(hps[1], image[0]), abs=1e-3)}


def test_a_clip_scores_its_worst_of_first_middle_and_last(scorer, hps):
    images = pictures(9, seed=1)
    (row,) = scorer.score([sample(images)])
    assert row["hps_score"] == pytest.approx(min(hps_by_hand(hps[1], images[n]) for n in (0, 4, 8)), abs=1e-3)


def test_without_frames_or_text_there_is_no_score(scorer):
    rows = scorer.score([sample(pictures(1), alt=None), sample(pictures(1), alt=""), sample(pictures(0))])
    assert rows == [{"hps_score": None}] * 3


def test_without_the_weights_they_are_off_and_say_so(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        for name, words in (("hps", "reelmill models pull hps-v2-1"), ("mps", "score.scorers.mps.checkpoint=FILE")):
            made = create(name)
            made.setup()
            assert words in made.available() and words in caplog.text
            assert made.score([sample(pictures(3))]) == [{f"{name}_score": None}]
    assert "no file /nowhere/x.pt" in create("mps", {"checkpoint": "/nowhere/x.pt"}).available()


def test_hps_refuses_other_weights(hps, tmp_path):
    torch.save({"state_dict": {"visual.proj": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt has not the tensors of tiny-hps"):
        preference.HPSJudge("tiny-hps", tmp_path / "other.pt")


def test_the_card_is_that_of_the_published_file():
    card = weights.cards()[preference.HPS_WEIGHTS]
    assert (card.role, card.default, card.licence) == ("preference", False, "Apache-2.0")


@pytest.fixture(scope="module")
def mps_module():
    """A module like the released one, of tiny random weights, in a package that only its author has."""
    torchvision()
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    package = types.ModuleType("trainer_of_others")

    class Released(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = CLIPModel(CLIPConfig(**MPS_TINY))
            self.cross_model = mps.CrossModel(20, layers=2, heads=3)

    Released.__module__, Released.__qualname__ = package.__name__, "Released"
    package.Released = Released
    sys.modules[package.__name__] = package
    module = Released().eval()
    yield module
    sys.modules.pop(package.__name__, None)


@pytest.fixture(scope="module")
def released(mps_module, tmp_path_factory):
    """The file as it is released: the whole module pickled; whoever reads it lacks its package."""
    path = tmp_path_factory.mktemp("mps") / "released.pth"
    torch.save(mps_module, path)
    sys.modules.pop("trainer_of_others")
    return path


def test_a_pickled_module_gives_its_tensors_without_its_code(released, mps_module):
    found = read_tensors(released)
    for name, tensor in mps_module.state_dict().items():
        torch.testing.assert_close(found[name], tensor)


def test_what_a_pickle_calls_is_not_called(tmp_path):
    class Hostile:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'trace')!r}, 'w')",)

    torch.save(Hostile(), tmp_path / "hostile.pth")
    with pytest.raises(WeightsError, match="neither a module nor a table"):
        read_tensors(tmp_path / "hostile.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(WeightsError, match="cannot be read"):
        read_tensors(tmp_path / "plain.pth")
    assert not (tmp_path / "trace").exists()


def mps_by_hand(module, image, prompt):
    """The score step by step, each head by itself and each sum written out."""
    import open_clip

    def words(text):
        ids = open_clip.SimpleTokenizer(context_length=77)([text])
        ids[0, int(ids.argmax()) :] = ids.max()
        found = module.model.text_model(input_ids=ids)
        return module.model.text_projection(found.last_hidden_state)[0], module.model.text_projection(
            found.pooler_output
        )[0]

    def norm(x, weight):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * weight

    def turned(x):
        pairs = torch.complex(x[:, :32], x[:, 32:])
        angles = torch.arange(len(x))[:, None] * 10_000.0 ** (-torch.arange(32) / 32)
        pairs = pairs * torch.polar(torch.ones_like(angles), angles)
        return torch.cat((pairs.real, pairs.imag), dim=1)

    def attended(queries, keys, values, counts):
        heads = []
        for query in queries.split(64, dim=-1):
            scores = (query @ keys.T / 8).masked_fill(~counts, -torch.inf)
            heads.append(scores.softmax(-1) @ values)
        return torch.cat(heads, dim=-1)

    def gated(x):
        return x[:, : x.shape[1] // 2] * F.silu(x[:, x.shape[1] // 2 :])

    resized = Image.fromarray(image).resize((44, 32), Image.Resampling.BICUBIC).crop((6, 0, 38, 32))
    with torch.no_grad():
        text, whole = words(prompt)
        condition, _ = words(mps.CONDITION)
        near = torch.stack([(condition @ word).max() for word in text])
        counts = near / near.max() > 0.01
        x = module.model.visual_projection(module.model.vision_model(normalised(resized)[None]).last_hidden_state)[0]
        for pair in module.cross_model.layers:
            across, within = pair[0].fn, pair[1].fn
            y = norm(x, across.norm.weight)
            keys, values = across.to_kv(text).split(64, dim=-1)
            x = x + across.to_out(attended(across.to_q(y), keys, values, counts)) + across.ff[2](gated(across.ff[0](y)))
            q, keys, values, hidden = within.fused_attn_ff_proj(norm(x, within.norm.weight)).split(within.parts, dim=-1)
            q = torch.cat([turned(part) for part in q.split(64, dim=-1)], dim=-1)
            seen = attended(q, turned(keys), values, torch.ones(len(x), dtype=torch.bool))
            x = x + within.attn_out(seen) + within.ff_out[1](gated(hidden))
        return float(module.model.logit_scale.exp() * F.cosine_similarity(x[0], whole, dim=0)), counts


def test_mps_is_what_a_plain_reference_gives(released, mps_module):
    judge = mps.MPSJudge(read_tensors(released), architecture=MPS_TINY, layers=2, heads=3)
    images = pictures(2, seed=3)
    wanted = [mps_by_hand(mps_module, image, PROMPT)[0] for image in images]
    assert judge(images, PROMPT).tolist() == pytest.approx(wanted, abs=1e-3)
    assert wanted[0] != pytest.approx(wanted[1], abs=1e-2)


def test_mps_scores_through_the_scorer(released, monkeypatch):
    monkeypatch.setattr(
        mps, "MPSJudge", lambda tensors, condition: lambda images, prompt: np.array([len(tensors), 7.0])
    )
    made = create("mps", {"checkpoint": str(released)})
    made.setup()
    assert made.available() is None
    assert made.score([sample(pictures(2))]) == [{"mps_score": 7.0}]


def test_mps_says_which_tensors_are_missing(released):
    tensors = {name: t for name, t in read_tensors(released).items() if "to_kv" not in name}
    with pytest.raises(WeightsError, match=r"lack cross_model\.layers\.0\.0\.fn\.to_kv\.weight"):
        mps.MPSJudge(tensors, architecture=MPS_TINY, layers=2, heads=3)
