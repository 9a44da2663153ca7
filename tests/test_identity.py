"""What a recipe's identity is: fingerprints that stay, fields that may change, runs of earlier recipes that go on."""

import json
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from reelmill.config import differences, from_dict, identity, override, to_dict
from reelmill.curation.scoring import score_fingerprint
from reelmill.errors import ConfigError
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.tokens import tokens_fingerprint
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.train import recipes as train_recipes
from reelmill.train.checkpoint import TrainState, check_same_run
from reelmill.train.config import TrainConfig
from reelmill.train.vision import recipes as vision_recipes
from reelmill.train.vision.config import TokenizerRecipe

DATA = Path(__file__).with_name("data")

CHAT_FREE = {"api_key_env", "backoff_s", "concurrency", "connect_s", "max_response_bytes", "request_s", "tries", "url"}
CURATE_FREE = {
    "engine": {"executor", "gpus_per_worker", "workers"},
    "score.isolation": {"confine", "item_s", "memory_mb", "stall_s"},
    "score.keyframes": {"keep"},
    "captions": {"batch", "wait"},
    "captions.endpoint": CHAT_FREE,
    "annotations": {"batch"},
    "annotations.text": CHAT_FREE,
    "annotations.vision": CHAT_FREE,
    "judging": {"batch"},
    "judging.text": CHAT_FREE,
    "judging.vision": CHAT_FREE,
    "captions.vllm": {"gpu_memory", "gpus", "max_model_len", "workers"},
    "captions.checkpoint": {"gpus", "rows", "tokenizer", "workers"},
    "captions.checkpoint.pictures": {"least", "most"},
    "tokens": {"batch", "compile", "device", "trust_dump"},
    "fetch": {
        "allow_private", "backoff_s", "check_digest", "command", "command_hosts", "command_jobs", "command_s",
        "connect_s", "enabled", "first_byte_s", "host_rate", "max_mb", "max_wait_s", "min_side", "opt_outs", "per_host",
        "redirects", "robots", "total", "total_s", "tries", "user_agent",
    },
    "transcripts": {"batch_s", "wait"},
    "transcripts.whisper": {"batch", "gpus", "workers"},
    "transcripts.endpoint": {"api_key_env", "backoff_s", "max_response_bytes", "request_s", "tries", "url"},
}  # fmt: skip
TRAIN_FREE = {
    "": {"device", "sample_prompts", "validate_every", "validate_rows"},
    "checkpoint": {"every", "keep", "keep_every"},
    "data": {"micro_rows"},
    "log": {"tensorboard", "wandb"},
    "parallel": {"attention", "compile", "context", "loss", "recompute", "shard", "tensor", "timeout_s"},
    # These change what comes after they are turned on; a checkpoint has what they have left out.
    "spikes": {"action", "most", "sigmas", "window"},
}
VISION_FREE = {
    "": {"device", "log_every", "steps"},
    "checkpoint": {"every", "keep", "keep_every"},
    "data": {"cache_gb", "workers"},
    "log": {"tensorboard", "wandb"},
}


@pytest.mark.parametrize(
    ("name", "assignments", "score", "tokens"),
    [
        ("video", [], "bbe7da755e4ec1c5", "77ec19fae7f9b7cd01c2c1de26edce9a1c7732f989f1b252c1af89fb0c35dfab"),
        ("sample", [], "f8c10a2c57ba66b5", "c293eff1d70502bffb14b14115431796ff75d1e20bf752139fb6dd2bca35be03"),
        ("video", ['score.scorers.motion_raft.pairs="all"', "tokens.fps=12.0"], "8e72135e775ead4a", None),
        ("video", ["score.isolation.stall_s=5.0", "engine.workers=3"], "bbe7da755e4ec1c5", None),
    ],
)
def test_fingerprints_stay(name, assignments, score, tokens):
    """Another one makes every run folder be scored or tokenized again: a change of pixels, cuts or scores states it."""
    recipe = recipes.load(name, assignments)
    assert score_fingerprint(recipe.score) == score
    if tokens:
        assert tokens_fingerprint(recipe.tokens, "0" * 64) == tokens


