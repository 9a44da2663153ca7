"""The loss by Triton kernels: in Triton's interpreter on a CPU, natively where there is a GPU.

Two ranks that share the vocabulary are in `test_parallel.py`.
"""

import os
import subprocess
import sys

import pytest
import torch
from rounding import assert_near, rounding
from torch.nn import functional

from reelmill.errors import ConfigError
from reelmill.train.fused_loss import Tiles, fused_cross_entropy
from reelmill.train.loss import chunked_cross_entropy
from reelmill.train.model import ModelConfig
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is made for Linux alone")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TILES = Tiles(16, 64, 32)
"""Small ones, so that a small problem has many."""


def problem(tokens=37, width=24, size=611, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator).to(DEVICE, dtype).requires_grad_()
    weight = torch.randn(size, width, generator=generator).to(DEVICE, dtype).requires_grad_()
    targets = torch.randint(0, size, (tokens,), generator=generator).to(DEVICE)
    token_weights = torch.tensor([0.0, 0.5, 1.0])[torch.randint(0, 3, (tokens,), generator=generator)].to(DEVICE)
    return hidden, weight, targets, token_weights


def loss_and_gradients(loss, hidden, weight, targets, token_weights, **options):
    total, nll, log_z = loss(hidden, weight, targets, token_weights, **options)
    return total, nll, log_z, *torch.autograd.grad(total / token_weights.sum(), (hidden, weight))


def fused(*inputs, tiles=TILES, **options):
    return loss_and_gradients(fused_cross_entropy, *inputs, forward=tiles, backward=tiles, **options)


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize(
    ("tokens", "width", "size"), [(37, 24, 611), (1, 16, 64), (32, 24, 1200)], ids=["odd", "one token", "large"]
)
def test_equals_the_chunked_loss(tokens, width, size, z_loss):
    """Also where the last tile of tokens, ids or width is not full, and where a part of the vocabulary has many."""
    inputs = problem(tokens, width, size)
    inputs[3][0] = 1.0
    expected = loss_and_gradients(chunked_cross_entropy, *inputs, z_loss=z_loss)
    for one, other in zip(fused(*inputs, z_loss=z_loss), expected, strict=True):
        assert_near(one, other, min(1e-5, rounding(torch.float32, width, 2 * size, tokens)))


def test_bfloat16_is_multiplied_and_summed_in_float32():
    hidden, weight, targets, token_weights = problem(dtype=torch.bfloat16)
    wide = [x.detach().float().requires_grad_() for x in (hidden, weight)]
    expected = loss_and_gradients(chunked_cross_entropy, *wide, targets, token_weights, z_loss=1e-2)
    found = fused(hidden, weight, targets, token_weights, z_loss=1e-2)
    for one, other in zip(found[:3], expected[:3], strict=True):
        assert one.dtype == torch.float32
        assert_near(one, other, 1e-5)
    for one, other in zip(found[3:], expected[3:], strict=True):
        assert one.dtype == torch.bfloat16
        # On a GPU what is multiplied in backward is rounded too.
        assert_near(one.float(), other, torch.finfo(torch.bfloat16).eps * (1 if DEVICE == "cpu" else 4))


@pytest.mark.parametrize("scale", [1e-3, 100.0])
def test_logits_of_any_size(scale):
    hidden, weight, targets, token_weights = problem()
    inputs = (hidden.detach() * scale).requires_grad_(), weight, targets, token_weights
    expected = loss_and_gradients(chunked_cross_entropy, *inputs)
    logit = (inputs[0] @ weight.t()).abs().max().item()
    for one, other in zip(fused(*inputs), expected, strict=True):
        assert one.isfinite().all()
        assert_near(one, other, rounding(torch.float32, 24, 2 * 611, 37) * max(1.0, logit))


