"""Whether the pictures of a narrated video show what is said meanwhile, by CLIP (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill import weights
from reelmill.curation.judging.answers import Judgement
from reelmill.curation.judging.config import ClipConfig
from reelmill.curation.narration import Block, joined
from reelmill.curation.scorers.aesthetic import CLIP_WEIGHTS
from reelmill.curation.scorers.clip import Clip
from reelmill.errors import WeightsError


def checkpoint(config: ClipConfig) -> Path:
    """CLIP's weights. Raises WeightsError where they are not on this machine."""
    if not config.checkpoint:
        return weights.path(CLIP_WEIGHTS)
    file = Path(config.checkpoint)
    if not file.is_file():
        raise WeightsError(f"there is no file {file}, which judging.clip.checkpoint names.")
    return file


def said_near(words: Sequence[Mapping[str, Any]], time_s: float, near_s: float) -> str:
    """The words (text, start_s, end_s) that are spoken within `near_s` of a second."""
    near = (w for w in words if w["start_s"] < time_s + near_s and w["end_s"] > time_s - near_s)
    return joined(word["text"] for word in near)


class Agreement:
    """CLIP's cosines between key frames and words."""

    def __init__(self, config: ClipConfig) -> None:
        self._clip = Clip(config.model, checkpoint(config))

    def judge(self, pictures: Sequence[npt.NDArray[np.uint8]], said: Sequence[str]) -> Judgement:
        """The mean cosine between each picture, uint8 [H, W, 3], and what is said near it; pictures without words do
        not count."""
        pairs = [(picture, text) for picture, text in zip(pictures, said, strict=True) if text]
        if not pairs:
            return Judgement(None, problem="nothing_said")
        seen = self._clip.images([picture for picture, _ in pairs])
        cosines = [float(one @ self._clip.text(text)) for one, (_, text) in zip(seen, pairs, strict=True)]
        return Judgement(float(np.mean(cosines)))


def spread(frames: Sequence[Block], most: int) -> list[Block]:
    """At most so many key frames, in the middles of equal parts."""
    step = max(len(frames) / most, 1.0)
    return [frames[int((n + 0.5) * step)] for n in range(min(len(frames), most))]
