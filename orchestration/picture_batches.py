"""Pictures of several samples, encoded together where they are of one size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.vision import VisionTokenizer

Codes = npt.NDArray[np.int32]
Frame = npt.NDArray[np.uint8]
Take = Callable[[Codes | Exception], None]


class PictureBatches:
    """Pictures wait until there are as many of their size as the tokenizer takes at once, or four times as many in all;
    on a CPU, which encodes each by itself, none waits.

    Each picture's `take` is called once, with its codes, or with the error of encoding it.
    """

    def __init__(self, tokenizer: VisionTokenizer) -> None:
        self._tokenizer = tokenizer
        self._together = tokenizer.pictures_at_once
        self._waiting: dict[tuple[int, ...], list[tuple[Frame, Take]]] = {}

    def add(self, frame: Frame, take: Take) -> None:
        """Encode a picture [H, W, 3], now or with others."""
        of_size = self._waiting.setdefault(frame.shape, [])
        of_size.append((frame, take))
        if len(of_size) == self._together:
            self._encode(self._waiting.pop(frame.shape))
        elif sum(map(len, self._waiting.values())) >= 4 * self._together:
            self.flush()

    def flush(self) -> None:
        """Encode all that wait."""
        while self._waiting:
            _, group = self._waiting.popitem()
            self._encode(group)

    def _encode(self, group: list[tuple[Frame, Take]]) -> None:
        frames = np.stack([frame for frame, _ in group])
        try:
            codes = self._tokenizer.encode_images(frames)
        except Exception as error:
            if len(group) == 1:
                group[0][1](error)
                return
            for one in group:  # so that one picture does not cost the others theirs
                self._encode([one])
            return
        for (_, take), own in zip(group, codes, strict=True):
            take(own)
