"""The cost of a training recipe, by arithmetic: no GPU, no data, nothing allocated."""

from __future__ import annotations

from reelmill.train.model import ModelConfig

CONVENTION = "6 N + causal attention, N without the embedding table, recomputation not counted"


def matmul_parameters(config: ModelConfig) -> int:
    """Weights that every token is multiplied by: all linear layers and the head, not the embedding table."""
    attention = config.hidden * config.head_size * (2 * config.heads + 2 * config.kv_heads)
    return config.all_layers * (attention + 3 * config.hidden * config.mlp) + config.vocab_size * config.hidden


def flops_per_token(config: ModelConfig, document: float) -> float:
    """FLOPs of the forward and backward pass a token, in rows of causal documents of `document` tokens each.

    6 for each weight that a token is multiplied with, and for attention the pairs that a causal mask allows, half of
    all: 12 * layers * heads * head_size * document / 2. `document` is the context where a row is one document; of
    documents of several lengths L it is sum(L * L) / sum(L). What is computed again to save memory is not counted, so
    that a rate in these FLOPs over the peak is the model FLOPs utilisation (MFU; PaLM, arXiv 2204.02311, appendix B,
    halved for causality).
    """
    attention = 6 * config.all_layers * config.heads * config.head_size * document
    return 6 * matmul_parameters(config) + attention
