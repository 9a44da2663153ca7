"""Where training begins when it goes on from a tokenizer that is there."""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

import torch
from torch import Tensor, nn

from reelmill.config import differences
from reelmill.errors import ConfigError
from reelmill.tokenize.vision.layers import ResBlock
from reelmill.tokenize.vision.model import TokenizerModel
from reelmill.tokenize.vision.tokenizer import load


@torch.no_grad()
def init_from(model: TokenizerModel, init: str) -> None:
    """Fill `model` from the tokenizer of that name or file, whose decoder may have fewer blocks: the further ones
    begin as the identity, so that both decode alike at first. ConfigError where another thing differs."""
    initial = load(init)
    changed = differences(asdict(initial.config), asdict(model.config))
    others = [line for line in changed if line.partition(":")[0] != "decoder_blocks"]
    missing, unexpected = ([], []) if others else model.load_state_dict(initial.model.state_dict(), strict=False)
    if others or unexpected:
        raise ConfigError(
            f"the recipe's model cannot begin with {init}: {'; '.join(others) or 'its decoder has more blocks'}; only "
            "decoder_blocks may differ, and only be more"
        )
    for name, block in model.named_modules():
        if isinstance(block, ResBlock) and f"{name}.conv2.weight" in missing:
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(cast(Tensor, block.conv2.bias))
