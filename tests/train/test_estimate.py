"""What a dry run says, against what a run does and what the papers' models need."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from reelmill.errors import ConfigError
from reelmill.pipelines.cli import app
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.dryrun import Machine, check_fits, estimate, memory_by_part
from reelmill.train.estimate import flops_per_token, matmul_parameters
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.optimizer import OptimizerConfig, make_optimizer
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder
from reelmill.train.recipes import recipe
from reelmill.train.run import train

TOY = ModelConfig(
    vocab_size=20_000, hidden=128, layers=6, heads=4, kv_heads=2, mlp=448, dropout=0.0, attention_dropout=0.0
)


@pytest.mark.parametrize(("document", "gigaflops"), [(5120, 50.4), (131_072, 149.5), (4500, 50.0)])
def test_flops_of_emu3_by_hand(document, gigaflops):
    assert flops_per_token(recipe("emu3_stage1").model, document) / 1e9 == pytest.approx(gigaflops, abs=0.05)


def addmm_flops(into, one, other, **_):
    return 2 * one[0] * one[1] * other[1]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_products_are_those_that_a_step_counts(qk_norm):
    config = replace(TOY, vocab_size=300, head_dim=48, qk_norm=qk_norm)
    model, tokens = Decoder(config), torch.randint(0, 300, (2, 40))
    # The counter knows addmm, but not in place.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_flops}) as counter:
        hidden = model(tokens, torch.arange(40).expand(2, 40))
        model.lm_head.loss(hidden, tokens, torch.ones(2, 40))[0].backward()
    counted = counter.get_flop_counts()["Global"]
    products = sum(flops for op, flops in counted.items() if "mm" in str(op))
    assert products == 6 * matmul_parameters(config) * tokens.numel()


def allocations(profiler):
    """Bytes of each allocation and, negative, of each release, in order."""
    return [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_the_estimated_peak_is_that_of_a_step(recompute):
    config = TrainConfig(
        model=TOY,
        data=DataConfig(context=512, batch_rows=1),
        parallel=ParallelConfig(recompute=recompute, attention="documents"),
        precision="float32",
    )
    with join_ranks("cpu") as ranks:
        layout = Layout.of(config.parallel, TOY, 512, ranks)
        model = sharded_decoder(TOY, layout, "float32", seed=0).train()
        optimizer = make_optimizer(model, OptimizerConfig())

        def step(tokens):
            positions = torch.arange(512)[None]
            for _ in range(2):  # gradients of earlier micro-batches are there while the last one runs
                total, *_ = model.lm_head.loss(model(tokens, positions), tokens, torch.ones(1, 512))
                total.backward()
            optimizer.step()
            optimizer.zero_grad()

        tokens = torch.randint(0, 20_000, (1, 512))
        step(tokens)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            step(tokens)
    held = largest = 0
    for size in allocations(profiler):
        held += size
        largest = max(largest, held)
    parts = memory_by_part(config, shard=1, rows=512)
    owned = sum(4 * parameter.numel() for parameter in model.parameters())
    assert parts["weights"] == parts["gradients"] == parts["AdamW"] // 2 == owned
    assert sum(parts.values()) == pytest.approx(largest + 3 * owned, rel=0.15)


def test_what_is_kept_for_backward_falls_with_recomputing():
    kept = []
    for mode in ("none", "selective", "full"):
        config = replace(recipe("1b"), parallel=ParallelConfig(recompute=mode))
        (size,) = [size for name, size in memory_by_part(config, 8).items() if name.startswith("activations")]
        kept.append(size)
    model, data = config.model, config.data
    assert kept[0] > 2 * kept[1] > 4 * kept[2]
    inputs = model.layers * data.micro_rows * data.context * model.hidden * 2
    assert kept[2] == pytest.approx(inputs, rel=1e-3)


def test_ranks_share_what_they_say():
    config = recipe("1b")
    alone, eight = memory_by_part(config, 1), memory_by_part(config, 8)
    assert alone["AdamW"] == pytest.approx(8 * eight["AdamW"], rel=1e-6)
    tensor = memory_by_part(replace(config, parallel=ParallelConfig(tensor=4)), 1)
    context = memory_by_part(replace(config, parallel=ParallelConfig(context=4)), 1)
    for name in alone:
        assert tensor[name] <= alone[name]
        assert context[name] <= alone[name]
    assert tensor["weights"] == context["weights"] == alone["weights"] // 4


@pytest.mark.parametrize("objective", ["dida", "diagonal"])
def test_copies_of_pictures_are_counted(objective):
    """As if each row were twice as long: that is what a row of nothing but pictures is computed as."""
    model = replace(TOY, vertical_layers=int(objective == "diagonal"))
    config = TrainConfig(model=model, data=DataConfig(context=512, batch_rows=8), objective=objective)
    machine = Machine(gpus=1)
    found = estimate(config, machine, document=100)
    long = replace(config, objective="next_token", data=replace(config.data, context=1024))
    longer = estimate(long, machine, document=100)
    assert (found.tokens_per_step, found.computed_per_step) == (8 * 512, 8 * 1024)
    assert longer.computed_per_step == longer.tokens_per_step == found.computed_per_step
    assert (found.memory, found.seconds) == (longer.memory, longer.seconds)
    assert found.flops_per_token == 2 * longer.flops_per_token
    assert found.tokens_per_day == pytest.approx(longer.tokens_per_day / 2)


def test_the_second_head_is_counted():
    with_head, deeper = replace(TOY, vertical_layers=2), replace(TOY, layers=TOY.layers + 2)
    assert matmul_parameters(with_head) == matmul_parameters(deeper)
    assert flops_per_token(with_head, 100) == flops_per_token(deeper, 100)


def test_what_cannot_fit_is_refused_with_its_parts_and_a_way_out():
    config = replace(recipe("emu3_stage1"), data=replace(recipe("emu3_stage1").data, micro_rows=2))
    found = estimate(config, Machine(gpus=1, memory=80))
    assert not found.fits
    with pytest.raises(ConfigError, match=r"GiB a GPU, on 1 GPUs of 80 GiB.*AdamW 63\.\d.*more GPUs.*data.micro_rows"):
        check_fits(found, config)
    fitting = estimate(recipe("1b"), Machine())
    assert fitting.fits
    check_fits(fitting, recipe("1b"))


def test_batches_and_layouts_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match=r"batch_rows 256 is no multiple of data.micro_rows 4 times the 7 ranks"):
        estimate(recipe("1b"), Machine(gpus=7))
    with pytest.raises(ConfigError, match="9 ranks are no multiple"):
        estimate(recipe("emu3_stage2"), Machine(gpus=9))


@pytest.mark.parametrize(("name", "key"), [("diagonal", "context"), ("diagonal", "tensor"), ("dida", "context")])
def test_what_an_objective_cannot_share_is_refused_before_the_data_are_read(name, key, tmp_path):
    config = replace(recipe(name), parallel=ParallelConfig(**{key: 2}))
    message = rf"parallel\.{key} is 2; the objective {name} needs whole rows"
    with pytest.raises(ConfigError, match=message):
        estimate(config, Machine())
    with pytest.raises(ConfigError, match=message):
        train(config, [tmp_path / "nothing"], tmp_path / "run")


def reelmill(*words):
    return CliRunner().invoke(app, ["train", *words], catch_exceptions=False)


def test_the_command_prints_json_without_data_and_refuses_what_cannot_fit():
    done = reelmill("emu3_5_stage1", "--dry-run", "--json", "--gpus", "64", "--document", "4000")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["parameters"] == 34_103_460_864
    assert found["layout"] == {"dp_replicate": 1, "dp_shard": 4, "context": 2, "tensor": 8}
    assert found["memory_total"] == sum(found["memory"].values()) <= found["memory_gpu"]
    assert found["fits"]
    flops = 64 * found["peak_flops"] * found["mfu"]
    assert found["tokens_per_day"] == pytest.approx(86_400 * flops / found["flops_per_token"])
    assert found["days"] == pytest.approx(found["tokens_in_all"] / found["tokens_per_day"])
    with pytest.raises(ConfigError, match="this needs"):
        reelmill("emu3_stage1", "--dry-run", "--gpus", "1")


@pytest.mark.parametrize(
    ("name", "set_", "gpus"),
    [
        ("tiny", ("model.vocab_size=5000",), 1),  # one row a step: eight GPUs cannot share it
        ("1b", (), 8),
        ("emu3_5_stage1", (), 16),
    ],
)
def test_the_number_of_gpus_is_one_that_holds_the_recipe(name, set_, gpus):
    done = reelmill(name, "--dry-run", "--json", *(word for value in set_ for word in ("--set", value)))
    found = json.loads(done.stdout)
    assert (found["gpus"], found["fits"], done.exit_code) == (gpus, True, 0)


def test_a_recipe_that_takes_the_data_s_vocabulary_wants_it(run_folder):
    with pytest.raises(ConfigError, match=r"model.vocab_size is 0"):
        reelmill("tiny", "--dry-run")
    done = reelmill("tiny", "--dry-run", "--gpus", "1", "--data", str(run_folder))
    assert "471,648" in done.stdout, "bytes and 64 codes"
