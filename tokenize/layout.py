"""The differences between the documents of Emu3 and Emu3.5, for the grammar, the writers and the readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Size = TypeVar("Size", int, npt.NDArray[np.int64])


@dataclass(frozen=True, repr=False)
class Layout:
    """How images are laid out in a document, and what else a document may contain.

    `last_row_ends`: EOL stands after the last row of a frame as after the others. `frames_end`: EOF stands after every
    frame. `has_video`: a header may state a frame rate and a duration. `has_spans`: answers (BSS ... ESS) and thoughts
    (BOG ... EOG, BOC ... EOC) are marked by tokens of their own.
    """

    name: str
    last_row_ends: bool
    frames_end: bool
    has_video: bool
    has_spans: bool

    def frame_tokens(self, h: Size, w: Size) -> Size:
        """Tokens of a frame of h x w codes: codes, ends of rows, end of the frame."""
        return h * (w + 1) - (not self.last_row_ends) + self.frames_end

    def __repr__(self) -> str:
        return self.name


EMU3 = Layout("emu3", last_row_ends=True, frames_end=True, has_video=True, has_spans=False)
"""Emu3's released processor (emu3/mllm/processing_emu3.py); answers and questions are distinguished by words alone."""

EMU3_5 = Layout("emu3.5", last_row_ends=False, frames_end=False, has_video=False, has_spans=True)
"""Emu3.5's released inference (src/utils/input_utils.py, configs/): EOI follows the last code, a clip is its frames."""

LAYOUTS = {layout.name: layout for layout in (EMU3, EMU3_5)}
