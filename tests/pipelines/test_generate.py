"""`reelmill generate` and `ask` with a checkpoint of a few steps."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Clip
from reelmill.eval.generation.files import read_settings, write_clip
from reelmill.pipelines.cli import app
from reelmill.tokenize import documents, vision
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.run import train
from reelmill.train.trainer import TrainConfig

VOCAB = Vocabulary("bytes", 4096)


def reelmill(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    fingerprint = vision.load("reelmill-tok-xs").fingerprint
    tokens = documents.image_document(VOCAB, np.arange(6).reshape(2, 3), "six codes")
    row = document_row(VOCAB, tokens, sample_id="s", item_id="i", fingerprint=fingerprint)
    folder = out / "tokens" / fingerprint[:12]
    folder.mkdir(parents=True)
    write_shard(folder / "unit-000000.parquet", [row], VOCAB, fingerprint)
    config = TrainConfig(
        model=ModelConfig(hidden=16, layers=1, heads=2, kv_heads=1, mlp=24),
        data=DataConfig(context=64, batch_rows=1, heldout=0.0),
        steps=1,
        precision="float32",
        device="cpu",
    )
    return train(config, [out], out / "train", say=lambda _: None)


def test_pictures_of_several_prompts_carry_their_settings(checkpoint, tmp_path):
    run = checkpoint.parent.parent
    asked = ("--ratio", "3:2", "--area", 24 * 16, "--count", 2, "--guidance", 2, "--negative", "bad", "--seed", 5)
    said = reelmill("generate", run, "--prompt", "a", "--prompt", "b", "--out", tmp_path / "x.png", *asked)
    files = sorted(tmp_path.glob("*.png"))
    assert [path.name for path in files] == [f"x-{n:03d}.png" for n in range(4)]
    assert all(f"{path}: 24x16 pixels" in said.replace("\n", "") for path in files)
    assert {Image.open(path).size for path in files} == {(24, 16)}
    assert len({path.read_bytes()[-400:] for path in files}) == 4
    expected = {"prompt": "b", "stream": 2, "seed": 5, "guidance": 2.0, "negative": "bad", "top_k": 2048}
    assert read_settings(files[2]).items() >= {**expected, "checkpoint": str(checkpoint)}.items()


def test_processes_share_the_prompts_and_draw_what_one_does(checkpoint, tmp_path, monkeypatch):
    asked = ("generate", checkpoint, "--prompt", "a", "--count", 3, "--area", 16 * 16)
    reelmill(*asked, "--out", tmp_path / "one.png")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        reelmill(*asked, "--out", tmp_path / f"two{rank}.png")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert reelmill(*asked, "--out", tmp_path / "none.png").count("png") == 1, "rank 1 of 4 has one of the three"
    monkeypatch.setenv("RANK", "3")
    assert not reelmill(*asked, "--out", tmp_path / "none.png"), "the last has nothing to draw"
    names = sorted(path.name for path in tmp_path.glob("two*"))
    assert names == ["two0-000.png", "two0-002.png", "two1-001.png"]
    for name in names:
        assert np.array_equal(Image.open(tmp_path / name), Image.open(tmp_path / f"one{name[4:]}"))


def test_videos_from_words_a_picture_and_a_video(checkpoint, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (16, 16, 16, 3), dtype=np.uint8)
    write_clip(Clip(frames[:1]), tmp_path / "first.png", {})
    write_clip(Clip(frames, 8.0), tmp_path / "past.mp4", {})
    asked = ("generate", checkpoint, "--prompt", "a", "--area", 16 * 16, "--seconds", 1)
    assert "8 frames of 16x16" in reelmill(*asked, "--out", tmp_path / "words.mp4")
    assert "8 frames of 16x16" in reelmill(*asked, "--out", tmp_path / "p.mp4", "--image", tmp_path / "first.png")
    # The context's 12 frames and 8 more.
    past = ("--video", tmp_path / "past.mp4", "--context", 1.5)
    assert "20 frames of 16x16" in reelmill(*asked, "--out", tmp_path / "future.mp4", *past)
    assert read_settings(tmp_path / "future.mp4")["prompt"] == "a"


def test_words_about_a_picture_and_a_video(checkpoint, tmp_path):
    frames = np.full((8, 16, 16, 3), 90, dtype=np.uint8)
    write_clip(Clip(frames[:1]), tmp_path / "a.png", {})
    write_clip(Clip(frames, 8.0), tmp_path / "a.mp4", {})
    small = ("--area", 16 * 16, "--most", 8, "--temperature", 1)
    assert reelmill("ask", checkpoint, tmp_path / "a.png", *small)
    assert reelmill("ask", checkpoint, tmp_path / "a.mp4", "--seconds", 1, "--question", "What is this?", *small)


def test_parts_that_do_not_go_together_are_refused(checkpoint, tmp_path):
    asked = ["generate", str(checkpoint), "--prompt", "a"]
    with pytest.raises(ConfigError, match="both given"):
        CliRunner().invoke(app, [*asked, "--image", "x", "--video", "y", "--seconds", "1"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="say how much video"):
        CliRunner().invoke(app, [*asked, "--image", "x"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"pictures are written as \.png"):
        CliRunner().invoke(app, [*asked, "--out", "x.gif"], catch_exceptions=False)
    with pytest.raises(DataError, match="neither a checkpoint nor"):
        CliRunner().invoke(app, ["ask", str(tmp_path), "x.png"], catch_exceptions=False)
