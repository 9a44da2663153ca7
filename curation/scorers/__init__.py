"""The scorers, by name. A name is what a recipe says; its module is imported only when the scorer is created."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelmill.config import from_dict
from reelmill.curation.interfaces import Scorer
from reelmill.registry import find_class

SCORERS: dict[str, str] = {
    "text": "reelmill.curation.scorers.text:TextScorer",
    "motion_dis": "reelmill.curation.scorers.motion:DisMotion",
    "motion_raft": "reelmill.curation.scorers.motion:RaftMotion",
    "motion_jitter": "reelmill.curation.scorers.jitter:Jitter",
    "colourfulness": "reelmill.curation.scorers.image_quality:Colourfulness",
    "tones": "reelmill.curation.scorers.image_quality:Tones",
    "quality": "reelmill.curation.scorers.image_quality:Quality",
    "artifacts": "reelmill.curation.scorers.artifacts:Artifacts",
    "phash": "reelmill.curation.scorers.perceptual_hash:PerceptualHash",
    "borders": "reelmill.curation.scorers.borders:Borders",
    "stillness": "reelmill.curation.scorers.stillness:Stillness",
    "camera": "reelmill.curation.scorers.camera:Camera",
    "watermark": "reelmill.curation.scorers.watermark:Watermark",
    "layout": "reelmill.curation.scorers.layout:Layout",
    "minhash": "reelmill.curation.scorers.minhash:MinHash",
    "aesthetic": "reelmill.curation.scorers.aesthetic:Aesthetic",
    "clip_alt": "reelmill.curation.scorers.clip_alt:ClipAlt",
    "clip_repeats": "reelmill.curation.scorers.clip_repeats:ClipRepeats",
    "contamination": "reelmill.curation.scorers.contamination:Contamination",
    "embedding": "reelmill.curation.scorers.embedding:Embedding",
    "faces": "reelmill.curation.scorers.faces:Faces",
    "hps": "reelmill.curation.scorers.preference:HPS",
    "language": "reelmill.curation.scorers.language:Language",
    "lid176": "reelmill.curation.scorers.lid176:Lid176",
    "gopher_quality": "reelmill.curation.scorers.gopher:GopherQuality",
    "gopher_repetition": "reelmill.curation.scorers.gopher:GopherRepetition",
    "c4": "reelmill.curation.scorers.c4:C4",
    "fineweb": "reelmill.curation.scorers.fineweb:FineWeb",
    "mps": "reelmill.curation.scorers.preference:MPS",
    "nsfw": "reelmill.curation.scorers.nsfw:Nsfw",
}


def scorer_class(name: str) -> type[Scorer]:
    """The class behind a name, or behind `package.module:Class` for a scorer of one's own.

    Raises ConfigError when there is none.
    """
    return find_class("scorer", name, SCORERS, Scorer)  # type: ignore[type-abstract]


def create(name: str, options: Mapping[str, Any] | None = None) -> Scorer:
    """A scorer by name, its `Config` filled from `options` (a recipe's table); ConfigError for a wrong option."""
    cls = scorer_class(name)
    return cls(from_dict(cls.Config, options or {}, f"scorers.{name}"))
