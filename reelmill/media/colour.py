"""Color: how the values of a video or a picture become sRGB.

High dynamic range is mapped to standard range so that what is at most as bright as white keeps its color: white is 203
cd/m² (Report ITU-R BT.2408, section 2), light is linear between the file's transfer function and sRGB's, and brighter
light is compressed smoothly into the last tenth (`tone`). Wide primaries are converted to BT.709's in linear light;
colors outside are clipped. Values of standard range with BT.709's primaries, or near ones, are sRGB's as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Transfer = Literal["sdr", "pq", "hlg", "linear"]
Primaries = Literal["bt709", "bt2020", "p3"]

WHITE_NITS = 203.0
"""Luminance of white (BT.2408: HDR reference white)."""
PEAK_NITS = 10_000.0
"""The brightest that PQ can say."""
HLG_PEAK_NITS = 1_000.0
"""Nominal peak of a display of HLG (BT.2100, table 5: system gamma 1.2)."""
KNEE = 0.9
"""Light up to this share of white is kept as it is."""

TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020", 10: "smpte428",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
RANGES = {1: "tv", 2: "pc"}
"""FFmpeg's names of the code points of ITU-T H.273; what is not here is unspecified."""


@dataclass(frozen=True)
class Conversion:
    """What has to be converted for sRGB."""

    transfer: Transfer
    primaries: Primaries


def conversion(transfer: int, primaries: int) -> Conversion | None:
    """What values of these code points (ITU-T H.273) need; None where they are sRGB's as they are."""
    how: Transfer = {16: "pq", 18: "hlg", 8: "linear"}.get(transfer, "sdr")  # type: ignore[assignment]
    unsaid = "bt2020" if how in ("pq", "hlg") else "bt709"
    gamut: Primaries = {1: "bt709", 9: "bt2020", 11: "p3", 12: "p3"}.get(primaries, unsaid)  # type: ignore[assignment]
    return None if (how, gamut) == ("sdr", "bt709") else Conversion(how, gamut)


def to_srgb(values: npt.NDArray[np.uint16], how: Conversion) -> npt.NDArray[np.uint8]:
    """R'G'B' values [H, W, 3] of full range, 0 to 65535, as sRGB."""
    light = _linear(how.transfer)[values]
    if how.transfer == "hlg":
        light = _displayed_hlg(light)
    if how.primaries != "bt709":
        light = cv2.transform(light, _matrix(how.primaries))
    light = np.maximum(light, 0.0)
    if how.transfer in ("pq", "hlg"):
        light *= tone_scale(light.max(axis=2, keepdims=True))
    codes = np.minimum(light * 65535.0 + 0.5, 65535.0).astype(np.uint16)
    encoded: npt.NDArray[np.uint8] = _encoded()[codes]
    return encoded


def tone(light: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The curve: light, 1 for white, to 0 to 1. Below KNEE nothing changes; above it is Reinhard's extended curve
    (Reinhard et al. 2002, equation 4) over what is left, with which PEAK_NITS is 1."""
    brightest = (PEAK_NITS / WHITE_NITS - KNEE) / (1 - KNEE)
    over = np.maximum(light - KNEE, 0.0) / (1 - KNEE)
    bent = over * (1 + over / brightest**2) / (1 + over)
    return np.where(light <= KNEE, light, KNEE + (1 - KNEE) * np.minimum(bent, 1.0)).astype(np.float32)


def tone_scale(brightest: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What R, G and B of a pixel are multiplied with, by the largest of them: hue and saturation stay."""
    return (tone(brightest) / np.maximum(brightest, 1e-6)).astype(np.float32)


@cache
def _linear(transfer: Transfer) -> npt.NDArray[np.float32]:
    """Linear light of each of 65,536 values: 1 is white; for HLG the light of the scene, 0 to 1."""
    value = np.arange(65536) / 65535
    if transfer == "pq":
        light = pq_nits(value) / WHITE_NITS
    elif transfer == "hlg":
        light = _hlg_scene(value)
    elif transfer == "linear":
        light = value
    else:
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


def pq_nits(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Luminance of a PQ signal (SMPTE ST 2084, equation 4.1)."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = value ** (1 / m2)
    nits: npt.NDArray[np.float64] = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return nits


def _hlg_scene(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """BT.2100, table 5: the inverse of HLG's OETF."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene: npt.NDArray[np.float64] = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return scene


def _displayed_hlg(scene: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """BT.2100, table 5: the OOTF for a display of 1,000 cd/m²; 1 is white then."""
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    shown: npt.NDArray[np.float32] = scene * (luminance**0.2 * np.float32(HLG_PEAK_NITS / WHITE_NITS))[..., None]
    return shown


@cache
def _encoded() -> npt.NDArray[np.uint8]:
    """sRGB (IEC 61966-2-1) of each of 65,536 values of linear light."""
    light = np.arange(65536) / 65535
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * value).astype(np.uint8)


_CHROMATICITIES = {  # red, green, blue (x, y); all have D65 as white
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


@cache
def _matrix(primaries: Primaries) -> npt.NDArray[np.float32]:
    """Linear RGB of these primaries to BT.709's."""
    return (np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: str) -> npt.NDArray[np.float64]:
    """SMPTE RP 177, section 3.3."""
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in _CHROMATICITIES[primaries]]).T
    x, y = _D65
    white = np.array([x / y, 1.0, (1 - x - y) / y])
    matrix: npt.NDArray[np.float64] = columns * np.linalg.solve(columns, white)
    return matrix


def over_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """[H, W, 4] with straight alpha, laid over white."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
