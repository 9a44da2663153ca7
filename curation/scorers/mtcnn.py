"""Faces by MTCNN: three small networks, each looking closer at what the one before has left (Zhang et al. 2016,
"Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks"), with facenet-pytorch's weights.

The first slides over the picture at several scales, the second and the third judge crops of 24 and 48 pixels. Each
gives the probability of a face and corrections of its box.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from reelmill import weights

WEIGHTS = ("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")
_CELL, _STRIDE, _SHRINK = 12, 2, 0.709
_SURE = (0.6, 0.7, 0.7)
"""Probabilities from which on a network passes a box on: the paper's code and facenet-pytorch have these."""
_OVERLAP = (0.5, 0.7, 0.7, 0.7)
"""Boxes that overlap more are one face: at one scale, at all scales, after the second and after the third network."""
_MOST = 256
"""Boxes that the second network looks at, at most, the surest of a picture."""

Boxes = npt.NDArray[np.float32]


class Mtcnn:
    """Finds faces; its weights are the cards `WEIGHTS`."""

    def __init__(self) -> None:
        self._proposal, self._refine, self._output = (
            _loaded(network(), name) for network, name in zip((_Proposal, _Refine, _Output), WEIGHTS, strict=True)
        )

    @torch.inference_mode()
    def __call__(self, image: npt.NDArray[np.uint8], smallest: int) -> Boxes:
        """Faces of a picture, uint8 [H, W, 3], whose sides have about `smallest` pixels at least: float32 [N, 5], left,
        top, right, bottom in pixels, and probability, the surest first."""
        picture = (torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] - 127.5) / 128
        boxes = self._proposals(picture, smallest)
        for network, size, sure, overlap in (
            (self._refine, 24, _SURE[1], _OVERLAP[2]),
            (self._output, 48, _SURE[2], _OVERLAP[3]),
        ):
            if not len(boxes):
                break
            boxes = _squares(boxes)
            probabilities, shifts = network(_crops(picture, boxes, size))
            kept = probabilities >= sure
            boxes = _shifted(boxes[kept], shifts[kept], probabilities[kept])
            boxes = boxes[_surest(boxes, overlap)]
        found: Boxes = boxes.numpy()
        return found

    def _proposals(self, picture: Tensor, smallest: int) -> Tensor:
        """Boxes of the first network at all scales, float32 [N, 5]."""
        height, width = picture.shape[2:]
        found, scale = [], _CELL / smallest
        while min(height, width) * scale >= _CELL:
            size = (int(np.ceil(height * scale)), int(np.ceil(width * scale)))
            probabilities, shifts = self._proposal(nn.functional.interpolate(picture, size, mode="area"))
            rows, columns = (probabilities[0] >= _SURE[0]).nonzero(as_tuple=True)
            corner = torch.stack([columns, rows], dim=1) * _STRIDE
            box = torch.cat([(corner + 1) / scale, (corner + _CELL) / scale], dim=1)
            sure = probabilities[0, rows, columns]
            box = torch.cat([box, sure[:, None]], dim=1)
            kept = _surest(box, _OVERLAP[0])
            found.append(_shifted(box[kept], shifts[0, :, rows, columns].T[kept], sure[kept]))
            scale *= _SHRINK
        boxes = torch.cat(found) if found else torch.zeros((0, 5))
        return boxes[_surest(boxes, _OVERLAP[1])[:_MOST]]


class _Network(nn.Module):
    """Two heads over shared layers: the probability of a face, and the shifts of a box's four sides in its sizes."""

    layers: nn.Sequential
    names: tuple[str, ...]
    """What the published weights call the layers with parameters, then the two heads."""
    face: nn.Module
    shift: nn.Module

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layers(x)
        return self.face(x).softmax(dim=1)[:, 1], self.shift(x)

    def load(self, state: dict[str, Tensor]) -> None:
        """Weights under the names of facenet-pytorch."""
        parts = [layer for layer in self.layers if list(layer.parameters())]
        for name, layer in zip(self.names, [*parts, self.face, self.shift], strict=True):
            layer.load_state_dict({key: state[f"{name}.{key}"] for key in layer.state_dict()})


