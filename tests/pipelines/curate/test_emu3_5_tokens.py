"""A dump tokenized by a tokenizer without a time axis: Emu3.5's documents, from the media to a training step."""

import pytest
import torch
from dumps import light_recipe, write_dump
from rich.console import Console
from typer.testing import CliRunner

from reelmill.errors import ConfigError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.cli import app
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.imports.tokens import import_tokens
from reelmill.pipelines.ledger.verify import verify
from reelmill.tokenize import documents, vision
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.shards import ShardIndex
from reelmill.tokenize.vision.ibq import IBQ, IBQConfig
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.run import train

SMALL = IBQConfig(
    channels=8, channel_multipliers=(1,), res_blocks=1, attention_levels=(), mid_attention=False, patch=16,
    z_channels=8, embed_dim=8, norm_groups=4, codes=96,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tokenizer") / "ibq.safetensors"
    vision.save(IBQ(SMALL), "ibq", path)
    return path


@pytest.fixture(scope="module")
def out(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    recipe = recipes.load(
        str(light_recipe(folder / "light.toml")),
        ["engine.executor=inline", f"tokens.tokenizer={tokenizer}", "tokens.area=4096", "tokens.fps=2"],
    )
    curate([write_dump(folder / "dump", videos=2)], folder / "out", recipe, CurateOptions(), Console(quiet=True))
    return folder / "out"


def test_pictures_are_images_and_clips_their_frames(out, tokenizer):
    index = ShardIndex(out)
    vocab = index.footer.vocab
    assert (vocab.codes, vocab.layout) == (96, EMU3_5)
    found = [documents.parse(vocab, tokens) for tokens in index.read(range(len(index)))]
    by_kind = {kind: [d for d in found if d.kind == kind] for kind in ("text", "image", "interleaved", "video")}
    assert (len(by_kind["text"]), len(by_kind["image"]), len(by_kind["video"])) == (2, 3, 0)
    assert len(by_kind["interleaved"]) == 4  # two scenes of each of two videos
    for document in by_kind["interleaved"]:
        grids = {(block.header.h, block.header.w) for block in document.blocks}
        assert len(document.blocks) >= 4
        assert len(grids) == 1
        assert "".join(document.texts)
    assert {document.grid for document in by_kind["image"]} == {(1, 4, 4)}
    assert verify(RunFolder(out)).problems == []


def test_a_model_trains_on_them(out, tmp_path):
    config = TrainConfig(
        model=ModelConfig(hidden=32, layers=1, heads=2, kv_heads=1, mlp=48, dropout=0.0, attention_dropout=0.0),
        data=DataConfig(context=320, batch_rows=1, heldout=0.0, caption_drop=0.5, lessons=1),
        steps=6, precision="float32", device="cpu",
    )  # fmt: skip
    lines = []
    train(config, [out], tmp_path / "run", log_fn=lines.append)
    assert any("step" in line for line in lines)


def test_imported_clips_are_frames_too(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        '{"text": "a cat", "codes": [[0, 1], [2, 3]]}\n'
        '{"text": "it runs", "codes": [[[0, 1]], [[2, 3]], [[4, 5]]], "fps": 2, "caption_after": true}\n'
    )
    vocab = Vocabulary("bytes", 96, EMU3_5)
    folder = import_tokens(tmp_path / "rows.jsonl", tmp_path / "out", vocab, "ab" * 32, "theirs", lambda _: None)
    cat, clip = (documents.parse(vocab, tokens) for tokens in ShardIndex(tmp_path / "out").read([0, 1]))
    assert (cat.kind, cat.codes.tolist()) == ("image", [[[0, 1], [2, 3]]])
    assert [clip.block_codes(block).tolist() for block in clip.blocks] == [[[[0, 1]]], [[[2, 3]]], [[[4, 5]]]]
    assert clip.texts == ("", "", "", "it runs")
    assert verify(folder).problems == []


def test_the_command_takes_a_layout_with_codes_of_others(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a cat", "codes": [[0, 1], [2, 3]]}\n')
    whose = ["--codes", "96", "--fingerprint", "ab" * 32, "--text", "bytes"]
    command = ["tokens", "import", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out"), *whose]
    CliRunner().invoke(app, [*command, "--layout", "emu3.5"], catch_exceptions=False)
    assert ShardIndex(tmp_path / "out").footer.vocab == Vocabulary("bytes", 96, EMU3_5)
    with pytest.raises(ConfigError, match="layout 'emu4' goes with --codes"):
        CliRunner().invoke(app, [*command, "--layout", "emu4"], catch_exceptions=False)
