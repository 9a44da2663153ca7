"""The shipped training recipes: their published sizes and numbers, and that they are files too."""

import tomllib

import pytest

from reelmill.config import differences, from_dict, to_toml
from reelmill.errors import ConfigError
from reelmill.train.config import TrainConfig
from reelmill.train.model import ModelConfig, count_parameters
from reelmill.train.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_toml(name):
    config = recipe(name)
    assert from_dict(TrainConfig, tomllib.loads(to_toml(config))) == config


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("small", 154_379_136),
        ("1b", 1_064_234_496),
        ("emu3_stage1", 8_492_011_520),
        ("emu3_stage2", 8_492_011_520),
        ("emu3_sft", 8_492_011_520),
        ("emu3_5_stage1", 34_103_460_864),
        ("emu3_5_stage2", 34_103_460_864),
        ("emu3_5_sft1", 34_103_460_864),
        ("emu3_5_sft2", 34_103_460_864),
    ],
)
def test_models_have_their_sizes(name, parameters):
    assert count_parameters(recipe(name).model) == parameters


def test_emu3_s_stages_have_the_disclosed_numbers():
    first, second = recipe("emu3_stage1"), recipe("emu3_stage2")
    for config, context, kinds in ((first, 5120, {"text", "image"}), (second, 131_072, {"text", "image", "video"})):
        assert (config.data.context, config.data.vision_weight, config.data.text_weight) == (context, 0.5, 1.0)
        assert kinds <= set(config.data.kinds)
        assert ("video" in config.data.kinds) == ("video" in kinds)
        assert (config.optimizer.lr, config.optimizer.rate(config.steps, config.steps)) == (5e-5, 0.0)
        assert (config.model.dropout, config.model.attention_dropout, config.model.rope_theta) == (0.1, 0.1, 1e6)
    assert first.init == ""
    assert second.init == "runs/emu3_stage1"


def test_emu3_s_fine_tuning_has_the_numbers_of_its_script():
    config = recipe("emu3_sft")
    rate = config.optimizer
    assert rate.rate(29, config.steps) == pytest.approx(1e-5)
    assert rate.rate(config.steps, config.steps) == pytest.approx(1e-6)
    assert (rate.beta1, rate.beta2, rate.eps, rate.weight_decay, rate.grad_clip) == (0.9, 0.95, 1e-6, 0.1, 5.0)
    assert config.data.context == 10_240
    assert (config.data.text_weight, config.data.structure_weight) == (0.0, 0.0)
    assert config.data.vision_weight > 0
    assert config.data.caption_drop == 0.05


def test_emu3_5_has_its_attention():
    model = recipe("emu3_5_stage1").model
    assert (model.heads * model.head_size, model.hidden, model.qk_norm) == (8192, 5120, True)
    assert model.vocab_size == 282_926


def test_scaled_siblings_are_the_same_module_with_other_sizes():
    sizes = {"vocab_size", "hidden", "layers", "heads", "kv_heads", "head_dim", "mlp", "dropout", "attention_dropout"}
    for name in ("small", "1b"):
        changed = {line.partition(":")[0] for line in differences(ModelConfig(), recipe(name).model)}
        assert changed <= sizes


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        recipe("tinny")


@pytest.mark.parametrize(
    ("name", "init", "lr", "warm_up", "steps", "context", "rows", "vision", "ranks", "tokens"),
    [
        ("emu3_5_stage1", "Qwen3-32B", 5e-4, 700, 700_000, 32_768, 448, 0.5, (8, 2), 10.3e12),
        ("emu3_5_stage2", "runs/emu3_5_stage1", 1e-5, 700, 240_000, 32_768, 448, 0.5, (8, 2), 3.5e12),
        ("emu3_5_sft1", "runs/emu3_5_stage2", 6e-6, 100, 3_000, 16_384, 1024, 1.0, (8, 1), 50e9),
        ("emu3_5_sft2", "runs/emu3_5_sft1", 6e-6, 100, 3_000, 32_768, 1024, 0.5, (8, 2), 101e9),
    ],
)
def test_emu3_5_s_stages_have_the_disclosed_numbers(
    name, init, lr, warm_up, steps, context, rows, vision, ranks, tokens
):
    config = recipe(name)
    data, rate = config.data, config.optimizer
    assert (config.init, config.steps, data.context, data.batch_rows) == (init, steps, context, rows)
    assert (data.vision_weight, data.text_weight) == (vision, 1.0)
    assert (rate.lr, rate.warmup_steps, rate.rate(steps, steps)) == (lr, warm_up, 0.0)
    assert (rate.beta1, rate.beta2, rate.eps, rate.weight_decay, rate.grad_clip) == (0.9, 0.95, 1e-8, 0.1, 5.0)
    assert (config.parallel.tensor, config.parallel.context) == ranks
    assert steps * context * rows == pytest.approx(tokens, rel=0.02)
