"""Options of sound and of transcripts, apart from the code so that reading a recipe imports no model."""

from __future__ import annotations

from dataclasses import dataclass, field

from reelmill.config import free


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


@dataclass
class WhisperConfig:
    """Whisper by faster-whisper, in workers of its own (`pip install 'reelmill[asr]'`)."""

    model: str = "whisper-base"
    """`whisper-base` of the registry; a folder of a model for CTranslate2, or of a checkpoint of Transformers; an
    address of either on the hub, such as `openai/whisper-large-v3`; or a name that faster-whisper downloads, such as
    `large-v2` (Emu3.5's)."""
    language: str = ""
    """Language of all speech, such as `en`; where it is empty the model says so for each item."""
    beam: int = 5
    """Beams of the search."""
    batch: int = free(8)
    """Clips of at most 30 s that are decoded together."""
    workers: int = free(0)
    """Worker processes; 0 means one for each CPU, with GPUs one."""
    gpus: float = free(0.0)
    """Share of a GPU for one worker (float16); 0: the CPU (int8)."""


@dataclass
class TranscriptionEndpointConfig:
    """An endpoint that speaks OpenAI's transcription API."""

    url: str = free("")
    """Up to and with the version: `http://127.0.0.1:8000/v1`."""
    model: str = ""
    """The model to ask, as the endpoint names it."""
    api_key_env: str = free("REELMILL_API_KEY")
    """Environment variable with the key, sent as a bearer token where it is set."""
    request_s: float = free(300.0)
    """Most seconds for one answer."""
    tries: int = free(4)
    """How often a request is tried."""
    backoff_s: float = free(1.0)
    """Wait before the second try, doubled before each further one, at most 60 s."""
    max_response_bytes: int = free(1 << 22)
    """Bytes of an answer, at most."""


@dataclass
class HallucinationConfig:
    """What is said on silence and music, and is dropped with a reason. Bounds of Whisper's own decoder where it has
    them (`no_speech_threshold`, `logprob_threshold`, `compression_ratio_threshold`)."""

    no_speech: float = 0.6
    """Probability of no speech above which an unsure segment is none."""
    logprob: float = -1.0
    """Mean log-probability of a token below which a segment is unsure."""
    compression: float = 2.4
    """Bytes of a text over its compressed bytes; above this it repeats itself."""
    repeats: int = 4
    """As many times the same one to four words in a row are no speech."""
    words_per_s: float = 8.0
    """Words a second that nobody speaks; of Chinese and Japanese, characters."""
    drop_phrases: bool = True
    """Whether phrases that recognisers are known to invent, such as thanks for watching, are dropped."""


@dataclass
class TranscriptConfig:
    """Who says what was spoken."""

    sources: list[str] = field(default_factory=list)
    """Of subtitles, whisper, endpoint and `package.module:Class`, in the order of preference: a later one is asked
    only about items of which an earlier one has no good words. None: nothing is transcribed."""
    wait: bool = free(True)
    """An item that could not be transcribed is not tokenized before a rerun has asked again."""
    batch_s: float = free(1800.0)
    """Seconds of speech whose transcripts are committed together: what a kill may cost."""
    whisper: WhisperConfig = field(default_factory=WhisperConfig)
    endpoint: TranscriptionEndpointConfig = field(default_factory=TranscriptionEndpointConfig)
    checks: HallucinationConfig = field(default_factory=HallucinationConfig)

    def model_of(self, source: str) -> str:
        """The model that a source's rows name; empty for subtitles and for a class of one's own."""
        return {"whisper": self.whisper.model, "endpoint": self.endpoint.model}.get(source, "")

    def requested(self) -> list[tuple[str, str]]:
        """Sources and their models in the order of preference."""
        return [(source, self.model_of(source)) for source in self.sources]
