"""How much of the picture is text: PP-OCR's text detector on every sampled frame.

Emu3 (Wang et al. 2024, section 2) runs PaddleOCR at 2 frames/s and a short side of 256 and drops clips with a high text
coverage. Two providers give the boxes: rapidocr (ONNX, its model lies in its wheel, works offline) and paddleocr.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.curation.stage import Sample, Scorer
from reelmill.errors import WeightsError

Rgb = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.int32]

RAPIDOCR_MODEL = "PP-OCRv6_det_small.onnx"
# PP-OCR's detectors are trained on ImageNet's statistics, given in this order to BGR pixels. rapidocr's default of
# 0.5/0.5 makes the detector answer textless frames with boxes that span them.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# The detector's own confidence, averaged over a box; PaddleOCR's default (rapidocr's is 0.5).
BOX_CONFIDENCE = 0.6
# What the detector wrongly takes for text is a blob: about square, or thicker than a quarter of the shorter side.
TALLEST_LINE = 0.25
SHORTEST_LINE = 1.5
# Frames keep their size (rounded to multiples of 32); only one of an extreme shape is scaled down to this longer side.
LONGEST = 2048
NO_BOXES: Boxes = np.zeros((0, 4, 2), np.int32)


class Detector(Protocol):
    """Finds lines of text."""

    def __call__(self, image: Rgb) -> Boxes:
        """Boxes int32 [K, 4, 2] (corners x, y in pixels) of an RGB image [H, W, 3]."""


class TextScorer(Scorer):
    """`text_area`: share of the frame that is covered by text boxes (their union), the mean over the sampled frames;
    `text_boxes`: number of boxes, the mean over the sampled frames.
    """

    columns: ClassVar = {"text_area": "DOUBLE", "text_boxes": "DOUBLE"}

    @dataclass
    class Config:
        """Provider of the boxes. `model` and `model_folder` name a local model for paddleocr; without a folder it
        fetches the model from its own hosts.
        """

        provider: Literal["rapidocr", "paddleocr"] = "rapidocr"
        model: str | None = None
        model_folder: str | None = None

    def setup(self) -> None:
        """Load the detector."""
        if self.config.provider == "rapidocr":
            self.detect: Detector = RapidOcr()
        else:
            self.detect = PaddleOcr(self.config.model, self.config.model_folder)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict a sample; None without frames."""
        return [self._score(sample.frames.images) for sample in samples]

    def _score(self, images: Rgb) -> dict[str, Any]:
        if not len(images):
            return {"text_area": None, "text_boxes": None}
        boxes = [lines_of_text(self.detect(widen_strip(image)), image.shape[:2]) for image in images]
        areas = [union_area(found, image.shape[:2]) for found, image in zip(boxes, images, strict=True)]
        return {"text_area": float(np.mean(areas)), "text_boxes": float(np.mean([len(found) for found in boxes]))}


class RapidOcr:
    """PP-OCRv6 (small) through rapidocr and onnxruntime: detection only, offline, one a process, in its own thread.

    Denormal numbers count as zero in it: the activations of the detector's deepest layers are full of them, and some
    processors (Intel's among them) multiply them a hundred times slower. It is a state of a thread, which onnxruntime
    sets once a process, in the thread of the first session; no other arithmetic should meet it.
    """

    def __init__(self) -> None:
        self.thread, self._engine = _detector()

    def __call__(self, image: Rgb) -> Boxes:
        """See Detector."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        found = self.thread.submit(self._engine, bgr, use_det=True, use_cls=False, use_rec=False).result()
        return NO_BOXES if found.boxes is None else np.asarray(found.boxes).astype(np.int32)


@cache
def _detector() -> tuple[ThreadPoolExecutor, Any]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="text")
    return thread, thread.submit(_rapidocr).result()


def _rapidocr() -> Any:
    from omegaconf import OmegaConf
    from onnxruntime import InferenceSession, SessionOptions
    from rapidocr import RapidOCR
    from rapidocr.ch_ppocr_det import TextDetector

    options = SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = InferenceSession(str(rapidocr_model()), sess_options=options, providers=["CPUExecutionProvider"])
    engine = RapidOCR(
        params={
            "Global.log_level": "critical",  # it warns about every frame without text
            "Global.max_side_len": LONGEST,
            "Det.limit_type": "max",
            "Det.limit_side_len": LONGEST,
            "Det.mean": MEAN,
            "Det.std": STD,
            "Det.box_thresh": BOX_CONFIDENCE,
        }
    )
    config = {**engine.cfg.Det, "session": session}
    engine.text_det = TextDetector(OmegaConf.create(config, flags={"allow_objects": True}))
    return engine


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

    def __call__(self, image: Rgb) -> Boxes:
        """See Detector."""
        [found] = self._model.predict(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        polygons = np.asarray(found["dt_polys"])
        return polygons.reshape(-1, 4, 2).astype(np.int32) if len(polygons) else NO_BOXES


def rapidocr_model() -> Path:
    """The detector's file inside the installed rapidocr; its SHA-256 belongs into a run's provenance."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise WeightsError("scorer text needs rapidocr. Run: pip install rapidocr onnxruntime")
    model = Path(spec.origin).parent / "models" / RAPIDOCR_MODEL
    if not model.is_file():
        raise WeightsError(f"the installed rapidocr has no {model.name}. Run: pip install 'rapidocr>=3.10'")
    return model


def widen_strip(image: Rgb) -> Rgb:
    """The RGB image, black added at its right or lower edge where it is more than 64 times as long as it is wide, so
    that scaled to LONGEST it still has the 32 pixels that the detector needs.
    """
    height, width = image.shape[:2]
    least = max(height, width) * 32 // LONGEST + 1
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
