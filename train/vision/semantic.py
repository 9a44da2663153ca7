"""Distillation of a picture encoder's features into the decoder of a tokenizer (Emu3.5, arXiv 2510.26583, section 2.3).

Emu3.5 distills those of SigLIP (siglip-large-patch16-256) into intermediate features of the decoder. It does not say
which features, nor how: here the decoder's widest, lowest-resolution ones, through one linear map of each site, are
drawn toward the encoder's patches by the cosine between them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.compat import torchvision
from reelmill.errors import ConfigError, WeightsError
from reelmill.tokenize.vision.spatial import SpatialDecoder
from reelmill.train.parallel import Ranks
from reelmill.train.vision.parallel import trainable


class Distillation:
    """The frozen encoder, what the decoder's features were in the last pass, and the map between them, which learns.

    Raises ConfigError where transformers is not installed, WeightsError where `place` holds no SigLIP vision model.
    """

    def __init__(self, model: nn.Module, place: str, rate: float, ranks: Ranks) -> None:
        decoder = next(module for module in model.modules() if isinstance(module, SpatialDecoder))
        self.encoder = _encoder(Path(place)).to(ranks.device)
        self.side = int(self.encoder.config.image_size)
        self.grid = self.side // int(self.encoder.config.patch_size)
        self.head = trainable(nn.Conv2d(decoder.conv_in.out_channels, self.encoder.config.hidden_size, 1), ranks, "ddp")
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=rate, betas=(0.5, 0.9))
        self._seen: list[Tensor] = []
        decoder.up[-1].register_forward_hook(self._see)

    def term(self, frames: Tensor) -> Tensor:
        """1 minus the mean cosine, for the [N, 3, H, W] frames that were decoded since the last call, in that order."""
        features = torch.cat(self._seen).float()
        self._seen = []
        with torch.no_grad():
            small = F.interpolate(frames, size=(self.side, self.side), mode="bilinear", antialias=True)
            wanted = self.encoder(pixel_values=small).last_hidden_state
        found = F.interpolate(self.head(features), size=(self.grid, self.grid), mode="bilinear", antialias=True)
        return 1 - F.cosine_similarity(found.flatten(2).transpose(1, 2), wanted, dim=2).mean()

    def step(self) -> None:
        """Move the map along the gradient of the last term."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _see(self, _module: nn.Module, _inputs: Any, features: Tensor) -> None:
        if torch.is_grad_enabled():
            self._seen.append(features)


def _encoder(folder: Path) -> Any:
    torchvision()
    try:
        from transformers import SiglipVisionModel
    except ImportError as error:
        raise ConfigError("loss.semantic needs transformers: pip install transformers, or set it to 0") from error
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"loss.semantic_model is {str(folder)!r}; it must be a folder of a SigLIP model in Hugging Face's layout, "
            "such as google/siglip-large-patch16-256 (config.json, model.safetensors)"
        )
    try:
        encoder = SiglipVisionModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder} holds no SigLIP vision model: {error}") from error
    return encoder.float().eval().requires_grad_(False)
