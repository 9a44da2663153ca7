"""Training Emu3.5's kind of tokenizer: index backpropagation, entropy, features of SigLIP; pictures without videos."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from reelmill.compat import torchvision
from reelmill.errors import DataError, WeightsError
from reelmill.tokenize.vision import load
from reelmill.tokenize.vision.ibq import IBQ, IBQConfig
from reelmill.train.parallel import join_ranks
from reelmill.train.saver import CheckpointConfig
from reelmill.train.vision.config import TokenizerOptimizerConfig, TokenizerRecipe
from reelmill.train.vision.data import DataConfig
from reelmill.train.vision.losses import LossConfig
from reelmill.train.vision.media import MediaFile, find
from reelmill.train.vision.run import train
from reelmill.train.vision.semantic import Distillation

TINY = IBQConfig(
    channels=16, channel_multipliers=(1, 2), res_blocks=1, attention_levels=(1,), patch=4, z_channels=12, embed_dim=8,
    norm_groups=4, codes=96,
)  # fmt: skip
STILLS = DataConfig(pictures=3, clips=0, sizes=(32,), video_stills=0.0, real_clips=0.0)
RECIPE = TokenizerRecipe(
    name="toy", model=TINY, data=STILLS, loss=LossConfig(quantizer=0.1, entropy=0.005),
    optimizer=TokenizerOptimizerConfig(lr=3e-3, final_lr=3e-5, warmup_steps=2), steps=8, log_every=2,
    checkpoint=CheckpointConfig(every=4), device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures of gradients and edges, no video."""
    root = tmp_path_factory.mktemp("media")
    y, x = np.mgrid[:64, :80]
    for n in range(4):
        red, green = (x * (2 + n)) % 256, (y * 3 + 40 * n) % 256
        blue = np.where((x - 40) ** 2 + (y - 32) ** 2 < 300 + 90 * n, 220, 40)
        Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8)).save(root / f"{n}.png")
    return root


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """A SigLIP vision model with random weights, as transformers writes it."""
    torchvision()
    from transformers import SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(1)
    config = SiglipVisionConfig(
        hidden_size=20, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
    )
    place = tmp_path_factory.mktemp("siglip") / "siglip-tiny"
    SiglipVisionModel(config).save_pretrained(place)
    return place


def quiet(_line):
    """Nobody listens."""


