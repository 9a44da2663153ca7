"""Whisper through faster-whisper, with the times of words, in batches of clips (Radford et al. 2022)."""

from __future__ import annotations

import bisect
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reelmill import weights
from reelmill.curation.captions.contract import Resources
from reelmill.curation.speech.checkpoints import whisper_folder
from reelmill.curation.speech.config import WhisperConfig
from reelmill.curation.speech.contract import Clip, Segment, Transcriber, Word
from reelmill.errors import ConfigError
from reelmill.media.audio import RATE

OWN = "whisper-base"
_CARDS = (OWN, f"{OWN}-config", f"{OWN}-tokenizer", f"{OWN}-vocabulary")
_FRAMES_PER_S = 100


class WhisperTranscriber(Transcriber):
    """Any Whisper for CTranslate2 or Transformers. Languages are the model's own guess, once for each item."""

    Config: ClassVar[type[Any]] = WhisperConfig

    def resources(self) -> Resources | None:
        """Workers of its own: a model takes memory, and on a GPU a share of it."""
        config: WhisperConfig = self.config
        return Resources(config.workers or (1 if config.gpus else 0), config.gpus)

    def check(self, table: str) -> None:
        """A model is named."""
        if not self.config.model:
            raise ConfigError(f"{table}.model is empty; name the model whose transcripts these are")

    def require(self) -> None:
        """The weights of the registry's model are here; a checkpoint of Transformers is converted."""
        for card in _CARDS if self.config.model == OWN else ():
            weights.path(card)
        if self.config.model != OWN:
            whisper_folder(self.config.model)

    def setup(self) -> None:
        """Load the model: float16 on a GPU, int8 on one thread of a CPU."""
        try:
            from faster_whisper import BatchedInferencePipeline, WhisperModel
        except ImportError as error:
            raise ConfigError(
                f"transcripts by whisper need faster-whisper: pip install 'reelmill[asr]' ({error})"
            ) from None
        on = {"device": "cuda", "compute_type": "float16"} if self.config.gpus else {"device": "cpu"}
        options = {"compute_type": "int8", "cpu_threads": 1, **on}
        if self.config.model == OWN:
            with tempfile.TemporaryDirectory(prefix="reelmill-whisper-") as folder:
                for card in _CARDS:
                    file = weights.path(card)
                    (Path(folder) / file.name).symlink_to(file)
                model = WhisperModel(folder, **options)
        else:
            model = WhisperModel(str(whisper_folder(self.config.model) or self.config.model), **options)
        self._pipeline: Any = BatchedInferencePipeline(model)

    def transcribe(self, clips: Sequence[Clip]) -> list[Segment]:
        """Segments of at most a clip."""
        return list(self._segments(clips)) if clips else []

    def _segments(self, clips: Sequence[Clip]) -> Iterator[Segment]:
        sound = np.concatenate([clip.samples for clip in clips]).astype(np.float32) / 32768
        ends = np.cumsum([len(clip.samples) for clip in clips]) / RATE
        starts = [0.0, *ends[:-1].tolist()]
        found, info = self._pipeline.transcribe(
            sound,
            language=self.config.language or None,
            beam_size=self.config.beam,
            batch_size=self.config.batch,
            word_timestamps=True,
            vad_filter=False,
            language_detection_segments=3,
            clip_timestamps=[{"start": start, "end": end} for start, end in zip(starts, ends.tolist(), strict=True)],
        )
        frames = [int(start * _FRAMES_PER_S) for start in starts]
        for segment in found:
            clip = bisect.bisect_right(frames, segment.seek) - 1
            shift = clips[clip].start_s - starts[clip]
            words = [
                Word(word.word.strip(), word.start + shift, word.end + shift, word.probability)
                for word in segment.words or ()
                if word.word.strip()
            ]
            start_s = words[0].start_s if words else segment.start + shift
            end_s = words[-1].end_s if words else segment.end + shift
            sure = {"no_speech": segment.no_speech_prob, "logprob": segment.avg_logprob}
            yield Segment(start_s, end_s, segment.text.strip(), words, info.language, **sure)
