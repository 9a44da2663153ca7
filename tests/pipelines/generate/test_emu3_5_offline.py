"""Emu3.5 from rows to a picture with what is shipped: import, a few steps of training, generation, export."""

import json

import numpy as np
from PIL import Image
from toy_run import reelmill

from reelmill.eval.generation.loading import load_model
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vision import load
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

TOKENIZER = "reelmill-tok16-s"


def test_rows_become_a_model_that_edits_a_picture(tmp_path):
    for name, colour in {"red": (200, 30, 30), "blue": (30, 30, 200)}.items():
        Image.new("RGB", (48, 32), colour).save(tmp_path / f"{name}.png")
    row = {"task": "x2i", "question": "make it blue", "images": ["red.png"], "answer": [{"image": "blue.png"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    asked = ("--task-layout", "tasks", "--text", "bytes", "--min-pixels", 48 * 32, "--max-pixels", 48 * 32)
    reelmill("chat", "import", tmp_path / "rows.jsonl", "--tokenizer", TOKENIZER, "--out", tmp_path / "data", *asked)
    config = TrainConfig(
        model=ModelConfig(hidden=16, layers=1, heads=2, kv_heads=1, mlp=24),
        data=DataConfig(context=256, batch_rows=1, heldout=0.0),
        steps=1,
        precision="float32",
        device="cpu",
        checkpoint=CheckpointConfig(every=1),
    )
    train(config, [tmp_path / "data"], tmp_path / "run", log_fn=lambda _: None)
    asked = ("--task", "x2i", "--prompt", "make it blue", "--image", tmp_path / "red.png", "--area", 48 * 32)
    said = reelmill("generate", tmp_path / "run", *asked, "--max-tokens", 3000, "--out", tmp_path / "out.png")
    assert "48x32 pixels" in said.replace("\n", "")
    reelmill("export", tmp_path / "run", tmp_path / "hf")
    loaded = load_model(tmp_path / "hf", TOKENIZER)
    assert loaded.vocab.layout == EMU3_5 and loaded.vocab.codes == loaded.vision.codes == 16_384


def test_colours_and_places_survive_nine_codes():
    tokenizer = load(TOKENIZER)
    picture = np.full((48, 48, 3), 128, dtype=np.uint8)
    picture[16:32, 8:40] = (220, 30, 30)
    codes = tokenizer.encode_image(picture)
    assert codes.shape == (3, 3)
    again = tokenizer.decode_image(codes, (48, 48)).astype(int)
    assert np.abs(again[20:28, 16:32].mean((0, 1)) - (220, 30, 30)).max() < 40
    assert np.abs(again[2:10].mean((0, 1)) - 128).max() < 25
