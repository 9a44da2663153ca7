"""Emu3's decoder: a Llama-style transformer over one vocabulary of text, structure and vision tokens.

Grouped-query attention, RMSNorm before each branch, SwiGLU, rotary positions with theta 1e6, untied embeddings, no
biases; dropout on the attention probabilities, on both residual branches and on the embeddings (Emu3, arXiv 2409.18869,
section 2.3 and table 3, and its released configuration). Emu3.5 (arXiv 2510.26583, table 1) adds RMSNorm on each query
and key head and a head size that is not hidden / heads. Modules carry the names of the released checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.nn import functional

from reelmill.errors import ConfigError
from reelmill.train.attention import Backend, Documents, Visible, choose_backend
from reelmill.train.context import ContextPart
from reelmill.train.fused_loss import LossKernel, fused_cross_entropy
from reelmill.train.loss import VocabShard, chunked_cross_entropy


@dataclass(kw_only=True)
class ModelConfig:
    """Sizes of the decoder."""

    vocab_size: int = 0
    """Ids; 0: those of the data's vocabulary."""
    hidden: int = 4096
    """Width of the residual stream."""
    layers: int = 32
    """Layers."""
    heads: int = 32
    """Heads of queries."""
    kv_heads: int = 8
    """Heads of keys and values, each shared by heads / kv_heads heads of queries."""
    head_dim: int = 0
    """Width of a head; 0: hidden / heads."""
    mlp: int = 14336
    """Width of the SwiGLU's two branches."""
    qk_norm: bool = False
    """RMSNorm on each head of queries and keys (Emu3.5)."""
    rope_theta: float = 1_000_000.0
    """Base of the rotary positions."""
    norm_eps: float = 1e-5
    """Epsilon of RMSNorm."""
    dropout: float = 0.1
    """On both residual branches and on the embeddings."""
    attention_dropout: float = 0.1
    """On the attention probabilities."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""
    vertical_layers: int = 0
    """Layers of a second head that predicts the code below, for pictures drawn by diagonals; 0: no such head."""

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def all_layers(self) -> int:
        """Layers of the decoder and of its second head."""
        return self.layers + self.vertical_layers

    def check(self) -> None:
        """Raise ConfigError if no decoder can have these sizes."""
        if self.vocab_size <= 0:
            raise ConfigError(f"model.vocab_size is {self.vocab_size}; a decoder needs at least one id.")
        if not self.head_dim and self.hidden % self.heads:
            raise ConfigError(
                f"model.hidden {self.hidden} is no multiple of model.heads {self.heads}; change one, or set head_dim."
            )
        if self.heads % self.kv_heads:
            raise ConfigError(f"model.heads {self.heads} is no multiple of model.kv_heads {self.kv_heads}.")
        if not 0 <= self.vertical_layers <= self.layers:
            raise ConfigError(
                f"model.vertical_layers is {self.vertical_layers}; the second head is made of copies of the last "
                f"layers, of which there are {self.layers}."
            )
        if self.head_size % 2:
            raise ConfigError(f"the head size is {self.head_size}; rotary positions need an even one.")


class Cache(Protocol):
    """What a model keeps of the tokens it has read, for the tokens after them (`eval/generation/cache.py`)."""

    @property
    def layers(self) -> int:
        """Layers that it has room for: those of the decoder, or those of its second head too."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep a layer's keys and values of new tokens, and let the tokens attend to all up to themselves.

        q [B, n, heads, head_size] -> the same; k, v [B, n, kv_heads, head_size].
        """


class RMSNorm(nn.Module):
    """Root mean square normalization in float32, then a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] -> the same."""
        # Compiled, this is one kernel. `functional.rms_norm` would keep more for backward where it is not (on the CPU).
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def rotary(positions: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines float32 [B, T, 1, head_size] of the rotary angles of positions [B, T]."""
    powers = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    angles = positions.float()[:, :, None, None] * theta**-powers
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of the heads x [B, T, heads, head_size] by its position's angles."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Causal grouped-query attention within each document; under tensor parallelism, of this rank's heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.size, self.dropout = layer, config.head_size, config.attention_dropout
        self.q_proj = nn.Linear(config.hidden, config.heads * self.size, bias=False)
        self.k_proj = nn.Linear(config.hidden, config.kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(config.hidden, config.kv_heads * self.size, bias=False)
        self.o_proj = nn.Linear(config.heads * self.size, config.hidden, bias=False)
        self.q_norm = RMSNorm(self.size, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.size, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], visible: Visible | None, cache: Cache | None) -> Tensor:
        """[B, T, hidden] -> the same; there is `visible` or a `cache`."""
        q, k, v = (p(x).unflatten(-1, (-1, self.size)) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(self.q_norm(q), *angles), rotate(self.k_norm(k), *angles)
        if cache is not None:
            mixed = cache.attend(self.layer, q, k, v)
        else:
            assert visible is not None
            mixed = visible.attend(q, k, v, self.dropout if self.training else 0.0)
        out: Tensor = self.o_proj(mixed.flatten(2))
        return out


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.mlp, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.mlp, bias=False)
        self.down_proj = nn.Linear(config.mlp, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> the same."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """Attention and MLP, each a pre-norm residual branch.

    `recompute`, where set, runs `forward` so that backward recomputes it instead of keeping all that it made.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.recompute: Callable[..., Tensor] | None = None
        self.input_layernorm = RMSNorm(config.hidden, config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden, config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], visible: Visible | None, cache: Cache | None) -> Tensor:
        """[B, T, hidden] -> the same."""
        if self.recompute is not None and torch.is_grad_enabled():
            return self.recompute(self._branches, x, angles, visible, cache)
        return self._branches(x, angles, visible, cache)

    def _branches(
        self, x: Tensor, angles: tuple[Tensor, Tensor], visible: Visible | None, cache: Cache | None
    ) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), angles, visible, cache))
        out: Tensor = x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return out


