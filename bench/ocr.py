"""Claim: the text scorer costs at most 60 CPU-ms a frame of 456x256 on one thread, is silent on frames without text,
and finds captions; rapidocr with its defaults costs many times that and finds text in textless frames.

    python bench/ocr.py [VIDEO ...] [--provider paddleocr --model NAME --model-folder DIR]

Without videos the frames are rendered: scenery without and with captions. Videos (said to be textless) are sampled at 2
frames/s and a short side of 256. Figures are CPU time, so a busy machine hardly changes them.
"""

import argparse
import time

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reelmill.compat import one_thread
from reelmill.curation.scorers import create, text

HEIGHT, WIDTH = 256, 456
CAPTIONS = ["the quick brown fox jumps over", "news at noon, rain in Spain", "and now for something else"]


def scenery(seed):
    rng = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        grid = rng.normal(size=(cells, 2 * cells, 3)).astype(np.float32)
        picture += cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) * 60 / cells**0.5
    return np.clip(picture + rng.uniform(60, 190, 3), 0, 255).astype(np.uint8)


def captioned(frame, seed):
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    size = (12, 14, 18, 24)[seed % 4]
    place = (frame.shape[1] // 8, frame.shape[0] - 2 * size)
    font = ImageFont.load_default(size)
    draw.text(place, CAPTIONS[seed % 3], font=font, fill="white", stroke_width=1, stroke_fill="black")
    return np.asarray(image)


def sampled(path):
    """Frames of a video at 2 frames/s, short side 256."""
    import av

    frames, due = [], 0.0
    with av.open(path) as container:
        for frame in container.decode(video=0):
            if frame.time >= due:
                scale = 256 / min(frame.width, frame.height)
                frames.append(frame.to_ndarray(format="rgb24", width=round(frame.width * scale), height=256))
                due += 0.5
    return frames


class RapidOcrAsItComes:
    """rapidocr's defaults, detection only, one thread: the baseline."""

    def __init__(self):
        from rapidocr import RapidOCR

        threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
        self.engine = RapidOCR(params={"Global.log_level": "critical", **threads})

    def __call__(self, image):
        found = self.engine(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), use_det=True, use_cls=False, use_rec=False)
        return text.NO_BOXES if found.boxes is None else np.asarray(found.boxes).astype(np.int32)


def measure(name, detect, textless, texted):
    detect(textless[0])
    start = time.process_time()
    empty = [detect(frame) for frame in textless]
    full = [detect(frame) for frame in texted]
    cost = (time.process_time() - start) / (len(textless) + len(texted)) * 1000
    area = np.mean([text.union_area(boxes, frame.shape[:2]) for boxes, frame in zip(empty, textless, strict=True)])
    fired = [sum(len(boxes) > 0 for boxes in found) for found in (empty, full)]
    print(
        f"{name:24} {cost:7.1f} CPU-ms/frame   textless frames that fire {fired[0]:3}/{len(textless)} "
        f"(mean area {area:.4f})   captioned frames that fire {fired[1]:3}/{len(texted)}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--provider", default="rapidocr")
    parser.add_argument("--model")
    parser.add_argument("--model-folder")
    arguments = parser.parse_args()
    one_thread()

    textless = [frame for video in arguments.videos for frame in sampled(video)]
    textless = textless or [scenery(seed) for seed in range(24)]
    texted = [captioned(frame, seed) for seed, frame in enumerate(textless[:24])]

    options = {"provider": arguments.provider, "model": arguments.model, "model_folder": arguments.model_folder}
    scorer = create("text", {key: value for key, value in options.items() if value})
    scorer.setup()

    def ours(frame):
        return text.lines_of_text(scorer.detect([frame])[0], frame.shape[:2])

    measure(f"reelmill, {arguments.provider}", ours, textless, texted)
    if arguments.provider == "rapidocr":
        measure("rapidocr as it comes", RapidOcrAsItComes(), textless, texted)


if __name__ == "__main__":
    main()
