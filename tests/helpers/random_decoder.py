"""A small decoder of random weights, large enough that its choices differ, and what an engine draws with it."""

import torch

from reelmill.train.model import Decoder, ModelConfig


def random_decoder(vocab, vertical_layers=0):
    """In double precision, frozen; the same each time."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=vocab.size, hidden=16, layers=2, heads=2, kv_heads=1, mlp=24, vertical_layers=vertical_layers
    )
    model = Decoder(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.6)
    return model


def drawn(engine, requests):
    """The tokens of each request, and the passes that it took to draw them all."""
    tokens = [[] for _ in requests]
    for number, request in enumerate(requests):
        engine.submit(number, request)
    while not engine.is_idle:
        for event in engine.step():
            tokens[event.request].append(event.token)
    return tokens, engine.passes