class Head(nn.Linear):
    """The output projection: logits for generation, the loss without logits for training, computed by `kernel`."""

    kernel: LossKernel = "chunked"

    def loss(
        self, hidden: Tensor, targets: Tensor, token_weights: Tensor, z_loss: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of hidden [..., D] and targets, weights [...]: (weighted sum, NLL and log-normaliser of each token [...])."""
        weight, shard = self.weight, None
        if isinstance(weight, DTensor):  # tensor parallelism: this rank has some of the rows
            mesh = weight.device_mesh
            shard = VocabShard(mesh.get_local_rank() * -(-weight.shape[0] // mesh.size()), mesh)
            assert isinstance(hidden, DTensor)
            hidden = hidden.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])
            weight = weight.to_local()
        cross_entropy = fused_cross_entropy if self.kernel == "triton" else chunked_cross_entropy
        total, nll, log_z = cross_entropy(
            hidden.flatten(0, -2), weight, targets.flatten(), token_weights.flatten(), z_loss=z_loss, shard=shard
        )
        return total, nll.view(targets.shape), log_z.view(targets.shape)


class VerticalHead(nn.Module):
    """The second head of a decoder that draws pictures by diagonals: from what goes into the decoder's last layers it
    makes hidden states that predict the code below (the vertical branch of FlashAR, arXiv 2605.09430).

    They go through the output projection of the decoder, so a mixture of both heads' logits is one of their states.
    `gate` says from both states how much of the mixture is the decoder's, who predicts the code to the right. A gate
    whose last weights are 0 takes half of each.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers = range(config.layers, config.layers + config.vertical_layers)  # their places in a cache
        self.layers = nn.ModuleList(Layer(config, layer) for layer in layers)
        self.norm = RMSNorm(config.hidden, config.norm_eps)
        inner = max(64, config.hidden // 8)
        self.gate = nn.Sequential(nn.Linear(2 * config.hidden, inner), nn.SiLU(), nn.Linear(inner, 1))

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], visible: Visible | None, cache: Cache | None) -> Tensor:
        """[B, T, hidden] -> the same."""
        for layer in self.layers:
            x = layer(x, angles, visible, cache)
        out: Tensor = self.norm(x)
        return out

    def mix(self, right: Tensor, below: Tensor, has_above: Tensor) -> Tensor:
        """States [..., m, hidden] that predict m codes: of `right` from the left of each and `below` from above it, or
        of `right` alone where bool [m] says that nothing stands above."""
        share = torch.sigmoid(self.gate(torch.cat((right, below), dim=-1)))
        share = torch.where(has_above[:, None], share, 1.0)
        return share * right + (1 - share) * below


class DiagonalStates(NamedTuple):
    """`hidden` [B, T, hidden] of all tokens. For m codes, [B, m, hidden] each: `right`, of the token to the left of
    each; `below`, the second head's of the one above it; and `mixed`, of both."""

    hidden: Tensor
    right: Tensor
    below: Tensor
    mixed: Tensor


