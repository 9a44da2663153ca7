"""Whether a picture shows what its alt text says, by CLIP: how LAION-5B (Schuhmann et al. 2022) and DataComp (Gadre et
al. 2023) filter pairs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from reelmill import weights
from reelmill.curation.scorers.aesthetic import ARCHITECTURE, CLIP_WEIGHTS
from reelmill.curation.scorers.clip import Clip
from reelmill.curation.scorers.preference import Images, Judge, Preference


class ClipAlt(Preference):
    """`alt_agreement`: cosine of picture and alt text by CLIP ViT-L/14, about 0.1 for what does not belong together to
    0.3: of a video the lowest of its first, middle and last frame."""

    columns: ClassVar = {"alt_agreement": "DOUBLE"}

    def file(self) -> Path:
        """`checkpoint`, else the card's."""
        return self._given() if self.config.checkpoint else weights.path(CLIP_WEIGHTS)

    def load(self, file: Path) -> Judge:
        """CLIP as it was trained."""
        clip = Clip(ARCHITECTURE, file)

        def cosines(images: Images, text: str) -> npt.NDArray[np.float32]:
            found: npt.NDArray[np.float32] = (clip.images(images) @ clip.text(text)).cpu().numpy()
            return found

        return cosines
