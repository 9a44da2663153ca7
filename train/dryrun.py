"""What a recipe needs on a number of GPUs: memory and seconds by part. No GPU, no data, nothing allocated.

Weights, gradients, AdamW and the parameters that FSDP gathers are arithmetic. Activations kept for backward, and the
peak of a layer and of the loss, are counted by running their own code on fake tensors.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reelmill.errors import ConfigError
from reelmill.train.attention import Documents
from reelmill.train.config import TrainConfig
from reelmill.train.estimate import CONVENTION, flops_per_token, matmul_parameters
from reelmill.train.loss import ROWS, chunked_cross_entropy
from reelmill.train.model import Layer, ModelConfig, count_parameters, rotary
from reelmill.train.objectives import objective_class
from reelmill.train.parallel import ParallelConfig
from reelmill.train.parallel.recompute import recomputing
from reelmill.train.roofline import Rates, step_parts

GIB = 2**30
RESERVE = 0.08
"""Share of a GPU's memory for CUDA itself and for gaps between tensors; a guess, not a measurement."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """So many GPUs, each with so much memory (GiB) and these rates; `mfu` is the share of the FLOP/s that is hoped for,
    None what the roofline says."""

    gpus: int = 8
    memory: float = 80.0
    rates: Rates = field(default_factory=Rates)
    mfu: float | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The figures of a dry run; memory in bytes a GPU."""

    parameters: int
    matmul_parameters: int
    flops_per_token: float
    flops_convention: str
    document: float
    """Tokens per document, for the FLOPs of attention; by default those of a row."""
    gpus: int
    layout: dict[str, int]
    """Ranks by what they share: dp_replicate, dp_shard, context, tensor."""
    memory: dict[str, int]
    memory_total: int
    memory_gpu: int
    tokens_per_step: int
    computed_per_step: int
    """Those of the data, and what the objective copies of them at most."""
    tokens_in_all: int
    seconds: dict[str, float]
    """Seconds of a step by part (`roofline.py`)."""
    mfu: float
    peak_flops: float
    tokens_per_day: float
    days: float

    @property
    def fits(self) -> bool:
        """Whether it fits on a GPU."""
        return self.memory_total <= self.memory_gpu


def estimate(config: TrainConfig, machine: Machine, document: float = 0.0) -> Estimate:
    """The figures of a recipe whose model.vocab_size is known.

    `document` is the tokens of a packed document, for attention's FLOPs; 0: rows are one document each. Raises
    ConfigError where the ranks or the batch cannot be shared as [parallel] and [data] say, or not with this objective.
    """
    model, data, layout = config.model, config.data, config.parallel
    objective = objective_class(config.objective)
    objective.check(config)
    model.check()
    layout.check(model, data.context, machine.gpus)
    data_ranks = machine.gpus // (layout.tensor * layout.context)
    if data.batch_rows % (data.micro_rows * data_ranks):
        raise ConfigError(
            f"data.batch_rows {data.batch_rows} is no multiple of data.micro_rows {data.micro_rows} times the "
            f"{data_ranks} ranks that share rows on {machine.gpus} GPUs; change one of them."
        )
    shard = layout.shard or data_ranks
    copied = objective.copied
    computed = replace(config, data=replace(data, context=round(data.context * (1 + copied))))
    flops = (1 + copied) * flops_per_token(model, document or data.context)
    tokens_per_step = data.batch_rows * data.context
    seconds = step_parts(computed, machine.gpus, document or data.context, machine.rates)
    peak = machine.gpus * machine.rates.flops
    mfu = machine.mfu or tokens_per_step * flops / (peak * sum(seconds.values()))
    tokens_a_second = peak * mfu / flops
    memory = memory_by_part(computed, shard) | {"CUDA and gaps": int(RESERVE * machine.memory * GIB)}
    return Estimate(
        parameters=count_parameters(model),
        matmul_parameters=matmul_parameters(model),
        flops_per_token=flops,
        flops_convention=CONVENTION,
        document=document or data.context,
        gpus=machine.gpus,
        layout={
            "dp_replicate": data_ranks // shard, "dp_shard": shard, "context": layout.context, "tensor": layout.tensor,
        },
        memory=memory,
        memory_total=sum(memory.values()),
        memory_gpu=int(machine.memory * GIB),
        tokens_per_step=tokens_per_step,
        computed_per_step=data.batch_rows * computed.data.context,
        tokens_in_all=config.steps * tokens_per_step,
        seconds=seconds,
        mfu=mfu,
        peak_flops=machine.rates.flops,
        tokens_per_day=86_400 * tokens_a_second,
        days=config.steps * tokens_per_step / tokens_a_second / 86_400,
    )  # fmt: skip


