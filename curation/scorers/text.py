"""How much of the picture is text: PP-OCR's text detector on sampled frames.

Emu3 (Wang et al. 2024, section 2) runs PaddleOCR at 2 frames/s and a short side of 256 and drops clips with a high text
coverage. Two providers give the boxes: rapidocr (its ONNX model lies in its wheel, works offline; `ppocr` runs it) and
paddleocr.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.config import free
from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.ppocr import BOX_CONFIDENCE, LONGEST, NO_BOXES, STRIDE, Boxes, Device, PpOcr
from reelmill.errors import WeightsError

Rgb = npt.NDArray[np.uint8]

# What the detector wrongly takes for text is a blob: about square, or thicker than a quarter of the shorter side.
TALLEST_LINE = 0.25
SHORTEST_LINE = 1.5


class Detector(Protocol):
    """Finds lines of text."""

    def __call__(self, images: Sequence[Rgb]) -> list[Boxes]:
        """Boxes int32 [K, 4, 2] (corners x, y in pixels) of each of RGB images [H, W, 3] of one size."""


class TextScorer(Scorer):
    """`text_area`: share of the frame that is covered by text boxes (their union), the mean over the frames looked at;
    `text_boxes`: number of boxes, likewise; `text_frames`: how many were looked at.

    First every second frame; the others only if one of those shows text. What is missed is text that comes and goes
    within a second, between two frames that are looked at, in a clip without any other.
    """

    columns: ClassVar = {"text_area": "DOUBLE", "text_boxes": "DOUBLE", "text_frames": "BIGINT"}

    @dataclass
    class Config:
        """Where the boxes come from."""

        provider: Literal["rapidocr", "paddleocr"] = "rapidocr"
        """What finds boxes."""
        device: Device = free("auto")
        """Of rapidocr: what the network runs on; auto takes a GPU that the worker sees if onnxruntime can use it."""
        every_frame: bool = False
        """Look at all frames always, as Emu3 does."""
        model: str | None = None
        """Of paddleocr: the name of a model."""
        model_folder: str | None = None
        """Of paddleocr: the model's folder; without one it fetches the model from its own hosts."""

    def setup(self) -> None:
        """Load the detector."""
        if self.config.provider == "rapidocr":
            self.detect: Detector = PpOcr(self.config.device)
        else:
            self.detect = PaddleOcr(self.config.model, self.config.model_folder)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [self._score(sample.frames.images) for sample in samples]

    def _score(self, images: Rgb) -> dict[str, Any]:
        if not len(images):
            return dict.fromkeys(self.columns)
        found = self._look(images[::2])
        if self.config.every_frame or any(boxes for _, boxes in found):
            found += self._look(images[1::2])
        areas, boxes = zip(*found, strict=True)
        return {"text_area": float(np.mean(areas)), "text_boxes": float(np.mean(boxes)), "text_frames": len(found)}

    def _look(self, images: Rgb) -> list[tuple[float, int]]:
        """Of each frame the share that is text, and the number of boxes."""
        frame = images.shape[1:3]
        found = [lines_of_text(boxes, frame) for boxes in self.detect([widen_strip(image) for image in images])]
        return [(union_area(lines, frame), len(lines)) for lines in found]


class PaddleOcr:
    """The paddleocr package's text detection, one thread."""

    def __init__(self, model: str | None, model_folder: str | None) -> None:
        if importlib.util.find_spec("paddleocr") is None:
            raise WeightsError(
                "scorer text: provider 'paddleocr' needs its package. Run: pip install 'reelmill[paddleocr]', "
                "or use provider 'rapidocr'"
            )
        from paddleocr import TextDetection

        self._model = TextDetection(
            model_name=model,
            model_dir=model_folder,
            limit_side_len=LONGEST,
            limit_type="max",
            box_thresh=BOX_CONFIDENCE,
            device="cpu",
            cpu_threads=1,
            enable_mkldnn=False,  # paddlepaddle 3.3 fails in its oneDNN kernels on these models
        )

    def __call__(self, images: Sequence[Rgb]) -> list[Boxes]:
        """See Detector."""
        return [self._boxes(image) for image in images]

    def _boxes(self, image: Rgb) -> Boxes:
        [found] = self._model.predict(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        polygons = np.asarray(found["dt_polys"])
        return polygons.reshape(-1, 4, 2).astype(np.int32) if len(polygons) else NO_BOXES


def widen_strip(image: Rgb) -> Rgb:
    """The RGB image, black added at its right or lower edge where it is more than 64 times as long as it is wide, so
    that scaled to LONGEST it still has the 32 pixels that the detector needs.
    """
    height, width = image.shape[:2]
    least = max(height, width) * STRIDE // LONGEST + 1
    if min(height, width) >= least:
        return image
    bottom, right = max(0, least - height), max(0, least - width)
    widened: Rgb = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
    return widened


def lines_of_text(boxes: Boxes, frame: tuple[int, ...]) -> Boxes:
    """Those of the boxes [K, 4, 2] that have the shape of a line of text, horizontal or vertical, in a frame (H, W)."""
    if not len(boxes):
        return boxes
    sides = np.linalg.norm(boxes - np.roll(boxes, 1, axis=1), axis=2)
    pairs = np.stack([sides[:, 0::2].mean(axis=1), sides[:, 1::2].mean(axis=1)])
    thickness, length = pairs.min(axis=0), pairs.max(axis=0)
    keep = (thickness <= TALLEST_LINE * min(frame)) & (length >= SHORTEST_LINE * thickness)
    lines: Boxes = boxes[keep]
    return lines


def union_area(boxes: Boxes, frame: tuple[int, ...]) -> float:
    """Share of the frame (H, W) that lies under at least one of the boxes [K, 4, 2]."""
    if not len(boxes):
        return 0.0
    mask = np.zeros(frame, np.uint8)
    for box in boxes:
        cv2.fillConvexPoly(mask, box, 1)
    return float(mask.mean())
