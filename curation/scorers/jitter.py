"""How much of the motion is shake: the share of flow that reverses from one native frame to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.motion import dis_flow, dot, fast_dis, lengths

# Motion below this share of the frame's shorter side from one native frame to the next is noise.
NOISE_FLOOR = 0.005


class Jitter(Scorer):
    """`motion_jitter` in [0, 1], from the runs of three neighboring native frames.

    With the DIS flows u (first to second frame) and v (second to third) at every pixel of every run:

        jitter = sum(max(0, -u·v)) / sum(|u||v| + floor²),   floor = 0.5 % of the shorter side

    0 when all motion goes on in its direction, however fast (a pan, a zoom); 1 when it all turns back at once. The
    floor gives a still picture 0 rather than the direction of its noise. Three frames see a shake whose half period is
    not much longer than two of them: 6 Hz and more at 30 frames/s; a slower sway counts as plain motion. None when the
    sample is too short for a run.
    """

    columns: ClassVar = {"motion_jitter": "DOUBLE"}
    kinds: ClassVar = ("video",)

    def setup(self) -> None:
        """Build the flow algorithm."""
        self.dis = fast_dis()

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [{"motion_jitter": self._score(sample.frames.runs)} for sample in samples]

    def _score(self, runs: npt.NDArray[np.uint8]) -> float | None:
        if not len(runs):
            return None
        floor = NOISE_FLOOR * min(runs.shape[2:])
        turned, total = 0.0, 0.0
        for first, second, third in runs:
            u, v = dis_flow(self.dis, first, second), dis_flow(self.dis, second, third)
            turned += float(np.maximum(0, -dot(u, v)).mean())
            total += float((lengths(u) * lengths(v)).mean()) + floor**2
        return turned / total