class _Proposal(_Network):
    names = ("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "conv4_1", "conv4_2")

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 10, 3), nn.PReLU(10), _pool(2)),
            *(nn.Conv2d(10, 16, 3), nn.PReLU(16)),
            *(nn.Conv2d(16, 32, 3), nn.PReLU(32)),
        )
        self.face, self.shift = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)


class _Refine(_Network):
    names = ("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "dense4", "prelu4", "dense5_1", "dense5_2")

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 28, 3), nn.PReLU(28), _pool(3)),
            *(nn.Conv2d(28, 48, 3), nn.PReLU(48), _pool(3)),
            *(nn.Conv2d(48, 64, 2), nn.PReLU(64), _Columns()),
            *(nn.Linear(576, 128), nn.PReLU(128)),
        )
        self.face, self.shift = nn.Linear(128, 2), nn.Linear(128, 4)


class _Output(_Network):
    names = (
        *("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "conv4", "prelu4"),
        *("dense5", "prelu5", "dense6_1", "dense6_2"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 32, 3), nn.PReLU(32), _pool(3)),
            *(nn.Conv2d(32, 64, 3), nn.PReLU(64), _pool(3)),
            *(nn.Conv2d(64, 64, 3), nn.PReLU(64), _pool(2)),
            *(nn.Conv2d(64, 128, 2), nn.PReLU(128), _Columns()),
            *(nn.Linear(1152, 256), nn.PReLU(256)),
        )
        self.face, self.shift = nn.Linear(256, 2), nn.Linear(256, 4)


class _Columns(nn.Module):
    """Features in the order in which the dense layers were trained: column by column, the channel innermost."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 2, 1).flatten(1)


def _pool(size: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(size, 2, ceil_mode=True)


def _loaded(network: _Network, card: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    network.load(torch.load(weights.path(card), map_location="cpu", weights_only=True))
    return network.eval()


def _surest(boxes: Tensor, overlap: float) -> list[int]:
    """Indices of boxes [N, 5], the surest first, without those that overlap a surer one by more (non-maximum
    suppression)."""
    data = boxes.numpy()
    areas = (data[:, 2] - data[:, 0]) * (data[:, 3] - data[:, 1])
    left, kept = np.argsort(-data[:, 4], kind="stable"), []
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        corner = np.maximum(data[left, :2], data[first, :2]), np.minimum(data[left, 2:4], data[first, 2:4])
        shared = np.clip(corner[1] - corner[0], 0, None).prod(axis=1)
        left = left[shared <= overlap * (areas[left] + areas[first] - shared)]
    return kept


def _shifted(boxes: Tensor, shifts: Tensor, probabilities: Tensor) -> Tensor:
    """Boxes whose sides are moved by shifts of their width and height, with new probabilities."""
    size = (boxes[:, 2:4] - boxes[:, :2] + 1).repeat(1, 2)
    return torch.cat([boxes[:, :4] + shifts * size, probabilities[:, None]], dim=1)


def _squares(boxes: Tensor) -> Tensor:
    """Squares with the boxes' middles and longer sides."""
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    half = (boxes[:, 2:4] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    return torch.cat([middle - half, middle + half, boxes[:, 4:]], dim=1)


def _crops(picture: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What lies in the boxes, float32 [N, 3, size, size]; what lies outside the picture is gray."""
    height, width = picture.shape[2:]
    crops = []
    for left, top, right, bottom in boxes[:, :4].round().int().tolist():
        x, y, x_end, y_end = max(left, 0), max(top, 0), min(right + 1, width), min(bottom + 1, height)
        if x_end <= x or y_end <= y:
            crops.append(torch.zeros(1, 3, size, size))
            continue
        padding = (x - left, right + 1 - x_end, y - top, bottom + 1 - y_end)
        crop = nn.functional.pad(picture[:, :, y:y_end, x:x_end], padding)
        crops.append(nn.functional.interpolate(crop, (size, size), mode="area"))
    return torch.cat(crops)
