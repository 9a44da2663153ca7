"""A small random model whose heads two ranks can share, and processes that are two ranks."""

import os
import socket

import torch
from toy_run import VOCAB

from reelmill.train.hub import export_model
from reelmill.train.model import Decoder, ModelConfig


def shareable_folder(place):
    """Four heads in pairs, normed, of a size that is not hidden / heads; in Hugging Face's layout."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=VOCAB.size, hidden=24, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=20, qk_norm=True
    )
    model = Decoder(config).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    export_model(model, VOCAB, place, dtype=torch.float32)
    return place


def environments(ranks):
    """What torchrun sets for each of so many ranks on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
