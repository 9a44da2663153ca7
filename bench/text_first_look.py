"""Claim: no cheap first look can spare the text detector's network, and no smaller input finds what it finds.

    python bench/text_first_look.py [--captions N] [--fonts FOLDER] [--json FILE] VIDEO ...

A first look may only say "certainly none". It must let pass at least 999 in 1,000 of the frames in which the detector
finds lines: frames of the videos (2 a second, shorter side 256), and N rendered captions (bench/captions.py) on frames
in which it finds nothing. Tried are statistics of edges and strokes - the most that a window has of the difference of
lightest and darkest neighbor, and of what an opening and a closing remove, which is thin - and the network itself at
a smaller input, asked for its highest probability. Prints for each its CPU-ms a frame and the share of the videos'
textless frames that it spares. The second table is the detector at smaller inputs: which of the lines' frames it finds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from captions import captioned
from ocr import sampled

from reelmill.compat import one_thread
from reelmill.curation.scorers import ppocr, text

RECALL = 0.999
SCALES = (0.5, 0.625, 0.75)


def contrast(image: np.ndarray, window: tuple[int, int]) -> float:
    square = np.ones((3, 3), np.uint8)
    steps = cv2.subtract(cv2.dilate(image, square), cv2.erode(image, square)).max(axis=2)
    return float(cv2.boxFilter(steps, cv2.CV_32F, window).max())


def strokes(image: np.ndarray, thickness: int, window: tuple[int, int]) -> float:
    square = np.ones((thickness, thickness), np.uint8)
    closed, opened = (cv2.morphologyEx(image, how, square) for how in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN))
    return float(cv2.boxFilter(cv2.subtract(closed, opened).max(axis=2), cv2.CV_32F, window).max())


class Network:
    """The detector at a share of a frame's sides."""

    def __init__(self) -> None:
        self.detector = ppocr.PpOcr("cpu")

    def probability(self, image: np.ndarray, scale: float) -> np.ndarray:
        """Of text, for each pixel of the scaled frame."""
        height, width = (max(round(side * scale / ppocr.STRIDE), 1) * ppocr.STRIDE for side in image.shape[:2])
        small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (width, height), interpolation=cv2.INTER_AREA)
        pixels = ppocr.network_input(small)
        return self.detector.thread.submit(self.detector._run, pixels).result()[0]

    def finds(self, image: np.ndarray, scale: float = 1.0) -> bool:
        """Whether it finds lines of text."""
        if scale == 1:
            [boxes] = self.detector([text.widen_strip(image)])
        else:
            found = list(ppocr._boxes(self.probability(image, scale), *image.shape[:2]))
            boxes = np.stack(found).astype(np.int32) if found else text.NO_BOXES
        return len(text.lines_of_text(boxes, image.shape[:2])) > 0


def timed(measure, frames):
    """Values of frames, and CPU-ms a frame."""
    began = time.process_time()
    values = np.array([measure(frame) for frame in frames])
    return values, (time.process_time() - began) / len(frames) * 1000


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("videos", nargs="+")
    arguments.add_argument("--captions", type=int, default=600)
    arguments.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    one_thread()
    network = Network()
    real = [frame for video in options.videos for frame in sampled(video)]
    has_text = [network.finds(frame) for frame in real]
    textless = [frame for frame, found in zip(real, has_text, strict=True) if not found]
    rendered = [captioned(textless[n * 7919 % len(textless)], n, options.fonts) for n in range(options.captions)]
    found = [caption for caption in rendered if network.finds(caption.image)]
    lines = [frame for frame, yes in zip(real, has_text, strict=True) if yes] + [caption.image for caption in found]
    result: dict[str, object] = {
        "frames of the videos": [len(real), sum(has_text)],
        "captions": [len(rendered), len(found)],
        "captions by size": {
            f"{low} to {high - 1}": [sum(low <= each.size < high for each in some) for some in (rendered, found)]
            for low, high in ((8, 12), (12, 16), (16, 24), (24, 57))
        },
    }
    tried = {
        "contrast, 15 x 15": lambda frame: contrast(frame, (15, 15)),
        "contrast, 31 x 9": lambda frame: contrast(frame, (31, 9)),
        "strokes of 5, 15 x 15": lambda frame: strokes(frame, 5, (15, 15)),
        "strokes of 7, 15 x 15": lambda frame: strokes(frame, 7, (15, 15)),
    } | {f"network at {scale}": lambda frame, s=scale: network.probability(frame, s).max() for scale in SCALES}
    for name, measure in tried.items():
        with_text, _ = timed(measure, lines)
        without, cost = timed(measure, textless)
        bound = np.sort(with_text)[int(len(with_text) * (1 - RECALL))]
        result[f"first look: {name}: CPU-ms, spared"] = [round(cost, 1), round(float((without < bound).mean()), 3)]
    for scale in (1.0, *SCALES):
        again, cost = timed(lambda frame, s=scale: network.finds(frame, s), lines)
        result[f"detector at {scale}: CPU-ms, found"] = [round(cost, 1), round(float(again.mean()), 3)]
    for name, value in result.items():
        print(f"{name}: {value}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
