"""How much moves: mean optical flow between neighboring sampled frames, over the frame's shorter side.

Emu3 (section 2) scores motion so, with RAFT at 2 frames/s, and drops what hardly moves and what moves too much. Two
scorers, two columns: `motion_dis` is cheap enough for every pair of every sample; `motion_raft` is Emu3's own. All
pairs lie within one sample, so none crosses a cut. Both are None for less than two frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt

from reelmill import weights
from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers import raft
from reelmill.errors import ConfigError

Frames = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]

# Below this shorter side OpenCV's DIS has no room for its patches; smaller frames are scaled up.
SMALLEST_DIS = 64
RAFT_WEIGHTS = "raft-things"
GPU_BATCH = 8

# RAFT's first look on a CPU, and how far from it, as a factor less one, the full look's value is allowed for. Values
# lie farther off for some clips, but none of those changed sides (`bench/motion_coarse.py`).
COARSE_SIDE = 128
COARSE_ITERATIONS = 4
COARSE_ERROR = 0.75


class DisMotion(Scorer):
    """`motion_dis`: dense inverse search flow (Kroeger et al. 2016; OpenCV, preset FAST) over all pairs."""

    columns: ClassVar = {"motion_dis": "DOUBLE"}
    kinds: ClassVar = ("video",)
    shares: ClassVar = {"motion_score": "motion_dis"}

    def setup(self) -> None:
        """Build the flow algorithm."""
        self.dis = fast_dis()

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [{"motion_dis": self._score(sample.frames.images)} for sample in samples]

    def _score(self, images: Frames) -> float | None:
        if len(images) < 2:
            return None
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
        shorter = min(grey[0].shape)
        speeds = [magnitude(dis_flow(self.dis, a, b)) / shorter for a, b in pairwise(grey)]
        return float(np.mean(speeds))


class RaftMotion(Scorer):
    """`motion_raft`: RAFT flow; on a CPU over few evenly spaced pairs, on a GPU over all.

    On a CPU a first look at COARSE_SIDE and COARSE_ITERATIONS, a seventh of the cost, is enough for clips that are far
    from every bound; `motion_raft_side` is the shorter side in pixels at which a clip was measured, `motion_raft_error`
    the relative error that rules allow its value, 0 after a full look.
    """

    columns: ClassVar = {"motion_raft": "DOUBLE", "motion_raft_side": "BIGINT", "motion_raft_error": "DOUBLE"}
    kinds: ClassVar = ("video",)
    weights: ClassVar = (RAFT_WEIGHTS,)
    shares: ClassVar = {"motion_score": "motion_raft"}
    precedence: ClassVar = 1
    approximate: ClassVar = {"motion_raft": "motion_raft_error"}
    version: ClassVar = 1

    @dataclass
    class Config:
        """How much RAFT does."""

        pairs: Literal["auto", "spaced", "all"] = "auto"
        """Evenly spaced pairs, all, or all on a GPU only."""
        spaced: int = 4
        """How many pairs where they are spaced."""
        iterations: int = 8
        """RAFT's updates; 8 rank clips as 20 do (Spearman 0.996)."""
        coarse: bool = True
        """A cheap look first, where pairs are spaced; the full one only where a rule's bound is near."""
        device: Literal["auto", "cpu", "cuda"] = "auto"
        """What it runs on."""

    def setup(self) -> None:
        """Load RAFT."""
        import torch

        device = self.config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = raft.load(weights.path(RAFT_WEIGHTS), device)
        self.batch = 1 if device == "cpu" else GPU_BATCH
        self.all_pairs = self.config.pairs == "all" or (self.config.pairs == "auto" and device != "cpu")

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample, of the coarse look where the recipe has one."""
        coarse = self.config.coarse and not self.all_pairs
        return [self._look(sample.frames.images, coarse) for sample in samples]

    def refine(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample, of the full look."""
        return [self._look(sample.frames.images, coarse=False) for sample in samples]

    def _look(self, images: Frames, coarse: bool) -> dict[str, Any]:
        if len(images) < 2:
            return dict.fromkeys(self.columns)
        count = len(images) - 1
        first = np.arange(count) if self.all_pairs else evenly_spaced(count, self.config.spaced)
        side, iterations, error = min(images.shape[1:3]), self.config.iterations, 0.0
        if coarse and side > COARSE_SIDE and iterations > COARSE_ITERATIONS:
            side, iterations, error = COARSE_SIDE, COARSE_ITERATIONS, COARSE_ERROR
        motion = float(np.mean(self._speeds(images, first, side, iterations)) / side)
        return {"motion_raft": motion, "motion_raft_side": side, "motion_raft_error": error}

    def _speeds(self, images: Frames, first: npt.NDArray[np.intp], side: int, iterations: int) -> list[float]:
        """Mean length of the flow of each pair that begins at `first`, in pixels of frames of this shorter side."""
        speeds: list[float] = []
        for start in range(0, len(first), self.batch):
            chosen = first[start : start + self.batch]
            needed, place = np.unique([chosen, chosen + 1], return_inverse=True)
            frames = shrunk(images[needed], side)
            begins, ends = place.reshape(2, -1).tolist()
            flow = raft.flows(self.model, frames, begins, ends, iterations)
            speeds += flow.norm(dim=1).mean(dim=(1, 2)).tolist()
        return speeds


def shrunk(images: Frames, side: int) -> Frames:
    """Frames [N, H, W, 3] at this shorter side, by areas; as they are where it is theirs."""
    height, width = images.shape[1:3]
    scale = side / min(height, width)
    if scale == 1:
        return images
    size = (round(width * scale), round(height * scale))
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


def raft_assignments(pairs: str) -> list[str]:
    """What the command line's `--raft PAIRS` changes in a recipe; nothing for "". ConfigError for all but `all`."""
    if pairs not in ("", "all"):
        raise ConfigError(f"--raft {pairs!r}: only `all` can be asked for; spaced pairs are what a CPU does by itself")
    return ['score.scorers.motion_raft.pairs="all"'] if pairs else []


def evenly_spaced(count: int, wanted: int) -> npt.NDArray[np.intp]:
    """The middles of `wanted` equal parts of 0..count-1; all of it when it is no longer than that."""
    if count <= wanted:
        return np.arange(count)
    return ((np.arange(wanted) + 0.5) * count / wanted).astype(np.intp)


def fast_dis() -> Any:
    """OpenCV's dense inverse search, preset FAST (2.5 ms for a pair of 456x256)."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)


def dis_flow(dis: Any, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Flow:
    """DIS flow float32 [H', W', 2], x and y in pixels of the gray frames [H, W]; H', W' are larger for tiny frames."""
    scale = max(1.0, SMALLEST_DIS / min(first.shape))
    if scale > 1:
        size = (round(first.shape[1] * scale), round(first.shape[0] * scale))
        first, second = (cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in (first, second))
    flow: Flow = dis.calc(first, second, None)
    return flow / np.float32(scale)


def magnitude(flow: Flow) -> float:
    """Mean length of the vectors of a flow [..., 2]."""
    return float(lengths(flow).mean())


def lengths(flow: Flow) -> Flow:
    """Lengths [...] of the vectors of a flow [..., 2]: numpy's norm over the last axis, at a fifth of its cost."""
    return np.sqrt(dot(flow, flow))


def dot(first: Flow, second: Flow) -> Flow:
    """Dot products [...] of the vectors of two flows [..., 2]: numpy's vecdot, at half its cost."""
    return first[..., 0] * second[..., 0] + first[..., 1] * second[..., 1]
