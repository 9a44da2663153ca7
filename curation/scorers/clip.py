"""CLIP of open_clip: unit-length features of pictures and texts, for all that judges by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from reelmill.errors import WeightsError

if TYPE_CHECKING:
    import torch

Images = Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]


class Clip:
    """`architecture`, an open_clip model name, with the weights of `checkpoint`, on a GPU if there is one.

    `resize`: pictures are scaled by their shorter side and cropped, or by their longer one and filled up with black.
    Raises WeightsError where the checkpoint does not fill the model.
    """

    def __init__(
        self, architecture: str, checkpoint: Path, resize: Literal["shortest", "longest"] = "shortest"
    ) -> None:
        import torch

        from reelmill.compat import torchvision

        torchvision()
        import open_clip

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model, _, self._preprocess = open_clip.create_model_and_transforms(
                architecture,
                pretrained=str(checkpoint),
                require_pretrained=True,
                image_resize_mode=resize,
                device=self.device,
            )
        except RuntimeError as error:
            raise WeightsError(f"{checkpoint} has not the tensors of {architecture}: {error}") from None
        self._model = model.eval()
        self._tokenize = open_clip.get_tokenizer(architecture)

    @property
    def width(self) -> int:
        """Numbers of a feature."""
        width: int = self._model.visual.output_dim
        return width

    def images(self, images: Images) -> torch.Tensor:
        """Features float32 [N, width] of RGB pictures uint8 [H, W, 3]."""
        import torch
        from PIL import Image

        batch = torch.stack([self._preprocess(Image.fromarray(image)) for image in images]).to(self.device)
        with torch.inference_mode():
            features: torch.Tensor = self._model.encode_image(batch, normalize=True).float()
        return features

    def text(self, text: str) -> torch.Tensor:
        """Features float32 [width] of a text, which is cut at the model's context."""
        import torch

        with torch.inference_mode():
            features: torch.Tensor = self._model.encode_text(self._tokenize([text]).to(self.device), normalize=True)
        return features[0].float()