def test_tokens_of_weight_zero_are_measured_and_left_out_of_backward():
    """32 tokens that count, in two full blocks, wherever they stand: of the others backward does not even read."""
    hidden, weight, targets, _ = problem(tokens=80)
    kept = torch.randperm(80, generator=torch.Generator().manual_seed(1))[:32].to(DEVICE)
    token_weights = torch.zeros(80, device=DEVICE).index_fill_(0, kept, 0.5)
    total, nll, _ = fused_cross_entropy(hidden, weight, targets, token_weights, backward=TILES, forward=TILES)
    assert_near(nll, functional.cross_entropy(hidden @ weight.t(), targets, reduction="none"), 1e-5)
    others = torch.ones(80, dtype=torch.bool, device=DEVICE).index_fill_(0, kept, False)
    with torch.no_grad():
        hidden.data[others] = float("nan")  # behind autograd's back: in a block with others they would spoil the sums
    total.backward()
    assert (hidden.grad[others] == 0).all()
    few = hidden.detach()[kept].requires_grad_()
    alone = chunked_cross_entropy(few, weight, targets[kept], token_weights[kept])[0]
    for one, other in zip((hidden.grad[kept], weight.grad), torch.autograd.grad(alone, (few, weight)), strict=True):
        assert_near(one, other, 1e-5)


def test_no_logits_are_ever_in_memory():
    hidden, weight, targets, token_weights = problem(tokens=256, width=16, size=3000)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        fused_cross_entropy(hidden, weight, targets, token_weights)[0].backward()
    sizes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = largest = 0
    for size in sizes:
        held += size
        largest = max(largest, held)
    gradients, logits = 4 * (weight.numel() + hidden.numel()), 4 * 256 * 3000
    assert gradients <= largest < gradients + 0.05 * logits


def test_without_gradients_it_only_measures_and_backward_can_be_repeated():
    hidden, weight, targets, token_weights = problem()
    with torch.no_grad():
        total, nll, _ = fused_cross_entropy(hidden, weight, targets, token_weights, forward=TILES)
    assert not total.requires_grad and not nll.requires_grad
    total, *_ = fused_cross_entropy(hidden, weight, targets, token_weights)
    first = torch.autograd.grad(total, hidden, retain_graph=True)[0]
    assert_near(torch.autograd.grad(total, hidden)[0], first, rounding(torch.float32, 611))


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from reelmill.train import loss_kernels
from reelmill.train.fused_loss import GRADIENTS, GROUP, NORMALIZERS

half, wide, ids, number = "*bf16", "*fp32", "*i64", "i32"
for kernel, tiles, types, more in (
    (loss_kernels.normalizers, NORMALIZERS, [half, half, ids, wide, wide, *[number] * 4], {}),
    (loss_kernels.gradients, GRADIENTS, [half, half, ids, ids, *[wide] * 4, "fp32", *[number] * 3], {"GROUP": GROUP}),
):
    fixed = {"ROWS": tiles.rows, "COLUMNS": tiles.columns, "DEPTH": tiles.depth, "WIDEN": False, **more}
    names = kernel.arg_names
    signature = dict(zip(names, [*types, *["constexpr"] * len(fixed)], strict=True))
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n == "width" or "*" in signature[n]}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in fixed.items()}, aligned)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    built = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(kernel.__name__, built.metadata.shared, built.asm["ptx"].count("wgmma.mma"))
"""


@pytest.mark.slow
def test_the_kernels_compile_for_hopper(tmp_path):
    """The whole way to machine code, which needs no GPU: tensor cores are used, and the shared memory suffices."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == ["normalizers", "gradients"]
    for _, shared, products in lines:
        assert int(shared) <= 227 * 1024 and int(products) > 0


def test_they_are_refused_where_they_cannot_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    config = ModelConfig(vocab_size=64, hidden=32, layers=1, heads=4, kv_heads=2, mlp=48)
    with join_ranks("cpu") as ranks, pytest.raises(ConfigError, match="need CUDA, and the device is cpu"):
        sharded_decoder(config, Layout.of(ParallelConfig(loss="triton"), config, 64, ranks), "float32", 0)


@pytest.mark.gpu
def test_of_emu3_s_sizes_on_a_gpu():
    inputs = problem(tokens=1000, width=1024, size=184_622, dtype=torch.bfloat16)
    expected = loss_and_gradients(chunked_cross_entropy, *inputs, z_loss=1e-4)
    found = loss_and_gradients(fused_cross_entropy, *inputs, z_loss=1e-4)
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other.float()).norm() < 0.01 * other.float().norm()
