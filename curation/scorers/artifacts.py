"""What cameras, scalers and codecs do to a picture's own pixels: blur, noise, blocks and combs, by published measures.

They are looked for in squares of native pixels (`Frames.details`). In the frames that other scorers see, scaled to a
shorter side of 256, all four are gone; `quality_score` finds blur only where it is left at that size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.image_quality import blur_effect

Luma = npt.NDArray[np.uint8]
Measure = Callable[[Luma], float | None]

LEAST_SIDE = 32
"""Pixels of a square in which something can be measured."""
BLACK, WHITE = 24, 232
"""A square whose mean luma lies beyond is clipped: its noise was cut off."""
STRUCTURE = 5.0
"""Standard deviation of a square's luma from which on there is something to be sharp."""
BLOCK = 8
"""Pixels of a block of JPEG, MPEG-1, MPEG-2 and MPEG-4; those of H.264 and later are 4 and more, and filtered."""
COMB_STEP = 10
"""Luma by which a row of a comb stands out from both of its neighbors, about the `cthresh` of TIVTC's field matcher."""
_SECOND_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


class Artifacts(Scorer):
    """`blur` 0 to 1, `noise` in levels of 255, `blockiness` from 0, `combing` 0 to 1: medians over the frames.

    See `blur`, `noise`, `blockiness` and `combing`; the last is for clips alone. None where nothing can be measured.
    """

    columns: ClassVar = {"blur": "DOUBLE", "noise": "DOUBLE", "blockiness": "DOUBLE", "combing": "DOUBLE"}

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> dict[str, float | None]:
        frames = sample.frames.details if sample.frames.details.shape[-1] >= LEAST_SIDE else sample.frames.details[:0]
        combs = _median(combing, frames) if sample.kind == "video" else None
        found = {measure.__name__: _median(measure, frames) for measure in (blur, noise, blockiness)}
        return {**found, "combing": combs}


def blur(squares: Luma) -> float | None:
    """The least blur effect of the squares [9, S, S] (Crete et al. 2007): 0 is sharp to the pixel, 1 has no edge.

    The sharpest counts: what lies before and behind the focus says nothing. A picture that was enlarged is blurred
    everywhere. None where nothing varies.
    """
    found = [blur_effect(square.astype(np.float32)) for square in squares if square.std() >= STRUCTURE]
    return min(found, default=None)


def noise(squares: Luma) -> float | None:
    """Standard deviation of the noise, in levels, of the quietest square that is neither black nor white.

    Immerkær, "Fast noise variance estimation" (1996): a mask that cancels edges and ramps, averaged. Structure
    passes for noise where the quietest square has much of it. None where all squares are clipped.
    """
    found = [
        float(np.sqrt(np.pi / 2) / 6 * np.abs(cv2.filter2D(square.astype(np.float32), -1, _SECOND_DIFFERENCES)).mean())
        for square in squares
        if BLACK <= square.mean() <= WHITE
    ]
    return min(found, default=None)


def blockiness(squares: Luma) -> float | None:
    """How much larger the steps at the borders of blocks are than those within, 0 where they are not: B / A - 1.

    B and A are features of Wang, Sheikh and Bovik, "No-reference perceptual quality assessment of JPEG compressed
    images" (2002): mean absolute steps across and within blocks of 8 x 8, the smaller of both directions. The blocks
    may begin at any pixel, for pictures are cropped. None where nothing varies.
    """
    rows, columns = _steps_by_phase(squares, 1), _steps_by_phase(squares, 2)
    if min(rows.mean(), columns.mean()) <= 0:
        return None
    return max(0.0, min(_beyond(rows), _beyond(columns)))


def combing(squares: Luma) -> float | None:
    """Share of the pixels that lie in a comb, less those that would in columns: rows of two moments in turn.

    The test of a pixel is that of TIVTC's field matcher TFM (metric 0): it differs from the rows above and below to
    the same side by COMB_STEP, and the five rows around it swing by six times that. In the worst square; stripes of
    cloth that lie in rows are combs too.
    """
    return max(max(0.0, _combed(square) - _combed(square.T)) for square in squares)


def _steps_by_phase(squares: Luma, axis: int) -> npt.NDArray[np.float64]:
    """Mean absolute step between neighbors [8], by the step's place in a block."""
    steps = np.abs(np.diff(squares.astype(np.int16), axis=axis)).mean(axis=(0, 3 - axis))
    return np.array([steps[phase::BLOCK].mean() for phase in range(BLOCK)])


def _beyond(steps: npt.NDArray[np.float64]) -> float:
    """How far the largest of the steps by phase exceeds the others: their mean, or the one half a block away.

    What was enlarged two or four times swings twice in a block, and has none.
    """
    border = int(steps.argmax())
    within = max(np.delete(steps, border).mean(), steps[(border + BLOCK // 2) % BLOCK], 1e-6)
    return float(steps[border] / within - 1)


def _combed(square: Luma) -> float:
    rows = square.astype(np.int16)
    far_above, above, here, below, far_below = (rows[k : len(rows) - 4 + k] for k in range(5))
    up, down = here - above, here - below
    stands_out = ((up > COMB_STEP) & (down > COMB_STEP)) | ((up < -COMB_STEP) & (down < -COMB_STEP))
    swings = np.abs(far_above + 4 * here + far_below - 3 * (above + below)) > 6 * COMB_STEP
    return float((stands_out & swings).mean())


def _median(measure: Measure, frames: Luma) -> float | None:
    found = [value for squares in frames if (value := measure(squares)) is not None]
    return float(np.median(found)) if found else None
