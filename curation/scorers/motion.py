"""How much moves: mean optical flow between neighboring sampled frames, over the frame's shorter side.

Emu3 (section 2) scores motion so, with RAFT at 2 frames/s, and drops what hardly moves and what moves too much. Two
scorers, two columns: `motion_dis` is cheap enough for every pair of every sample; `motion_raft` is Emu3's own. All
pairs lie within one sample, so none crosses a cut. Both are None for less than two frames.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
PAIRS_A_CALL = 8


@dataclass(frozen=True)
class Look:
    """How RAFT looks at a clip: at frames of this shorter side, at so many pairs, with so many iterations, in float32
    or bfloat16; and the relative error that rules allow the value."""

    side: int
    pairs: int
    iterations: int
    error: float
    bfloat16: bool = False


# Looks before the full one on a CPU, each about twice the cost of the one before. The error, as a factor less one, is a
# margin: values lie farther off for some clips, but none of those changed sides (`bench/motion_coarse.py`).
ROUGH = (Look(128, 2, 2, 1.5), Look(128, 4, 4, 0.75), Look(192, 4, 6, 0.25))
# The same margin for a full look in bfloat16.
BFLOAT16_ERROR = 0.1


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

    On a CPU it looks again, each time nearer, as long as a bound is near: `ROUGH`; then fully; then fully in float32.
    All but the last are in bfloat16 where the processor multiplies such numbers itself; elsewhere the first full look
    is the last. `motion_raft_side` is the shorter side in pixels at which a clip was measured, `motion_raft_error` the
    relative error that rules allow its value, 0 after the last look.
    """

    columns: ClassVar = {"motion_raft": "DOUBLE", "motion_raft_side": "BIGINT", "motion_raft_error": "DOUBLE"}
    kinds: ClassVar = ("video",)
    weights: ClassVar = (RAFT_WEIGHTS,)
    shares: ClassVar = {"motion_score": "motion_raft"}
    precedence: ClassVar = 1
    approximate: ClassVar = {"motion_raft": "motion_raft_error"}
    version: ClassVar = 2

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
        """Cheap looks first, where pairs are spaced; the full one only where a rule's bound is near."""
        device: Literal["auto", "cpu", "cuda"] = "auto"
        """What it runs on."""

    def setup(self) -> None:
        """Load RAFT."""
        import torch

        device = self.config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.all_pairs = self.config.pairs == "all" or (self.config.pairs == "auto" and device != "cpu")
        self.coarse = self.config.coarse and not self.all_pairs
        self.at_once = 1 if device == "cpu" else GPU_BATCH
        self.model = raft.load(weights.path(RAFT_WEIGHTS), device)
        self.fast = None
        if self.coarse and device == "cpu" and raft.has_fast_bfloat16():
            self.fast = copy.deepcopy(self.model).to(torch.bfloat16)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample, of the roughest look that the recipe allows."""
        return [self._measured(sample.frames.images, self._looks(sample)[0]) for sample in samples]

    def refine(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample, of the roughest look that is nearer than what its columns tell of; of the last one where
        they tell of none."""
        return [self._measured(sample.frames.images, self._nearer(sample)) for sample in samples]

    def _looks(self, sample: Sample) -> list[Look]:
        """All looks at a sample, the roughest first; the last one is exact."""
        images, wanted = sample.frames.images, self.config
        count = max(len(images) - 1, 1)
        exact = Look(min(images.shape[1:3]), count if self.all_pairs else wanted.spaced, wanted.iterations, 0.0)
        if not self.coarse:
            return [exact]
        fast = self.fast is not None
        rough = [
            replace(look, pairs=min(look.pairs, exact.pairs), bfloat16=fast)
            for look in ROUGH
            if look.side < exact.side and look.iterations < exact.iterations
        ]
        return [*rough, *[replace(exact, error=BFLOAT16_ERROR, bfloat16=True)] * fast, exact]

    def _nearer(self, sample: Sample) -> Look:
        error = sample.columns.get("motion_raft_error") or 0.0
        looks = self._looks(sample)
        return next((look for look in looks if look.error < error), looks[-1])

    def _measured(self, images: Frames, look: Look) -> dict[str, Any]:
        if len(images) < 2:
            return dict.fromkeys(self.columns)
        speeds = self.speeds(images, evenly_spaced(len(images) - 1, look.pairs), look)
        motion = float(np.mean(speeds) / look.side)
        return {"motion_raft": motion, "motion_raft_side": look.side, "motion_raft_error": look.error}

    def speeds(self, images: Frames, first: npt.NDArray[np.intp], look: Look) -> list[float]:
        """Mean length of the flow of each pair that begins at `first`, in pixels of frames of the look's side."""
        model = self.fast if look.bfloat16 else self.model
        speeds: list[float] = []
        for start in range(0, len(first), PAIRS_A_CALL):
            chosen = first[start : start + PAIRS_A_CALL]
            needed, place = np.unique([chosen, chosen + 1], return_inverse=True)
            frames = shrunk(images[needed], look.side)
            begins, ends = place.reshape(2, -1).tolist()
            flow = raft.flows(model, frames, begins, ends, look.iterations, self.at_once)
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
