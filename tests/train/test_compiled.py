"""What CUDA runs, run here: FlashAttention's operators by CPU kernels, layers and loss really compiled."""

from functools import partial

import pytest
import torch
from flash_on_cpu import flash_on_cpu
from rounding import assert_near, rounding
from torch._dynamo.utils import counters

from reelmill.errors import ConfigError
from reelmill.train import loss as loss_module
from reelmill.train.attention import Documents, Run, attend
from reelmill.train.loss import chunked_cross_entropy
from reelmill.train.model import ModelConfig
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder

CPU = torch.device("cpu")
SIZES = {"vocab_size": 64, "hidden": 32, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 48, "qk_norm": True}
PACKED = [[10, 20, 34], [64], [1, 2, 3, 58], [30, 30, 4], [5] * 12 + [4]]


@pytest.fixture
def traced(monkeypatch):
    """Graphs are traced and their derivatives taken as for any device; the CPU's kernels run them as they are."""
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch.compiler.reset()


def losses_and_gradients(config, parallel, ranks):
    layout = Layout.of(parallel, config, 64, ranks)
    model = sharded_decoder(config, layout, "float32", 0).train()
    found = []
    for number, lengths in enumerate(PACKED):
        torch.manual_seed(number)
        tokens = torch.randint(0, 64, (1, 64))
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        total, *_ = model.lm_head.loss(model(tokens, positions, lengths), tokens.roll(-1, 1), torch.ones(1, 64))
        total.backward()
        found.append([total.item(), *(parameter.grad.norm().item() for parameter in model.parameters())])
        model.zero_grad()
    return torch.tensor(found)


@pytest.mark.parametrize(
    ("recompute", "dropout"), [("none", 0.2), ("selective", 0.0), ("selective", 0.2), ("full", 0.2)]
)
def test_layers_are_compiled_whole_once_for_batches_of_any_lengths_and_compute_the_same(traced, recompute, dropout):
    config = ModelConfig(**SIZES, dropout=dropout, attention_dropout=dropout)
    ways = [ParallelConfig(compile=compiled, recompute=recompute, attention="varlen") for compiled in (False, True)]
    with join_ranks("cpu") as ranks, flash_on_cpu() as calls:
        plain = losses_and_gradients(config, ways[0], ranks)
        assert not counters["stats"]
        compiled = losses_and_gradients(config, ways[1], ranks)
    # One graph for the first lengths, one for all others; and no layer in which anything was left out of it.
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
    assert set(calls) == {dropout}
    assert_near(compiled, plain, rounding(torch.float32, 3 * 64 * SIZES["layers"]))


def test_compiling_what_cannot_be_is_refused(traced):
    config = ModelConfig(**SIZES)
    parallel = ParallelConfig(compile=True, recompute="full")
    with join_ranks("cpu") as ranks, pytest.raises(ConfigError, match="attention here is `documents`"):
        sharded_decoder(config, Layout.of(parallel, config, 64, ranks), "float32", 0)


def test_dropout_of_the_kernel_has_its_gradient():
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 9, heads, 4) for heads in (4, 2, 2)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    documents = Documents.packed([2, 6, 1], CPU, "varlen").prepare()

    def attended(*tensors):
        torch.manual_seed(3)
        return attend(*tensors, documents, 0.3)

    with flash_on_cpu():
        assert torch.autograd.gradcheck(attended, inputs, check_undefined_grad=False)
        assert not torch.allclose(attended(*inputs), attend(*inputs, documents))


def test_queries_of_a_part_of_a_row_see_the_keys_of_all():
    """Context parallelism: two chunks of a row of three documents, with gradients to all keys."""
    runs = [Run.part(2, 0, 3), Run.part(1, 3, 8), Run.part(3, 8, 11)]
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 6, 4, 8), (1, 11, 2, 8), (1, 11, 2, 8)]
    found = []
    for backend in ("documents", "varlen"):
        inputs = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
        generator.manual_seed(0)
        with flash_on_cpu():
            out = attend(*inputs, Documents(runs, 11, CPU, backend, gather=lambda kept: kept).prepare())
            out.square().sum().backward()
        found.append([out, *(x.grad for x in inputs)])
        generator.manual_seed(0)
    for one, other in zip(*found, strict=True):
        assert_near(one, other, rounding(torch.float32, 8, 4 * 11))


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_the_compiled_loss_is_the_loss(traced, monkeypatch, z_loss):
    """The GPU's two kernels in the place of the CPU's, for chunks of 8 and a last one of 5 tokens."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(shape, generator=generator).requires_grad_() for shape in ((37, 24), (611, 24)))
    targets, weights = torch.randint(0, 611, (37,), generator=generator), torch.rand(37, generator=generator)
    found = []
    for names in ((), ("_normalize_in_place", "_gradient_in_place")):
        for name, kernel in zip(names, loss_module._fused.__wrapped__(), strict=False):
            monkeypatch.setattr(loss_module, name, kernel)
        total, nll, log_z = chunked_cross_entropy(hidden, weight, targets, weights, z_loss=z_loss, rows=8)
        found.append([total, nll, log_z, *torch.autograd.grad(total, (hidden, weight))])
    assert counters["stats"]["unique_graphs"] == 4  # of each kernel one for 8 rows, one for any number
    assert not counters["graph_break"]
    for one, other in zip(*found, strict=True):
        assert_near(one, other, rounding(torch.float32, 24, 2 * 611, 37))
