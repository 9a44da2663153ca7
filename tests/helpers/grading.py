"""Pictures as a camera or a grader stores them: in high dynamic range, wide primaries, 8 to 12 bits."""

import av
import numpy as np
from odd_media import HEIGHT, WIDTH, film, picture

BT709, BT2020_10, PQ, HLG = 1, 14, 16, 18
BT2020, P3 = 9, 12
NCL = 9
TV, PC = 1, 2
PRIMARIES = {
    BT709: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}


def to_xyz(primaries):
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[primaries]]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


def light_of(image):
    """Linear light of an sRGB picture."""
    value = image.astype(float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def signal(light, transfer):
    """What a camera or a grader stores for light (1: white), 0 to 1."""
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = (light * 203 / 10_000) ** m1
        return ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    if transfer == HLG:
        shown = light * 203 / 1000
        luminance = np.maximum(shown @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
        scene = shown * luminance ** (1 / 1.2 - 1)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def coded(image, transfer, primaries, bits=10, span=TV, matrix=(0.2627, 0.0593)):
    """A frame of planar Y'CbCr of `bits` that shows an sRGB image."""
    light = np.clip(light_of(image) @ (np.linalg.inv(to_xyz(primaries)) @ to_xyz(BT709)).T, 0, None)
    value = signal(light, transfer)
    kr, kb = matrix
    y = value @ [kr, 1 - kr - kb, kb]
    cb, cr = (value[..., 2] - y) / (2 - 2 * kb), (value[..., 0] - y) / (2 - 2 * kr)
    unit = 1 << bits - 8
    if span == TV:
        planes = [y * 219 * unit + 16 * unit, cb * 224 * unit + 128 * unit, cr * 224 * unit + 128 * unit]
    else:
        most = 256 * unit - 1
        planes = [y * most, cb * most + 128 * unit, cr * most + 128 * unit]
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv444p" if bits == 8 else f"yuv444p{bits}le")
    for plane, values in zip(frame.planes, planes, strict=True):
        stored = np.zeros((HEIGHT, plane.line_size // (1 if bits == 8 else 2)), np.uint8 if bits == 8 else np.uint16)
        stored[:, :WIDTH] = np.round(np.clip(values, 0, 256 * unit - 1))
        plane.update(stored.tobytes())
    return frame


def graded(path, transfer, primaries, bits=10, span=TV, count=3):
    """A lossless file of our pictures in other colours."""
    frames = [coded(picture(n), transfer, primaries, bits, span) for n in range(count)]
    how = {"width": WIDTH, "height": HEIGHT, "codec": "ffv1", "pixels": frames[0].format.name}
    return film(path, frames, colours=(NCL, transfer, primaries, span), options={"level": "3"}, **how)
