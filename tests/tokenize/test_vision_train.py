"""The training script on tiny data: it learns, resumes after a kill, and writes a tokenizer that loads."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from reelmill.errors import DataError
from reelmill.tokenize.vision import data, evaluate, load, sources, train
from reelmill.tokenize.vision.movq import MoVQConfig

TINY = MoVQConfig(
    channels=16, channel_multipliers=(1, 1), res_blocks=1, attention_levels=(), mid_attention=False, patch=4,
    z_channels=8, embed_dim=8, norm_groups=4, temporal_norm="group", quantizer="fsq", codes=64, fsq_levels=(8, 8),
)  # fmt: skip
CONFIG = train.TrainConfig(minutes=0.05, pictures=2, clips=1, sizes=(32,), log_every=2, warmup_steps=2)


@pytest.fixture
def folder(tmp_path):
    """Two pictures and one 12-frame video, of moving colour gradients."""
    import av

    y, x = np.mgrid[:48, :64]
    frames = [
        np.stack([(x * 4 + 9 * t) % 256, (y * 5) % 256, (x + y + 5 * t) % 256], -1).astype(np.uint8) for t in range(40)
    ]
    root = tmp_path / "media"
    root.mkdir()
    Image.fromarray(frames[0]).save(root / "one.png")
    Image.fromarray(frames[5]).convert("RGBA").save(root / "two.png")
    with av.open(str(root / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 64, 48
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return root


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setitem(train.PRESETS, "tiny", TINY)
    out = tmp_path / "out"
    out.mkdir()
    return lambda: train.Trainer("tiny", CONFIG, out)


def test_a_run_learns_logs_saves_pictures_and_a_tokenizer(folder, trainer):
    run = trainer()
    run.run(data.Media(data.find_media([folder])), [folder / "one.png", folder / "clip.mp4"])
    rows = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    losses = [row["l1"] for row in rows if "l1" in row]
    assert len(losses) >= 2 and losses[-1] < losses[0]
    assert {"psnr/one.png", "psnr/clip.mp4", "flicker/clip.mp4", "codes_used"} <= rows[-1].keys()
    assert list((run.out / "pictures").rglob("clip.png"))
    tokenizer = load(run.out / "tiny.safetensors")
    assert (tokenizer.name, tokenizer.codes, tokenizer.spatial, tokenizer.temporal) == ("tiny", 64, 8, 4)


def test_a_resumed_run_equals_an_undisturbed_one(folder, trainer):
    media = data.Media(data.find_media([folder]))
    whole = trainer()
    whole.seconds = 1.0
    for _ in range(2):
        whole.train_step(media)
    whole.checkpoint([])
    resumed = trainer()
    resumed.resume()
    assert resumed.step == 2
    for run in (whole, resumed):
        run.train_step(media)
    for one, two in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(one, two)


def test_batches_are_a_function_of_the_generator(folder):
    media = data.Media(data.find_media([folder]))
    for make in (lambda rng: media.picture(rng, 32), lambda rng: media.clip(rng, 32, 8)):
        for seed in range(6):
            one, two = make(np.random.default_rng(seed)), make(np.random.default_rng(seed))
            assert np.array_equal(one, two)
            assert one.dtype == np.uint8 and one.shape[-3:] == (32, 32, 3)


def test_media_must_be_there(tmp_path, folder):
    with pytest.raises(DataError, match="is not a folder"):
        data.find_media([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="found 1 and 0"):
        data.Media([folder / "one.png"])


def test_listed_media_are_hashed_and_held_out_files_are_named():
    listed = sources.packages()
    held_out = {member.path.rsplit("/", 1)[1] for package in listed for member in package.member if member.held_out}
    assert {"bigbuckbunny.mp4", "carphone_pristine.mp4", "china.jpg", "astronaut.png"} <= held_out
    assert all(len(member.sha256) == 64 for package in listed for member in package.member)


def test_psnr_and_flicker_of_known_errors():
    black = np.zeros((4, 8, 8, 3), np.uint8)
    assert evaluate.psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
    assert evaluate.flicker(black, black + 9) == 0
    blinking = black.copy()
    blinking[1::2] = 6
    assert evaluate.flicker(black, blinking) == 6
