"""The predicted step, part by part, against sums by hand."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from reelmill.config import override
from reelmill.pipelines.cli import app
from reelmill.train.dryrun import Machine, estimate
from reelmill.train.recipes import recipe
from reelmill.train.roofline import BOUNDS, SHARES, Rates, between_products, step_parts

EMU3 = override(recipe("emu3_stage1"), ["model.vocab_size=184622", "data.batch_rows=64"])
RATES = Rates()
TOKENS = 5120


def parts(config, gpus=8, rates=RATES):
    return step_parts(config, gpus, TOKENS, rates)


def test_products_attention_and_loss_by_hand():
    found = parts(EMU3)
    rows = 64 // 8  # micro-batches of each GPU
    layer = 4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 14336
    assert found["products"] == pytest.approx(rows * TOKENS * 6 * 32 * layer / (989e12 * SHARES["products"]))
    assert found["attention"] == pytest.approx(rows * TOKENS * 6 * 32 * 4096 * 5120 / (989e12 * SHARES["attention"]))
    head = 6 * 184_622 * 4096 * TOKENS / (989e12 * SHARES["products"])
    assert rows * head < found["loss"] < 1.5 * rows * head
    assert found["optimizer"] == pytest.approx(28 * 8_492_011_520 / 8 / (3.35e12 * SHARES["memory"]))
    assert not found["gradients of copies"] and not found["tensor and context ranks"]


def test_the_loss_without_logits_costs_a_product_more_and_is_bound_by_the_cache():
    seconds = parts(override(EMU3, ['parallel.loss="triton"']))["loss"]
    product = 64 // 8 * TOKENS * 2 * 184_622 * 4096
    assert seconds == pytest.approx(product / (989e12 * SHARES["products"]) + 3 * product / (64 * RATES.cache))
    assert seconds > parts(EMU3)["loss"]


def test_operators_move_four_times_what_a_compiled_layer_moves():
    """12.3 GB at Emu3's sizes, operator by operator; compiled every value once between two products."""
    plain = between_products(override(EMU3, ["parallel.compile=false"]), TOKENS)
    assert plain == pytest.approx(12.3e9, rel=0.02)
    compiled = between_products(EMU3, TOKENS)
    assert compiled == 3 * TOKENS * 2 * (9 * 4096 + 2 * (32 + 16) * 128 + 3 * 14336)
    assert 4 < plain / compiled < 5
    in_float32 = replace(EMU3, precision="float32", model=replace(EMU3.model, attention_dropout=0.1))
    assert between_products(in_float32, TOKENS) > plain  # not compiled, and twice as wide


def test_recomputing_costs_its_forward_pass():
    none, selective, full = (
        parts(override(EMU3, [f'parallel.recompute="{kind}"', "model.attention_dropout=0.0"]))
        for kind in ("none", "selective", "full")
    )
    assert full["products"] == pytest.approx(none["products"] * 4 / 3)
    assert full["attention"] == pytest.approx(none["attention"] * 4 / 3)
    assert none["products"] < selective["products"] < full["products"]
    assert selective["attention"] == none["attention"]


def test_across_nodes_each_node_s_copy_is_faster_and_the_dry_run_says_so():
    alone, copies = parts(EMU3, 64), parts(override(EMU3, ["parallel.shard=8"]), 64)
    name = "weights and gradients, not hidden"
    sent = (1 - 1 / 64) * 8_492_011_520 * 8 / (50e9 * SHARES["links"])
    compute = sum(seconds for part, seconds in alone.items() if part not in (name, "optimizer"))
    assert alone[name] == pytest.approx(sent - compute)
    assert not copies[name] and copies["gradients of copies"] > 0
    said = CliRunner().invoke(app, ["train", "emu3_stage1", "--dry-run", "--gpus", "64"], catch_exceptions=False).stdout
    assert "With --set parallel.shard=8 a node has a copy of the weights" in said
    assert "weights and gradients, not hidden, bound by the links' rate" in " ".join(said.split())
    assert "(predicted)" in said
    one_node = CliRunner().invoke(app, ["train", "1b", "--dry-run", "--gpus", "8"], catch_exceptions=False).stdout
    assert "has a copy" not in one_node
    assert "products, bound by FLOP/s" in one_node
    assert BOUNDS.keys() == alone.keys()


def test_a_cpu_s_loss_is_counted_operator_by_operator():
    """512 tokens a chunk, float32: what reads or writes all of a chunk's logits, beside the products."""
    config = override(EMU3, ['precision="float32"', "data.batch_rows=1"])
    rates = Rates(flops=1e11, memory=2e10, shares=dict.fromkeys(SHARES, 1.0), device="cpu")
    found = step_parts(config, 1, TOKENS, rates)
    logits = TOKENS * 184_622 * 4
    moved = (found["loss"] - 6 * TOKENS * 184_622 * 4096 / 1e11) * 2e10
    assert 7 * logits < moved < 7.01 * logits  # three by the log-softmax, two each by the exponential and its scaling
    assert found["products"] == pytest.approx(parts(EMU3)["products"] / 8 * 989e12 * SHARES["products"] / 1e11)


def test_ranks_of_a_layer_talk_within_a_node_where_they_fit():
    within = parts(override(EMU3, ["parallel.tensor=8"]), 64)["tensor and context ranks"]
    across = parts(override(EMU3, ["parallel.tensor=8"]), 64, Rates(node=4))["tensor and context ranks"]
    assert across / within == pytest.approx(450 / 50)


def test_the_prediction_is_the_step_unless_a_share_is_hoped_for():
    found = estimate(EMU3, Machine(gpus=8))
    assert found.mfu == pytest.approx(64 * TOKENS * found.flops_per_token / (8 * 989e12 * sum(found.seconds.values())))
    assert estimate(EMU3, Machine(gpus=8, mfu=0.3)).mfu == 0.3
    assert 0 < found.mfu < min(SHARES["products"], 1)
    assert torch.tensor(list(found.seconds.values())).ge(0).all()