def log(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_from_pictures_alone(folder, tmp_path):
    recipe = replace(RECIPE, steps=160, log_every=20, checkpoint=CheckpointConfig(every=40))
    path = train(recipe, find([folder]), [MediaFile(folder / "0.png")], tmp_path, log_fn=quiet)
    rows = log(tmp_path)
    l1 = [row["l1"] for row in rows if "l1" in row]
    scores = [row["validation"]["psnr/0.png"] for row in rows if "validation" in row]
    assert l1[-1] < 0.7 * l1[0]
    assert scores[-1] > scores[0] + 1
    assert rows[-1]["validation"]["codes_used"] * 96 > 7
    assert all({"entropy", "quantizer"} <= row.keys() for row in rows if "l1" in row)
    tokenizer = load(path)
    assert (tokenizer.config, tokenizer.spatial, tokenizer.temporal) == (TINY, 8, 1)


def everything(siglip):
    loss = LossConfig(
        quantizer=1.0, entropy=0.05, lpips=0.1, adversarial=0.1, adversarial_start=1, semantic=0.5,
        semantic_model=str(siglip),
    )  # fmt: skip
    return replace(RECIPE, loss=loss)


def test_a_resumed_run_equals_an_undisturbed_one(folder, siglip, tmp_path):
    kind, sources = everything(siglip), find([folder])
    whole = train(kind, sources, [], tmp_path / "whole", log_fn=quiet)
    train(kind, sources, [], tmp_path / "parts", until=5, log_fn=quiet)
    parts = train(kind, sources, [], tmp_path / "parts", log_fn=quiet)
    one, other = load(whole).model.state_dict(), load(parts).model.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    heads = [
        load_file(next((tmp_path / name / "checkpoints/step-000008/semantic").glob("*.safetensors")))
        for name in ("whole", "parts")
    ]
    for name, tensor in heads[0].items():
        assert torch.equal(tensor, heads[1][name])
    assert {"semantic", "lpips", "adversarial", "discriminator", "entropy"} <= log(tmp_path / "whole")[-2].keys()


def test_a_state_of_before_a_loss_was_there_goes_on(folder, tmp_path):
    plain = replace(RECIPE, loss=LossConfig())
    train(plain, find([folder]), [], tmp_path, until=4, log_fn=quiet)
    last = tmp_path / "checkpoints/step-000004"
    state = json.loads((last / "state.json").read_text())
    for key in ("entropy", "semantic", "semantic_model"):
        del state["recipe"]["loss"][key]
    (last / "state.json").write_text(json.dumps(state))
    (last / "manifest.json").unlink()  # it had none
    lines = []
    train(plain, find([folder]), [], tmp_path, log_fn=lines.append)
    assert f"resumed from {last}" in lines


def test_features_of_the_decoder_come_to_be_those_of_siglip(folder, siglip):
    torch.manual_seed(0)
    frames = torch.rand(4, 3, 32, 32) * 2 - 1
    with join_ranks("cpu") as ranks:
        model = IBQ(TINY)
        distillation = Distillation(model, str(siglip), 1e-2, ranks)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        terms = []
        for _ in range(60):
            model(frames, frames[:0, None])
            term = distillation.term(frames)
            term.backward()
            optimizer.step()
            optimizer.zero_grad()
            distillation.step()
            terms.append(float(term.detach()))
        assert terms[-1] < 0.6 * terms[0]
        with torch.no_grad():
            model(frames, frames[:0, None])
        model(frames, frames[:0, None])  # only passes that are trained on are looked at
        assert float(distillation.term(frames).detach()) == pytest.approx(terms[-1], abs=0.1)


def test_what_is_no_siglip_says_so(tmp_path):
    with join_ranks("cpu") as ranks, pytest.raises(WeightsError, match=r"loss\.semantic_model .* must be a folder"):
        Distillation(IBQ(TINY), str(tmp_path), 1e-3, ranks)


def test_videos_are_asked_for_where_they_are_needed(folder, tmp_path):
    with pytest.raises(DataError, match=r"do without videos by data\.video_stills 0"):
        train(
            replace(RECIPE, data=replace(STILLS, clips=1, real_clips=0.5)), find([folder]), [], tmp_path, log_fn=quiet
        )
    rendered = replace(RECIPE, data=replace(STILLS, clips=1, latents=(2,)), steps=2)
    train(rendered, find([folder]), [], tmp_path / "rendered", log_fn=quiet)
    assert log(tmp_path / "rendered")[0]["flicker"] > 0


@pytest.mark.slow
def test_two_ranks_train_the_same_by_ddp_and_by_fsdp(folder, siglip, tmp_path):
    weights = []
    for kind in ("ddp", "fsdp"):
        script = (
            "import sys; from dataclasses import replace; from pathlib import Path\n"
            "sys.path.insert(0, sys.argv[1]); import test_vision_ibq_training as t\n"
            "checkpoint = t.CheckpointConfig(every=2)\n"
            "recipe = replace(t.everything(sys.argv[5]), parallel=sys.argv[4], steps=4, checkpoint=checkpoint)\n"
            "t.train(recipe, t.find([Path(sys.argv[2])]), [], Path(sys.argv[3]), log_fn=t.quiet)\n"
        )
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
        arguments = [str(Path(__file__).parent), str(folder), str(tmp_path / kind), kind, str(siglip)]
        done = subprocess.run(
            [*command, sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        weights.append(load(tmp_path / kind / "toy.safetensors").model.state_dict())
    for name, one in weights[0].items():
        torch.testing.assert_close(one, weights[1][name], rtol=1e-2, atol=2e-3)