def memory_by_part(config: TrainConfig, shard: int, rows: int = ROWS["cuda"]) -> dict[str, int]:
    """Bytes a GPU at the peak of a step, `shard` being the ranks that share weights beside tensor and context.

    Everything that a rank owns of the weights is float32; what it computes with is gathered in `config.precision`.
    `rows` are the tokens of a chunk of the loss.
    """
    model, layout = config.model, config.parallel
    wide = torch.float32 if config.precision == "float32" else torch.bfloat16
    own = 4 * count_parameters(model) // (shard * layout.context * layout.tensor)
    table = model.vocab_size * model.hidden // layout.tensor
    layer = (matmul_parameters(model) - model.vocab_size * model.hidden) // model.all_layers // layout.tensor
    tokens = config.data.micro_rows * config.data.context // layout.context
    kept, working = layer_memory(model, config.data.micro_rows, tokens // config.data.micro_rows, layout, wide)
    # The embedding stays gathered through the step; of the rest, the head while the loss runs, else two layers.
    in_loss = table * wide.itemsize
    if layout.loss == "triton":
        in_loss += fused_loss_memory(model, tokens, layout.tensor, wide)
    else:
        in_loss += loss_memory(model, tokens, layout.tensor, rows, wide)
    # A layer's gradient is there twice while it is summed over the ranks: as computed, and in float32.
    in_layer = 2 * layer * wide.itemsize + working + layer * (wide.itemsize + 4)
    return {
        "weights": own,
        **objective_class(config.objective).extra_memory(config, own),
        "gradients": own,
        "AdamW": 2 * own,
        "embedding, gathered": table * wide.itemsize,
        f"activations (recompute {layout.recompute})": model.all_layers * kept,
        "one layer, or the loss": max(in_loss, in_layer),
    }


def layer_memory(
    model: ModelConfig, rows: int, columns: int, layout: ParallelConfig, dtype: torch.dtype
) -> tuple[int, int]:
    """(bytes that a layer keeps for backward, its output with it; bytes more while it runs backward, without gradients
    of weights) for rows x columns tokens of a rank, each row one document.

    Under tensor parallelism the count of one rank is divided, and the inputs of the products are counted whole; under
    context parallelism gathered keys and values are added. Attention is that of the variable-length kernel.
    """
    sizes = ModelConfig(**{**vars(model), "attention_dropout": 0.0})
    tokens = rows * columns
    with FakeTensorMode():
        block = Layer(sizes, 0)
        for parameter in block.parameters():
            parameter.data = parameter.data.to(dtype)
        block.recompute = recomputing(layout.recompute, model.attention_dropout)
        x = torch.zeros(rows, columns, model.hidden, dtype=dtype).requires_grad_()
        angles = rotary(torch.arange(columns).expand(rows, columns), model.head_size, model.rope_theta)
        documents = Documents.packed([columns] * rows, x.device, "varlen")
        gradient = torch.zeros_like(x)
        with LiveBytes([*block.parameters(), x, gradient, *angles]) as live:
            out = block(x, angles, documents, None)
            kept = live.now
            out.backward(gradient)
        weights = sum(parameter.numel() for parameter in block.parameters()) * dtype.itemsize
    working = max(0, live.peak - kept - weights)
    gathered = 0
    if layout.recompute != "full":
        part = (1 - 1 / layout.context) * layout.context * tokens
        gathered = int(2 * part * model.kv_heads * model.head_size * dtype.itemsize) // layout.tensor
        gathered += int(2 * tokens * model.hidden * dtype.itemsize * (1 - 1 / layout.tensor))
    return kept // layout.tensor + gathered, working // layout.tensor


def loss_memory(model: ModelConfig, tokens: int, tensor: int, rows: int, dtype: torch.dtype) -> int:
    """Bytes while the loss of so many tokens runs: a chunk's logits, and the gradients of the head and of its input.

    The head's gradient is summed in float32, then in the type of the weights and once more in float32 between ranks.
    """
    size = model.vocab_size // tensor
    with FakeTensorMode():
        hidden = torch.zeros(tokens, model.hidden, dtype=dtype).requires_grad_()
        weight = torch.zeros(size, model.hidden, dtype=dtype).requires_grad_()
        targets, weights = torch.zeros(tokens, dtype=torch.int64), torch.zeros(tokens)
        with LiveBytes([hidden, weight, targets, weights]) as live:
            total, *_ = chunked_cross_entropy(hidden, weight, targets, weights, rows=rows)
            total.backward()  # type: ignore[no-untyped-call]
    peak: int = live.peak
    return max(peak, size * model.hidden * (dtype.itemsize + 4))


def fused_loss_memory(model: ModelConfig, tokens: int, tensor: int, dtype: torch.dtype) -> int:
    """As `loss_memory`, of the kernels without logits: both gradients in float32, and in the type of the weights."""
    return (model.vocab_size // tensor + tokens) * model.hidden * (dtype.itemsize + 4)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that were made under it and still live: `now`, and the most at a time, `peak`."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self._known.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage.nbytes())
        return made

    def _free(self, size: int) -> None:
        self.now -= size


def fewest_gpus(config: TrainConfig, machine: Machine, document: float = 0.0) -> Estimate:
    """The figures on `machine`, or on the fewest GPUs of its kind, a power of two, that can share and hold the recipe.

    Where no number does, the largest that can share it. Raises ConfigError where none can.
    """
    last: Estimate | ConfigError | None = None
    for gpus in (machine.gpus, *(2**n for n in range(13))):
        try:
            found = estimate(config, replace(machine, gpus=gpus), document)
        except ConfigError as error:
            last = last or error
            continue
        if found.fits:
            return found
        last = found
    if isinstance(last, Estimate):
        return last
    raise last or AssertionError("no number was tried")


def check_fits(found: Estimate, config: TrainConfig) -> None:
    """Raise ConfigError with the parts, and what to change, where a GPU does not hold the recipe."""
    if found.fits:
        return
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in found.memory.items())
    raise ConfigError(
        f"this needs {found.memory_total / GIB:.1f} GiB a GPU, on {found.gpus} GPUs of {found.memory_gpu / GIB:g} GiB "
        f"each: {parts}. {_advice(found, config)}"
    )


def _advice(found: Estimate, config: TrainConfig) -> str:
    layout = config.parallel
    owned = sum(found.memory[name] for name in ("weights", "gradients", "AdamW"))
    ways = []
    if found.layout["dp_replicate"] > 1:
        ways.append("set parallel.shard to 0")
    if owned > found.memory_gpu // 2:
        ways.append("take more GPUs, which share weights, gradients and AdamW")
    if config.data.micro_rows > 1:
        ways.append("lower data.micro_rows")
    if layout.recompute != "full":
        ways.append(f"set parallel.recompute to {'full' if layout.recompute == 'selective' else 'selective or full'}")
    ways.append("raise parallel.context (activations) or parallel.tensor (all)")
    return f"Ways out: {'; '.join(ways)}."