class Decoder(nn.Module):
    """The whole model. `forward` gives hidden states; `lm_head` turns them into logits or into the loss.

    `vertical` is the second head, where there is one; `diagonal` gives the states of both. `backend` is the way of
    attention (`attention.py`), None for the fastest that can do it. With a `part` the model gets this rank's columns of
    the rows (`context.py`).
    """

    backend: Backend | None = None
    part: ContextPart | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.layers))
        self.norm = RMSNorm(config.hidden, config.norm_eps)
        self.lm_head = Head(config.hidden, config.vocab_size, bias=False)
        self.vertical = VerticalHead(config) if config.vertical_layers else None

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        lengths: Sequence[int] | None = None,
        cache: Cache | None = None,
        visible: Visible | None = None,
    ) -> Tensor:
        """Hidden states [B, T, hidden] of tokens int64 [B, T].

        positions int64 [B, T] count from 0 in each document. `lengths` are the lengths of the documents as they follow
        each other in the rows, flattened (they sum to B * T; none crosses a row); a token sees its own document only.
        Without `lengths` each row is one document. With a `cache` the tokens continue those in it. With a `part`,
        tokens and positions are those of its columns, and `lengths` those of the whole rows. `visible`, in place of
        `lengths`, is all that tokens may see. A cache with room for the second head's layers keeps theirs too.
        """
        angles = rotary(positions, self.config.head_size, self.config.rope_theta)
        x: Tensor = self.dropout(self.embed_tokens(tokens))
        if cache is None and visible is None:
            visible = self._documents(tokens, lengths, x.dtype)
        hidden, before = self._hidden(x, angles, visible, cache)
        if self.vertical is not None and cache is not None and cache.layers > len(self.layers):
            self.vertical(before, angles, visible, cache)
        return hidden

    def diagonal(
        self,
        tokens: Tensor,
        positions: Tensor,
        left: Tensor,
        above: Tensor,
        *,
        cache: Cache | None = None,
        visible: Visible | None = None,
        frozen: bool = False,
    ) -> DiagonalStates:
        """The states of both heads, for codes whose left and upper neighbors stand in columns `left` and `above` int64
        [m] of tokens int64 [B, T]; -1 in `above`: nothing stands there.

        Only the second head gets gradients if all else is `frozen`. See `forward` for the rest.
        """
        assert self.vertical is not None
        angles = rotary(positions, self.config.head_size, self.config.rope_theta)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            x: Tensor = self.dropout(self.embed_tokens(tokens))
            hidden, before = self._hidden(x, angles, visible, cache)
        right, below = hidden[:, left], self.vertical(before, angles, visible, cache)[:, above.clamp(min=0)]
        return DiagonalStates(hidden, right, below, self.vertical.mix(right, below, above >= 0))

    def _hidden(
        self, x: Tensor, angles: tuple[Tensor, Tensor], visible: Visible | None, cache: Cache | None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states, and what goes into the last `vertical_layers` layers (into the norm where there are none)."""
        last = len(self.layers) - self.config.vertical_layers
        for layer in self.layers[:last]:
            x = layer(x, angles, visible, cache)
        before = x
        for layer in self.layers[last:]:
            x = layer(x, angles, visible, cache)
        hidden: Tensor = self.norm(x)
        return hidden, before

    def _documents(self, tokens: Tensor, lengths: Sequence[int] | None, dtype: torch.dtype) -> Documents:
        """What attention needs to know about a batch, computed once for all layers."""
        batch, columns = tokens.shape
        row = columns * (self.part.size if self.part else 1)
        lengths = lengths if lengths is not None else [row] * batch
        dropout = self.config.attention_dropout if self.training else 0.0
        backend = self.backend or choose_backend(tokens.device, dtype, dropout)
        if self.part is not None:
            return self.part.documents(lengths, row, tokens.device, backend).prepare()
        return Documents.packed(lengths, tokens.device, backend).prepare()


def empty_decoder(config: ModelConfig, device: torch.device | str, dtype: torch.dtype) -> Decoder:
    """A decoder with uninitialized weights: nothing is drawn, and nothing is held twice."""
    with torch.device("meta"):
        model = Decoder(config).to(dtype)
    return model.to_empty(device=device)


def count_parameters(config: ModelConfig) -> int:
    """Parameters of the decoder, counted on the meta device: nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Decoder(config).parameters())
