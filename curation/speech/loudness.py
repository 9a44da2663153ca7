"""Loudness by ITU-R BS.1770-4, and the share of silence, of sound that comes piece by piece.

The standard filters the sound and takes mean squares of blocks of 400 ms. Here each block is weighted in the frequency
domain with the response of the same filter, which differs from filtering only at a block's edges.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reelmill.media.audio import RATE

_HOP = RATE // 10
_HOPS = 4  # 400 ms
_OFFSET = -0.691
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0
# BS.1770-4, tables 1 and 2: the filter's coefficients at 48 kHz.
_SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))

Floats = npt.NDArray[np.float32]


class LoudnessMeter:
    """Feed pieces of sound, then ask. Memory grows by 16 bytes for each tenth of a second."""

    def __init__(self) -> None:
        block = _HOP * _HOPS
        z = np.exp(2j * np.pi * np.fft.rfftfreq(block, 1 / RATE) / 48_000)
        response = np.ones(len(z), np.complex128)
        for numerator, denominator in (_SHELF, _HIGH_PASS):
            response *= np.polyval(numerator, z) / np.polyval(denominator, z)
        both_sides = np.full(len(z), 2.0)
        both_sides[0] = both_sides[-1] = 1.0
        self._weights = np.abs(response) ** 2 * both_sides / block**2
        self._held = np.zeros(0, np.float32)
        self._blocks: list[npt.NDArray[np.float64]] = []
        self._tenths: list[npt.NDArray[np.float64]] = []
        self._counted = 0  # samples of `_held` whose tenths are counted

    def feed(self, samples: Floats) -> None:
        """The next samples, float32 [N], -1 to 1."""
        held = np.concatenate([self._held, samples])
        tenths = (len(held) - self._counted) // _HOP
        if tenths:
            counted = held[self._counted : self._counted + tenths * _HOP].reshape(tenths, _HOP)
            self._tenths.append(np.square(counted, dtype=np.float64).mean(axis=1))
        hops = max(len(held) // _HOP - _HOPS + 1, 0)
        if hops:
            windows = np.lib.stride_tricks.sliding_window_view(held, _HOP * _HOPS)[::_HOP][:hops]
            self._blocks.append((np.abs(np.fft.rfft(windows)) ** 2) @ self._weights)
        self._counted += (tenths - hops) * _HOP
        self._held = held[hops * _HOP :]

    def silent(self, threshold_db: float) -> npt.NDArray[np.bool_]:
        """For each tenth of a second, whether it is below a level in dB of full scale; bool [tenths]."""
        powers = np.concatenate(self._tenths) if self._tenths else np.zeros(0)
        return np.asarray(powers < 10 ** (threshold_db / 10))

    def integrated(self) -> float | None:
        """Integrated loudness in LUFS; None for silence, or less than 400 ms."""
        powers = np.concatenate(self._blocks) if self._blocks else np.zeros(0)
        powers = powers[powers > _power(_ABSOLUTE_GATE)]
        if not len(powers):
            return None
        loud = powers[powers > powers.mean() * 10 ** (_RELATIVE_GATE / 10)]
        return _OFFSET + 10 * math.log10(float(loud.mean()))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))