@pytest.mark.parametrize(
    ("recipe", "free"),
    [
        # Fields that have no value unless one is given are given one: they would stand in no dictionary.
        (recipes.load("video", ["engine.gpus_per_worker=0"]), CURATE_FREE),
        (override(train_recipes.RECIPES["tiny"](), ["parallel.compile=true"]), TRAIN_FREE),
        (vision_recipes.RECIPES["reelmill-tok-s"](), VISION_FREE),
    ],
    ids=["curate", "train", "tokenizer"],
)
def test_only_these_fields_change_no_result(recipe, free):
    left_out = {line.partition(": ")[0] for line in differences(to_dict(recipe), identity(recipe))}
    assert left_out == {f"{table}.{key}".strip(".") for table, keys in free.items() for key in keys}


def test_a_run_folder_of_an_earlier_recipe_goes_on(tmp_path):
    dump, out, console = tmp_path / "dump", tmp_path / "out", Console(quiet=True)
    dump.mkdir()
    (dump / "broken.jpg").write_bytes(b"no picture")  # the cheapest item that there is
    out.mkdir()
    (out / "recipe.toml").write_bytes((DATA / "curate-video.toml").read_bytes())
    elsewhere = ['captions.endpoint.url="http://127.0.0.1:9/v1"', 'engine.executor="inline"', "captions.wait=false"]
    earlier = str(DATA / "curate-video.toml")
    curate([dump], out, recipes.load(earlier, elsewhere), CurateOptions(), console)
    with pytest.raises(ConfigError, match=r"captions\.endpoint\.model:  -> m\nAdd --update"):
        curate(
            [dump], out, recipes.load(earlier, [*elsewhere, 'captions.endpoint.model="m"']), CurateOptions(), console
        )


def test_a_checkpoint_of_an_earlier_recipe_goes_on():
    old = json.loads((DATA / "train-tiny.json").read_text())
    del old["checkpoint"], old["parallel"]["compile"]
    state = TrainState(
        step=1, recipe={**old, "checkpoint_every": 7}, vocabulary="{}", tokenizer="t", data="d", version="0.1.0"
    )
    recipe = train_recipes.RECIPES["tiny"]()
    elsewhere = override(recipe, ["parallel.tensor=2", "log.wandb=x", "checkpoint.keep=1"])
    check_same_run(state, elsewhere, TrainConfig(), "d", Path("c"))
    with pytest.raises(ConfigError, match=r"changed since: parallel\.float8: False -> True\. Go on"):
        check_same_run(state, override(recipe, ["parallel.float8=true"]), TrainConfig(), "d", Path("c"))
    with pytest.raises(ConfigError, match="the training data"):
        check_same_run(state, recipe, TrainConfig(), "other", Path("c"))


def test_earlier_recipes_are_still_recipes():
    """`from_dict` refuses a key that is gone; what is read from a file equals what the recipe's function gives."""
    old = json.loads((DATA / "vision-tokenizer.json").read_text())
    made = vision_recipes.RECIPES["reelmill-tok-s"]()
    assert not differences(identity(from_dict(TokenizerRecipe, old)), identity(made))
    read = from_dict(Recipe, tomllib.loads((DATA / "curate-video.toml").read_text()))
    added = (
        "rules.frames.",
        "rules.damage.",
        "rules.gaps.",
        "rules.impossible_colours.",
        *(f"rules.{name}." for name in ("blur", "noise", "blockiness", "combing")),
        "rules.frozen.",
        "duplicates.",
        "score.scorers",
        "score.scenes.detector",
    )
    changed = [line for line in differences(read, recipes.video()) if not line.startswith(added)]
    assert changed == ["engine.gpus_per_worker: 0.0 -> (none)", "score.decode.max_pixels: 35389440 -> (none)"]
