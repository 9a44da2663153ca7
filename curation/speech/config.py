"""Options of sound and of transcripts, apart from the code so that reading a recipe imports no model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SoundConfig:
    """What is measured of an item's sound."""

    measure: bool = False
    """Whether the sound of videos and of files with sound alone is decoded and measured (table `audio`)."""
    silence_db: float = -50.0
    """Tenths of a second below this level, in dB of full scale, are silence."""
    voice: float = 0.5
    """Probability from which on there is a voice (silero-vad's default)."""
    voice_ends: float = 0.35
    """Probability below which a voice that was there has ended (silero-vad's default: 0.15 less)."""
    min_speech_s: float = 0.25
    """Shorter speech is none (silero-vad's default)."""
    min_pause_s: float = 0.3
    """Shorter pauses do not end a span of speech; ours, so that a span holds sentences and not words."""
    pad_s: float = 0.1
    """What is added to a span of speech on either side, up to half of the pause."""
