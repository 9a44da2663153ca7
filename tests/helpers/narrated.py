"""Narrated videos with known facts: a how-to of steps with a picture each, and one speaker before one camera."""

import numpy as np
from videos import textured
from voices import babble, silence

STEPS = ("Fold the paper in half.", "Now open it again.", "Fold both corners down.", "Your plane is ready.")
STEP_S = 4.0


def how_to(step):
    """Frames of a step, 4 s at 8 frames/s: a picture of its own that drifts."""
    picture = checked(step, 400)
    return [np.ascontiguousarray(picture[:, n : n + 320]) for n in range(32)]


def checked(seed, width):
    """A sharp picture: a texture under a fine pattern."""
    pattern = np.indices((240, width)).sum(axis=0) // 4 % 2 * 60
    return np.clip(textured(seed, 240, width).astype(int) + pattern[..., None] - 30, 0, 255).astype(np.uint8)


def speaker():
    """Frames of one speaker before one camera: a head that sways and a mouth."""
    rows, columns = np.indices((240, 320))
    background = checked(9, 320)
    for n in range(128):
        frame = background.copy()
        middle = 160 + 12 * np.sin(n / 7)
        frame[((rows - 120) / 90) ** 2 + ((columns - middle) / 60) ** 2 < 1] = (230, 190, 160)
        frame[160 : 164 + n % 8, int(middle) - 20 : int(middle) + 20] = 30
        yield frame


def subtitles(path, lines):
    clock = [
        f"00:00:{n * STEP_S + 1:06.3f} --> 00:00:{n * STEP_S + 3:06.3f}".replace(".", ",") for n in range(len(lines))
    ]
    path.write_text("\n\n".join(f"{n}\n{at}\n{line}" for n, (at, line) in enumerate(zip(clock, lines, strict=True), 1)))


def speech():
    """Sound to the steps: a voice for two seconds in the middle of each."""
    return np.concatenate([part for _ in STEPS for part in (silence(1.0), babble(2.0), silence(1.0))])
