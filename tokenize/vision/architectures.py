"""A tokenizer's network from its configuration, and its configuration from a file's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelmill.tokenize.vision.config import TokenizerConfig
from reelmill.tokenize.vision.ibq import IBQ, IBQConfig
from reelmill.tokenize.vision.model import TokenizerModel
from reelmill.tokenize.vision.movq import MoVQ, MoVQConfig

Config = MoVQConfig | IBQConfig
"""Every kind of configuration."""


def build(config: TokenizerConfig) -> TokenizerModel:
    """The network of a configuration, with random weights."""
    if isinstance(config, IBQConfig):
        return IBQ(config)
    assert isinstance(config, MoVQConfig)
    return MoVQ(config)


def config_from(data: Mapping[str, Any]) -> Config:
    """The configuration that `dataclasses.asdict` made of one, lists for tuples."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return IBQConfig(**fields) if fields.get("architecture") == "ibq" else MoVQConfig(**fields)
