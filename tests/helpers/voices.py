"""Sound with known facts: a synthetic voice, tones, and files that hold them."""

import wave
from fractions import Fraction

import av
import numpy as np

RATE = 16_000


def babble(seconds, seed=0):
    """A synthetic voice, float32 [N] at 16 kHz: glottal pulses through three formants, a syllable each 0.22 s."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t) + 10 * np.sin(2 * np.pi * 2.3 * t)
    phase = np.cumsum(pitch) / RATE
    vowels = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]])
    syllables = (t / 0.22).astype(int)
    formants = vowels[np.random.default_rng(seed).integers(0, 5, syllables.max() + 1)][syllables]
    smooth = np.ones(480) / 480
    formants = np.stack([np.convolve(np.pad(f, (240, 239), "edge"), smooth, "valid") for f in formants.T], axis=1)
    out = np.zeros(len(t))
    for harmonic in range(1, 40):
        frequency = harmonic * pitch
        distance = (frequency[:, None] - formants) / np.array([60, 90, 120])
        gain = (np.array([1, 0.6, 0.3]) / (1 + distance**2)).sum(axis=1) / harmonic**0.3
        out += gain * np.sin(2 * np.pi * harmonic * phase) * (frequency < 7500)
    out *= 0.35 + 0.65 * np.sin(np.pi * ((t / 0.22) % 1)) ** 0.5
    return (out / np.abs(out).max() * 0.5).astype(np.float32)


def silence(seconds):
    return np.zeros(int(seconds * RATE), np.float32)


def tone(seconds, hertz, peak, rate=RATE):
    return (peak * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def write_wav(path, samples, rate=RATE, channels=1):
    """16-bit WAV; every channel holds the same."""
    data = np.repeat(np.round(samples * 32767).astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data.tobytes())
    return path


def write_spoken_video(path, frames, samples, fps=24, cues=(), begins_s=0.0, language=None):
    """A video with AAC sound from `begins_s` on, and subtitles [(start_s, end_s, text)] in the file."""
    with av.open(str(path), "w") as container:
        frames = list(frames)
        picture = container.add_stream("libx264", rate=fps)
        picture.height, picture.width, picture.pix_fmt = *frames[0].shape[:2], "yuv420p"
        picture.options = {"crf": "20", "g": "24", "threads": "1"}
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        if language:
            sound.metadata["language"] = language
        for index, frame in enumerate(frames):
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            shown.pts, shown.time_base = index, Fraction(1, fps)
            container.mux(picture.encode(shown))
        container.mux(picture.encode())
        for first in range(0, len(samples), 1024):
            heard = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="fltp", layout="mono")
            heard.pts, heard.sample_rate, heard.time_base = first + round(begins_s * RATE), RATE, Fraction(1, RATE)
            container.mux(sound.encode(heard))
        container.mux(sound.encode())
    return path
