"""Predicts where the time of a training step goes, from counted FLOPs and bytes and the rates of a machine.

A step is products, attention, what lies between the products, the loss's logits, the optimizer, and what the ranks send
each other beyond what the rest hides. Each part takes its FLOPs or bytes over a rate; those of a GPU are shares of the
data sheet's (`SHARES`), which no run of this package has measured yet. `bench/roofline.py` measures those of a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reelmill.train.attention import Documents, choose_backend
from reelmill.train.config import TrainConfig
from reelmill.train.estimate import matmul_parameters
from reelmill.train.loss import ROWS, chunked_cross_entropy
from reelmill.train.model import Layer, ModelConfig, count_parameters, rotary

SHARES = {"products": 0.7, "attention": 0.45, "memory": 0.85, "links": 0.8}
"""Of the data sheet's rates, what large products, FlashAttention 2 forward and backward, streams of memory and
collectives usually reach on Hopper; guesses, not measurements of ours."""
BOUNDS = {
    "products": "FLOP/s",
    "attention": "FLOP/s",
    "between products": "the memory's rate",
    "loss": "FLOP/s",
    "tensor and context ranks": "the links' rate",
    "weights and gradients, not hidden": "the links' rate",
    "gradients of copies": "the network's rate",
    "optimizer": "the memory's rate",
}
"""What bounds each part of a step. Of the loss its products take most; without logits it is the L2 cache."""
TILE_INTENSITY = 64
"""FLOPs a byte that passes the L2 cache in backward of the loss without logits (`fused_loss.py`): a tile of 128 tokens
by 256 ids takes three products of 2 * 128 * 256 D FLOPs, reads 384 D numbers of 2 bytes twice and adds 384 D of 4."""
_UNCOUNTED = {
    "mm",
    "addmm_",
    "gather",
    "scatter_add_",
    "_varlen_attn",
    "_varlen_attn_backward",
    "_unsafe_view",
    "empty",
    "empty_like",
    "zeros",
    "zeros_like",
}
"""Operators that are counted by their FLOPs, or move no bytes, or few of what they are given."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one GPU can do: dense FLOP/s, and bytes a second of its memory, of its L2 cache (no data sheet has
    it: a guess), to GPUs of its node (one way), and to other nodes; `node` GPUs share a node. An H100 SXM with 400
    Gbit/s a GPU, in bfloat16. `shares` of these are reached; `device` decides what is compiled and how the loss runs.
    """

    flops: float = 989e12
    memory: float = 3.35e12
    cache: float = 5.5e12
    link: float = 450e9
    network: float = 50e9
    node: int = 8
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    device: Literal["cuda", "cpu"] = "cuda"

    def between(self, ranks: int) -> float:
        """Bytes per second among this many neighboring ranks."""
        return self.link if ranks <= self.node else self.network


def step_parts(config: TrainConfig, gpus: int, document: float, rates: Rates) -> dict[str, float]:
    """Seconds of a step on each of `gpus` GPUs, by part, for rows of documents of `document` tokens.

    Attention is that of the variable-length kernel. `config` has been checked for so many GPUs.
    """
    model, data, layout = config.model, config.data, config.parallel
    apart = layout.tensor * layout.context
    micro_batches = data.batch_rows // (data.micro_rows * (gpus // apart))
    tokens = data.micro_rows * data.context // layout.context
    layers = (matmul_parameters(model) - model.vocab_size * model.hidden) / layout.tensor
    pairs = model.all_layers * model.heads * model.head_size * document / layout.tensor
    again = _computed_again(config)
    products = tokens * (6 * layers + again["products"] / layout.tensor)
    attention = tokens * pairs * (6 + again["attention"])
    between = model.all_layers * between_products(config, tokens, rates.device) / layout.tensor
    parameters = count_parameters(model) / layout.tensor
    shard = (layout.shard or gpus // apart) * layout.context
    by_micro_batch = {
        "products": products / (rates.flops * rates.shares["products"]),
        "attention": attention / (rates.flops * rates.shares["attention"]),
        "between products": between / (rates.memory * rates.shares["memory"]),
        "loss": _loss(config, tokens, rates),
        "tensor and context ranks": _within_layers(config, tokens, rates) / rates.shares["links"],
    }
    compute = sum(by_micro_batch.values())
    rate = rates.between(shard * layout.tensor)
    # Weights are gathered forward and backward in 2 bytes; gradients are summed in 4.
    sharded = (1 - 1 / shard) * parameters * (2 + 2 + 4) / (rate * rates.shares["links"])
    by_micro_batch["weights and gradients, not hidden"] = max(0.0, sharded - compute)
    copies = gpus // (layout.tensor * shard)
    parts = {name: micro_batches * seconds for name, seconds in by_micro_batch.items()}
    parts["gradients of copies"] = (
        2 * (1 - 1 / copies) * 4 * parameters / shard / (rates.network * rates.shares["links"]) if copies > 1 else 0.0
    )
    # AdamW reads weight, gradient and both means, and writes three of them: float32.
    parts["optimizer"] = 7 * 4 * parameters / shard / (rates.memory * rates.shares["memory"])
    return parts


def _loss(config: TrainConfig, tokens: int, rates: Rates) -> float:
    """Seconds of the loss of so many tokens, forward and backward."""
    vocab = config.model.vocab_size / config.parallel.tensor
    head = vocab * config.model.hidden
    rate, memory = rates.flops * rates.shares["products"], rates.memory * rates.shares["memory"]
    if rates.device == "cpu":
        return tokens * 6 * head / rate + _moved_by_loss(round(vocab), tokens, _computed_in(config)) / memory
    if config.parallel.loss == "triton":
        return tokens * head * (2 / rate + 6 / min(rate, TILE_INTENSITY * rates.cache))
    # A chunk's logits are written and read three more times, and the weight's gradient is read and written in float32.
    streamed = 7 * tokens * vocab * 2 + 8 * head * -(-tokens // ROWS["cuda"])
    return tokens * 6 * head / rate + streamed / memory


def _moved_by_loss(vocab: int, tokens: int, dtype: torch.dtype) -> int:
    """Bytes that the loss moves operator by operator, as on a CPU, beside its products."""
    moved = MovedBytes()
    with FakeTensorMode():
        hidden, weight = (torch.zeros(size, 8, dtype=dtype).requires_grad_() for size in (tokens, vocab))
        targets, weights = torch.zeros(tokens, dtype=torch.int64), torch.zeros(tokens)
        with moved:
            chunked_cross_entropy(hidden, weight, targets, weights)[0].backward()  # type: ignore[no-untyped-call]
    return moved.bytes


def _computed_in(config: TrainConfig) -> torch.dtype:
    return torch.float32 if config.precision == "float32" else torch.bfloat16


def _computed_again(config: TrainConfig) -> dict[str, float]:
    """FLOPs that backward recomputes: of products per token, and of attention per pair."""
    model, kind = config.model, config.parallel.recompute
    layers = matmul_parameters(model) - model.vocab_size * model.hidden
    if kind == "full":
        return {"products": 2 * layers, "attention": 2}
    if kind == "selective":
        wide = model.all_layers * 2 * model.hidden * model.mlp
        return {"products": 2 * wide, "attention": 2 if model.attention_dropout else 0}
    return {"products": 0, "attention": 0}


def _within_layers(config: TrainConfig, tokens: int, rates: Rates) -> float:
    """Seconds at full rate that the ranks of a layer send to each other in a micro-batch; nothing hides them."""
    model, layout = config.model, config.parallel
    passes = 3 if config.parallel.recompute == "full" else 2
    # Two branches a layer, each gathers its input and scatters its output.
    tensor = 4 * passes * model.all_layers * tokens * model.hidden * 2 * (1 - 1 / layout.tensor)
    kept = 2 * tokens * layout.context * model.kv_heads * model.head_size / layout.tensor
    context = (passes + 1) * model.all_layers * kept * 2 * (1 - 1 / layout.context)
    # Ranks count through `tensor` first: a node holds its ranks together, and those of `context` where there is room.
    return tensor / rates.between(layout.tensor) + context / rates.between(layout.tensor * layout.context)


def between_products(config: TrainConfig, tokens: int, device: str = "cuda") -> float:
    """Bytes that a layer moves forward and backward beside its products and attention, for so many tokens.

    Compiled, values are read and written once between two products: norm, rotation of queries and keys, SwiGLU and the
    residuals, and backward twice that. Else they are counted operator by operator.
    """
    model = config.model
    wide = _computed_in(config)
    compiles = config.parallel.compile
    if compiles is None:
        compiles = choose_backend(torch.device(device), wide, model.attention_dropout) == "varlen"
    if not compiles:
        return _moved_by_operators(model, tokens, wide)
    heads = (model.heads + 2 * model.kv_heads) * model.head_size
    return 3 * tokens * (9 * model.hidden + 2 * heads + 3 * model.mlp) * wide.itemsize


def _moved_by_operators(model: ModelConfig, tokens: int, dtype: torch.dtype) -> int:
    sizes = ModelConfig(**{**vars(model), "attention_dropout": 0.0})
    moved = MovedBytes()
    with FakeTensorMode():
        layer = Layer(sizes, 0)
        for parameter in layer.parameters():
            parameter.data = parameter.data.to(dtype)
        x = torch.zeros(1, tokens, model.hidden, dtype=dtype).requires_grad_()
        angles = rotary(torch.arange(tokens)[None], model.head_size, model.rope_theta)
        documents = Documents.packed([tokens], x.device, "varlen").prepare()
        with moved:
            layer(x, angles, documents, None).backward(torch.zeros_like(x))
    return moved.bytes


class MovedBytes(TorchDispatchMode):
    """Counts the bytes that operators read and write, but for views and those that are counted by FLOPs."""

    bytes: int = 0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.namespace == "aten" and not func.is_view and name not in _UNCOUNTED:
            self.bytes += sum(
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves((args, kwargs, made))
                if isinstance(leaf, Tensor)
            )
        return made
