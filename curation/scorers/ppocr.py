"""PP-OCR's text detector: the network through onnxruntime, and around it what the rapidocr package does, box for box.

The network is the one in rapidocr's wheel. rapidocr itself is not imported: that takes a CPU-second (catalogues of
models that are not used here), and its arithmetic around the network 9 CPU-ms a frame. Boxes are found as in Liao et
al., "Real-time scene text detection with differentiable binarization" (2020), sections 3.3 and 3.4.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.errors import ConfigError, WeightsError

Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]
Points = npt.NDArray[np.float32]
Boxes = npt.NDArray[np.int32]

MODEL = "PP-OCRv6_det_small.onnx"
# PP-OCR's detectors are trained on ImageNet's statistics, given in this order to BGR pixels. rapidocr's default of
# 0.5/0.5 makes the detector answer textless frames with boxes that span them.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Frames keep their size (rounded to multiples of 32); only one of an extreme shape is scaled down to this longer side.
LONGEST = 2048
STRIDE = 32
# Frames with a shorter side than this are scaled up; those this low, or wider than WIDEST times their height, get black
# margins above and below.
SHORTEST, WIDEST = 30, 8
# A pixel is text above this probability.
PIXEL = 0.3
# The detector's own confidence, averaged over a box; PaddleOCR's default (rapidocr's is 0.5).
BOX_CONFIDENCE = 0.6
# The network draws text shrunk: a box is grown by its area times this over its circumference.
GROWTH = 1.6
MOST_BOXES = 1000
# Shorter sides, in pixels, below which something is no box: as drawn, as grown, in the frame.
LEAST_DRAWN, LEAST_GROWN, LEAST_SIDE = 3, 5, 4
NO_BOXES: Boxes = np.zeros((0, 4, 2), np.int32)


Device = Literal["auto", "cpu", "cuda"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
GPU_BATCH = 16
"""Frames that a GPU looks at together."""


class PpOcr:
    """PP-OCRv6 (small): detection only, offline, one per process and device, in its own thread.

    `batch` frames go through the network together; None is one on a CPU, GPU_BATCH on a GPU.

    Denormal numbers count as zero in it: the activations of the detector's deepest layers are full of them, and some
    processors (Intel's among them) multiply them a hundred times slower. It is a state of a thread, which onnxruntime
    sets once per process, in the thread of the first session; no other arithmetic should meet it.
    """

    def __init__(self, device: Device = "auto", batch: int | None = None) -> None:
        self.thread, self._session = _network(device)
        self.batch = batch or (GPU_BATCH if CUDA in self._session.get_providers() else 1)

    def __call__(self, images: Sequence[Pixels]) -> list[Boxes]:
        """Of RGB images [H, W, 3] of one size: boxes int32 [K, 4, 2] (corners x, y in pixels) of lines of text."""
        found = []
        for first in range(0, len(images), self.batch):
            placed = [_placed(cv2.cvtColor(image, cv2.COLOR_RGB2BGR)) for image in images[first : first + self.batch]]
            inputs = np.concatenate([network_input(each.image) for each in placed])
            drawn = self.thread.submit(self._run, inputs).result()
            found += [self._found(each, probability) for each, probability in zip(placed, drawn, strict=True)]
        return [
            each.back(np.stack(boxes), *image.shape[:2]) if boxes else NO_BOXES
            for image, (each, boxes) in zip(images, found, strict=True)
        ]

    @staticmethod
    def _found(placed: _Placed, probability: Map) -> tuple[_Placed, list[Points]]:
        return placed, list(_boxes(probability, *placed.image.shape[:2]))

    def _run(self, images: Map) -> Map:
        """float32 [N, 3, H, W] -> probability of text float32 [N, H, W]"""
        [answer] = self._session.run(None, {self._session.get_inputs()[0].name: images})
        probability: Map = answer[:, 0]
        return probability


@cache
def _network(device: Device) -> tuple[ThreadPoolExecutor, Any]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="text")
    return thread, thread.submit(_session, device).result()


def execution_providers(device: Device, offered: Sequence[str], *, sees_gpu: bool) -> list[Any]:
    """What onnxruntime runs the network by, the first choice first, of what it has `offered`.

    `auto` is CUDA where there is a GPU and a build of onnxruntime for it. TensorRT is never chosen: it takes minutes to
    plan for a size of frames, and each dump has many. Raises ConfigError for `cuda` where there is none.
    """
    if device == "cpu" or (device == "auto" and not (sees_gpu and CUDA in offered)):
        return [CPU]
    if CUDA not in offered or not sees_gpu:
        lacking = f"the installed onnxruntime has {', '.join(offered)}"
        found = lacking if CUDA not in offered else "this worker sees no GPU"
        raise ConfigError(
            f"scorer text: device is cuda, and {found}; install onnxruntime-gpu in the place of onnxruntime and give "
            "workers a GPU (engine.gpus_per_worker), or set it to auto."
        )
    # TF32 would move boxes; a search for the fastest kernel at each new size would cost more than it saves.
    options = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    return [(CUDA, options), CPU]


def _session(device: Device) -> Any:
    from onnxruntime import InferenceSession, SessionOptions, get_available_providers

    offered = get_available_providers()
    providers = execution_providers(device, offered, sees_gpu=CUDA in offered and _sees_gpu())

    options = SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = InferenceSession(str(model_file()), sess_options=options, providers=providers)
    if device == "cuda" and CUDA not in session.get_providers():  # its libraries did not load: it takes the next
        raise ConfigError(
            "scorer text: device is cuda, and onnxruntime could not load CUDA's libraries; see `python -c 'import "
            "onnxruntime; onnxruntime.preload_dlls()'`, or set it to auto."
        )
    return session


def _sees_gpu() -> bool:
    import torch  # takes seconds, and is not needed for onnxruntime on a CPU

    return torch.cuda.is_available()


def model_file() -> Path:
    """The detector's file inside the installed rapidocr; its SHA-256 belongs into a run's provenance."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise WeightsError("scorer text needs rapidocr. Run: pip install rapidocr onnxruntime")
    model = Path(spec.origin).parent / "models" / MODEL
    if not model.is_file():
        raise WeightsError(f"the installed rapidocr has no {model.name}. Run: pip install 'rapidocr>=3.10'")
    return model


@dataclass
class _Placed:
    """A frame of an extreme shape made fit for the detector; a common frame is as it was."""

    image: Pixels
    scale: tuple[float, float] = (1.0, 1.0)
    """Frame pixels a pixel of `image`, across and down."""
    top: int = 0
    """Rows of margin above."""

    def back(self, boxes: Points, height: int, width: int) -> Boxes:
        """Boxes of `image` as boxes of the frame (height, width)."""
        boxes[:, :, 1] -= self.top
        boxes *= np.array(self.scale, np.float32)
        return np.clip(boxes, 0, [width, height]).astype(np.int32)


def _placed(bgr: Pixels) -> _Placed:
    height, width = bgr.shape[:2]
    placed = _Placed(bgr)
    if max(height, width) > LONGEST:
        placed = _resized(placed.image, LONGEST / max(height, width))
    shortest = min(placed.image.shape[:2])
    if shortest < SHORTEST:
        placed = _resized(placed.image, SHORTEST / shortest)
    height, width = placed.image.shape[:2]
    if height <= SHORTEST or width / height > WIDEST:
        placed.top = abs(max(int(width / WIDEST), SHORTEST) * 2 - height) // 2
        placed.image = cv2.copyMakeBorder(placed.image, placed.top, placed.top, 0, 0, cv2.BORDER_CONSTANT)
    return placed


def _resized(image: Pixels, ratio: float) -> _Placed:
    height, width = image.shape[:2]
    new_height, new_width = _multiple(height * ratio), _multiple(width * ratio)
    return _Placed(cv2.resize(image, (new_width, new_height)), (width / new_width, height / new_height))


def _multiple(side: float) -> int:
    return round(int(side) / STRIDE) * STRIDE


@cache
def _normalised() -> Map:
    """What the network wants for each value of each channel, float32 [256, 1, 3]."""
    values = np.arange(256, dtype=np.float32)[:, None, None] * (1 / 255.0)
    table: Map = ((values - np.array(MEAN)) / np.array(STD)).astype(np.float32)
    return table


def network_input(bgr: Pixels) -> Map:
    """A BGR picture [H, W, 3] at the nearest size that the network takes, normalized: float32 [1, 3, H', W']."""
    height, width = bgr.shape[:2]
    ratio = min(LONGEST / max(height, width), 1.0)
    resized = cv2.resize(bgr, (_multiple(width * ratio), _multiple(height * ratio)))
    return np.stack(cv2.split(cv2.LUT(resized, _normalised())))[None]


def _boxes(probability: Map, height: int, width: int) -> Iterator[Points]:
    """Corners [4, 2] of the text that the network drew, in a picture of this height and width."""
    drawn = cv2.dilate((probability > PIXEL).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(drawn * np.uint8(255), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    drawn_size = np.array(probability.shape[::-1], np.float32)
    size = np.array([width, height], np.float32)
    for contour in contours[:MOST_BOXES]:
        corners, shorter = _rectangle(contour)
        if shorter < LEAST_DRAWN or _confidence(probability, corners) < BOX_CONFIDENCE:
            continue
        corners, shorter = _rectangle(_grown(corners))
        if shorter < LEAST_GROWN:
            continue
        box = _clockwise(np.clip(np.round(corners / drawn_size * size), 0, size).astype(np.int32))
        box = np.clip(box, 0, [width - 1, height - 1])
        if min(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[0] - box[3])) >= LEAST_SIDE:
            yield box.astype(np.float32)


def _rectangle(points: npt.NDArray[Any]) -> tuple[Points, float]:
    """The smallest rectangle around points, at any angle: its corners [4, 2] in turn, and its shorter side."""
    rectangle = cv2.minAreaRect(points)
    corners = _clockwise(cv2.boxPoints(rectangle))
    return corners, min(rectangle[1])


def _clockwise(corners: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Corners [4, 2] from the upper left one on: the two on the left by height, then the two on the right."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    (upper_left, lower_left), (upper_right, lower_right) = (
        pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:])
    )
    return np.stack([upper_left, upper_right, lower_right, lower_left])


def _confidence(probability: Map, corners: Points) -> float:
    """The mean probability of the pixels in the box."""
    last = np.array(probability.shape[::-1]) - 1
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, last)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int), 0, last)
    inside = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillPoly(inside, [(corners - np.array([left, top], np.float32)).astype(np.int32)], 1)
    return float(cv2.mean(probability[top : bottom + 1, left : right + 1], inside)[0])


def _grown(corners: Points) -> npt.NDArray[np.int32]:
    """The outline [K, 2] at GROWTH times area over circumference around the box, round at the corners."""
    import pyclipper  # type: ignore[import-untyped]  # a requirement of rapidocr

    exact = corners.astype(np.float64)
    following = np.roll(exact, -1, axis=0)
    area = abs(np.sum(exact[:, 0] * following[:, 1] - exact[:, 1] * following[:, 0])) / 2
    circumference = np.linalg.norm(following - exact, axis=1).sum()
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(corners, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return np.vstack(offset.Execute(area * GROWTH / circumference)).astype(np.int32)
