"""A captioner of one's own, closed: captions to pairs, pairs to conversations, a model tuned on them, its captions."""

import io

import duckdb
import pytest
from dumps import light_recipe, write_dump
from rich.console import Console

from reelmill.config import override
from reelmill.curation.pictures import PixelBounds
from reelmill.errors import DataError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.caption_export import export_pairs
from reelmill.pipelines.curate.captions import run_captions
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.imports.chat import ChatImport, import_chats
from reelmill.pipelines.ledger.verify import verify
from reelmill.tokenize import vision
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.recipes import recipe
from reelmill.train.run import train

pytestmark = pytest.mark.slow
PIXELS = PixelBounds(24 * 24, 24 * 24)
TUNING = [
    "init=", "model.vocab_size=0", "model.hidden=48", "model.layers=2", "model.heads=2", "model.kv_heads=1",
    "model.mlp=64", "model.dropout=0.0", "model.attention_dropout=0.0", "model.init_std=0.1", "model.qk_norm=true",
    "data.context=400", "data.batch_rows=2", "data.heldout=0.0", "optimizer.lr=1e-2", "optimizer.warmup_steps=4",
    "parallel.context=1", "parallel.recompute=none", "steps=120", "precision=float32", "device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose captions came from sidecars, and a captioner tuned on them."""
    made = tmp_path_factory.mktemp("captioner")
    (made / "prompts.toml").write_text('[en]\nimage = "What?"\ncontent = "What?"\nmotion = "Moves?"\n')
    write_dump(made / "dump", videos=1)
    light_recipe(made / "light.toml")
    settings = ["engine.executor=inline", f"captions.prompts={made / 'prompts.toml'}", "captions.frames.short_side=32"]
    loaded = recipes.load(str(made / "light.toml"), [*settings, "captions.frames.frames=4"])
    curate([made / "dump"], made / "out", loaded, CurateOptions(), Console(file=io.StringIO()))
    assert export_pairs(made / "out", made / "pairs.jsonl", "default", ["sidecar"], 4)[1] == 0
    tokenizer = vision.load("reelmill-tok-xs")
    how = ChatImport(made, tokenizer, "reelmill-tok-xs", Vocabulary("bytes", tokenizer.codes), PIXELS)
    import_chats(made / "pairs.jsonl", made / "chats", how, lambda _: None)
    train(override(recipe("captioner"), TUNING), [made / "chats"], made / "run", log_fn=lambda _: None)
    return made


def captioned(folder, *settings):
    own = [
        f"captions.checkpoint.model={folder / 'run'}",
        f"captions.checkpoint.pictures.least={PIXELS.least}",
        f"captions.checkpoint.pictures.most={PIXELS.most}",
        "captions.max_tokens=60",
        *settings,
    ]
    run_captions(folder / "out", "default", "checkpoint", own, False, Console(file=io.StringIO()))


def test_the_caption_stage_runs_the_model_that_was_tuned_on_its_pairs(folder):
    captioned(folder)
    pattern = f"{folder}/out/captions/*.parquet"
    query = f"SELECT caption_source, model, caption, parts FROM read_parquet('{pattern}') WHERE model IS NOT NULL"
    rows = duckdb.sql(query).fetchall()
    kept = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{folder}/out/captions/*.parquet') WHERE caption_source = 'sidecar'"
    ).fetchall()[0][0]
    assert len(rows) == kept > 2
    assert {row[:2] for row in rows} == {("checkpoint", str(folder / "run"))}
    said = {caption for _, _, caption, _ in rows}
    assert said & {"texture 0 drifts", "a picture in a tar"}, said
    assert verify(RunFolder(folder / "out")).problems == []
    captioned(folder)
    assert len(duckdb.sql(query).fetchall()) == kept, "what has a row is done"


def test_a_folder_without_a_checkpoint_says_so(folder):
    with pytest.raises(DataError, match="dump is no model"):
        captioned(folder, f"captions.checkpoint.model={folder / 'dump'}")
