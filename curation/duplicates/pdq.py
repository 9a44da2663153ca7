"""PDQ, a perceptual hash of 256 bits for photographs: pictures that look alike differ in few bits.

Meta's "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (2019): luma, a tent filter down to
64 x 64, the 16 x 16 lowest frequencies of a cosine transform but the constant ones, each above their median or not.
Hashes here are uint8 [..., 32], most significant bit first, so that their hex digits are PDQ's own.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint8]
Luma = npt.NDArray[np.float32]

SIDE = 64
FREQUENCIES = 16
BYTES = 32
DIHEDRALS = 8
"""The ways to mirror and turn a square: bit 0 mirrors left and right, bit 1 top and bottom, bit 2 transposes first."""


def cosines(side: int) -> Luma:
    """The transform's matrix [16, side]: frequencies 1 to 16 over `side` samples."""
    angles = np.pi / (2 * side) * np.outer(np.arange(1, FREQUENCIES + 1), 2 * np.arange(side) + 1)
    return np.asarray(np.sqrt(2 / side) * np.cos(angles), np.float32)


_COSINES = cosines(SIDE)
_ODD = np.arange(FREQUENCIES) % 2 == 0  # frequency 1, 3, ...: those that a mirror turns round


def shrunk(image: npt.NDArray[np.uint8]) -> Luma:
    """Luma [64, 64] of an RGB picture, filtered as PDQ does: two box filters of 1/128 of each side."""
    luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    for _ in range(2):
        for axis in (1, 0):
            luma = _box(luma, axis)
    rows, columns = (((np.arange(SIDE) + 0.5) * side / SIDE).astype(int) for side in luma.shape)
    return np.ascontiguousarray(luma[rows][:, columns])


def detail(luma: Luma) -> int:
    """How much there is to tell a picture by, 0 to 100: PDQ's quality. Under 50 hashes are no evidence."""
    steps = [np.abs((np.diff(luma, axis=axis) * 100 / 255).astype(int)).sum() for axis in (0, 1)]
    return min(int(sum(steps)) // 90, 100)


def pdq(luma: Luma) -> Hashes:
    """The hash, uint8 [32], of a picture `shrunk` to 64 x 64."""
    return hashes(np.asarray(_COSINES @ luma @ _COSINES.T, np.float32))


def hashes(frequencies: Luma) -> Hashes:
    """Hashes [..., 32] of transforms [..., 16, 16]: which frequencies are above the median."""
    flat = frequencies.reshape(*frequencies.shape[:-2], FREQUENCIES**2)
    above = flat > np.median(flat, axis=-1, keepdims=True)
    return np.packbits(above[..., ::-1], axis=-1)


def margins(frequencies: Luma) -> Luma:
    """[..., 256]: how far each of transforms [..., 16, 16] is from the median, where its bit would be the other."""
    flat = frequencies.reshape(*frequencies.shape[:-2], FREQUENCIES**2)
    return np.asarray(np.abs(flat - np.median(flat, axis=-1, keepdims=True)), np.float32)


def turned(frequencies: Luma, dihedral: int) -> Luma:
    """Transforms [..., 16, 16] of the same pictures mirrored or turned."""
    found = np.swapaxes(frequencies, -1, -2) if dihedral & 4 else frequencies
    found = np.where(_ODD[None, :], -found, found) if dihedral & 1 else found
    return np.where(_ODD[:, None], -found, found) if dihedral & 2 else found


def turned_picture(picture: Luma, dihedral: int) -> Luma:
    """A square picture mirrored or turned, as `turned` does with its transform."""
    found = picture.T if dihedral & 4 else picture
    found = found[:, ::-1] if dihedral & 1 else found
    return np.ascontiguousarray(found[::-1] if dihedral & 2 else found)


def distances(some: Hashes, others: Hashes) -> npt.NDArray[np.int64]:
    """Bits in which hashes [..., 32] differ: 0 for the same, about 128 for pictures that have nothing in common."""
    differ = np.bitwise_xor(_words(some), _words(others))
    return np.asarray(np.bitwise_count(differ).sum(axis=-1), np.int64)


def _words(found: Hashes) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(found).view(np.uint64)


def _box(luma: Luma, axis: int) -> Luma:
    """The mean over a window of 1/128 of the side; what lies outside of the picture does not count."""
    size = (luma.shape[axis] + 127) // 128
    before = size - (size + 2) // 2
    kernel, anchor = ((1, size), (0, before)) if axis == 0 else ((size, 1), (before, 0))

    def summed(values: Luma) -> Luma:
        box = cv2.boxFilter(values, -1, kernel, anchor=anchor, normalize=False, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(box, np.float32)

    return np.asarray(summed(luma) / summed(np.ones_like(luma)), np.float32)
