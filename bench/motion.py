"""Claim: what motion costs, in CPU-ms a pair of 456x256 on one thread, and how far the flow is from the truth.

    python bench/motion.py

Rendered pairs with a known flow at every pixel (rotation, shift, zoom of a texture). The baseline is OpenCV's
Farneback flow, which other curation tools use for motion scores.
"""

import time

import cv2
import numpy as np

from reelmill import weights
from reelmill.compat import one_thread
from reelmill.curation.scorers import raft
from reelmill.curation.scorers.motion import dis_flow, fast_dis

HEIGHT, WIDTH = 256, 456
MOTIONS = [(0, (6, 2), 1.0), (2, (4, -3), 1.0), (-1, (0, 0), 1.04), (0, (20, 5), 1.0)]


def texture(seed):
    rng = np.random.default_rng(seed)
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.float32)
    for cell in (64, 32, 16, 8, 4):
        grid = rng.normal(size=(HEIGHT // cell + 2, WIDTH // cell + 2, 3)).astype(np.float32)
        picture += cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) * 22
    return np.clip(picture, 0, 255).astype(np.uint8)


def pair(seed):
    """Two RGB frames, the flow [2, H, W] between them and where it stays in the picture."""
    angle, shift, zoom = MOTIONS[seed % len(MOTIONS)]
    motion = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), angle, zoom)
    motion[:, 2] += shift
    first = texture(seed)
    second = cv2.warpAffine(first, motion, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    goal = np.stack([row[0] * x + row[1] * y + row[2] for row in motion])
    seen = np.all((goal >= 0) & (goal < [[[WIDTH]], [[HEIGHT]]]), axis=0)
    return first, second, goal - np.stack([x, y]), seen


def measure(name, flow, pairs):
    flow(*pairs[0][:2])
    start = time.process_time()
    found = [flow(first, second) for first, second, *_ in pairs]
    cost = (time.process_time() - start) / len(pairs) * 1000
    errors = [np.linalg.norm(f - truth, axis=0)[seen].mean() for f, (*_, truth, seen) in zip(found, pairs, strict=True)]
    print(
        f"{name:24} {cost:8.1f} CPU-ms/pair   end-point error {np.mean(errors):.3f} px (worst pair {max(errors):.3f})"
    )


def main():
    one_thread()
    pairs = [pair(seed) for seed in range(4)]

    def grey(frame):
        return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)

    def farneback(first, second):
        flow = cv2.calcOpticalFlowFarneback(grey(first), grey(second), None, 0.5, 3, 15, 3, 5, 1.2, 0)
        return flow.transpose(2, 0, 1)

    dis = fast_dis()
    model = raft.load(weights.path("raft-things"))
    measure("Farneback (baseline)", farneback, pairs)
    measure("motion_dis: DIS FAST", lambda a, b: dis_flow(dis, grey(a), grey(b)).transpose(2, 0, 1), pairs)
    for iterations in (4, 8, 12, 20):
        measure(
            f"motion_raft: {iterations} iterations",
            lambda a, b, n=iterations: raft.flow(model, a[None], b[None], n)[0].numpy(),
            pairs,
        )


if __name__ == "__main__":
    main()
