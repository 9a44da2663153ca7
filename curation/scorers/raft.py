"""RAFT optical flow (Teed and Deng 2020): the authors' weights in torchvision's `raft_large`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelmill.errors import WeightsError

if TYPE_CHECKING:
    import torch

# RAFT's features have a stride of 8 and its correlation pyramid four levels: smaller inputs leave an empty level.
STRIDE, SMALLEST = 8, 128
# The correlation volume grows with the square of the area; a longer side than this is scaled down.
LARGEST = 1024

# The authors' names and torchvision's, in the order in which they are applied.
_RENAMES = [
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^((?:feature|context)_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^((?:feature|context)_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^((?:feature|context)_encoder)\.conv2\.", r"\1.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.flow_head\.", "flow_head."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
    (r"^(motion_encoder|recurrent_block|flow_head)\.", r"update_block.\1."),
]


def rename(key: str) -> str | None:
    """torchvision's name of one of the authors' parameters; None for `norm3`, a second name of `downsample.1`."""
    if ".norm3." in key:
        return None
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def load(checkpoint: Path, device: str = "cpu") -> torch.nn.Module:
    """`raft_large` with the authors' checkpoint, in evaluation mode.

    Raises WeightsError when the checkpoint does not fill the model exactly.
    """
    import torch

    from reelmill.compat import torchvision

    torchvision()
    from torchvision.models.optical_flow import raft_large

    theirs: dict[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    ours = {name: tensor for key, tensor in theirs.items() if (name := rename(key)) is not None}
    model: torch.nn.Module = raft_large(weights=None)
    try:
        model.load_state_dict(ours, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{checkpoint} does not fill RAFT: {error}") from error
    return model.eval().to(device)


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 numbers itself; on others they are slower than float32."""
    import torch

    return torch.cpu._is_avx512_bf16_supported()


def flow(model: torch.nn.Module, first: Any, second: Any, iterations: int) -> torch.Tensor:
    """Flow float32 [N, 2, H, W] (x, y in pixels) from uint8 RGB frames `first` to `second`, each [N, H, W, 3]."""
    count = len(first)
    frames = np.concatenate([first, second])
    return flows(model, frames, range(count), range(count, 2 * count), iterations, at_once=count)


def flows(
    model: Any, frames: Any, first: Sequence[int], second: Sequence[int], iterations: int, at_once: int
) -> torch.Tensor:
    """Flow float32 [P, 2, H, W], x and y in pixels, from `frames[first[p]]` to `frames[second[p]]`.

    `frames`: uint8 RGB [N, H, W, 3]. `at_once`: how many frames, then pairs, are worked on together, which bounds
    memory. The networks compute in the type of the model's parameters; correlation and flow are float32 always.

    torchvision's forward with three things left out that change no flow: the features of a frame that several pairs
    share are made once, the context's part of the GRU's convolutions is the same in all iterations, and only the last
    iteration's flow is brought to full resolution.
    """
    import torch

    parameter = next(model.parameters())
    device, dtype = parameter.device, parameter.dtype
    height, width = frames.shape[1:3]
    scale = _scale(height, width)
    found = []
    with torch.inference_mode():
        images = _prepare(torch.from_numpy(frames).to(device), scale).to(dtype)
        parts = [images[begin : begin + at_once] for begin in range(0, len(images), at_once)]
        maps = torch.cat([model.feature_encoder(part).float() for part in parts])
        for begin in range(0, len(first), at_once):
            begins, ends = list(first[begin : begin + at_once]), list(second[begin : begin + at_once])
            model.corr_block.build_pyramid(maps[begins], maps[ends])
            found.append(_iterate(model, model.context_encoder(images[begins]), iterations))
        inner = torch.cat(found)[:, :, : round(height * scale), : round(width * scale)]
        if inner.shape[2:] == (height, width):
            return inner
        shape = torch.tensor([width / inner.shape[3], height / inner.shape[2]], device=device).view(1, 2, 1, 1)
        return torch.nn.functional.interpolate(inner, (height, width), mode="bilinear", align_corners=False) * shape


def _iterate(model: Any, encoded: torch.Tensor, iterations: int) -> torch.Tensor:
    """RAFT's updates from a flow of zero: [P, 2, H, W] from the context encoder's output [P, C, H/8, W/8]."""
    import torch
    from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

    block, dtype = model.update_block, encoded.dtype
    hidden = torch.tanh(encoded[:, : block.hidden_state_size])
    context = torch.relu(encoded[:, block.hidden_state_size :])
    recurrent = [_Gru(gru, context) for gru in (block.recurrent_block.convgru1, block.recurrent_block.convgru2)]
    start = make_coords_grid(len(encoded), *encoded.shape[2:]).to(encoded.device)
    coarse = torch.zeros_like(start)
    for _ in range(iterations):
        alike = model.corr_block.index_pyramid(start + coarse)
        motion = block.motion_encoder(coarse.to(dtype), alike.to(dtype))
        for gru in recurrent:
            hidden = gru(hidden, motion)
        coarse = coarse + block.flow_head(hidden).float()
    flow: torch.Tensor = upsample_flow(coarse, model.mask_predictor(hidden).float())
    return flow


class _Gru:
    """A ConvGRU of RAFT whose convolutions over the context, which no iteration changes, are made once."""

    def __init__(self, gru: Any, context: torch.Tensor) -> None:
        import torch

        known = gru.convz.out_channels + context.shape[1]
        self._padding = gru.convz.padding
        convs = [gru.convz, gru.convr, gru.convq]
        fixed = torch.nn.functional.conv2d(
            context,
            torch.cat([conv.weight[:, gru.convz.out_channels : known] for conv in convs]),
            torch.cat([conv.bias for conv in convs]),
            padding=self._padding,
        )
        self._gates_fixed, self._new_fixed = fixed.tensor_split([2 * gru.convz.out_channels], dim=1)
        whole = [torch.cat([c.weight[:, : c.out_channels], c.weight[:, known:]], dim=1) for c in convs]
        self._gates, self._new = torch.cat(whole[:2]), whole[2]

    def __call__(self, hidden: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn.functional import conv2d

        seen = torch.cat([hidden, motion], dim=1)
        gates = torch.sigmoid(conv2d(seen, self._gates, padding=self._padding) + self._gates_fixed)
        update, reset = gates.chunk(2, dim=1)
        seen = torch.cat([reset * hidden, motion], dim=1)
        new = torch.tanh(conv2d(seen, self._new, padding=self._padding) + self._new_fixed)
        return (1 - update) * hidden + update * new


def _scale(height: int, width: int) -> float:
    shorter, longer = sorted((height, width))
    return min(max(1.0, SMALLEST / shorter), LARGEST / longer)


def _prepare(frames: torch.Tensor, scale: float) -> torch.Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H', W'] in [-1, 1]: scaled, then padded by repeating its last pixels."""
    import torch.nn.functional as F

    images = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    if scale != 1:
        size = (round(images.shape[2] * scale), round(images.shape[3] * scale))
        images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=scale < 1)
    height, width = images.shape[2:]
    bottom, right = (max(SMALLEST, math.ceil(n / STRIDE) * STRIDE) - n for n in (height, width))
    return F.pad(images, (0, right, 0, bottom), mode="replicate")
