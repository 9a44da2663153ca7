"""A curation recipe: everything that a run does, as one config; and the one that a run folder was made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from reelmill.config import free_table, from_dict, read_toml
from reelmill.curation.annotations.config import AnnotationConfig
from reelmill.curation.captions.config import CaptionConfig
from reelmill.curation.duplicates.config import DuplicatesConfig
from reelmill.curation.fetching.config import FetchConfig
from reelmill.curation.judging.config import JudgingConfig
from reelmill.curation.quotas import Quota
from reelmill.curation.rules import Rule
from reelmill.curation.scoring import ScoreConfig
from reelmill.curation.speech.config import SoundConfig, TranscriptConfig
from reelmill.orchestration.engine import EngineConfig
from reelmill.orchestration.plan import PlanConfig
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.tokens_config import TokensConfig


@dataclass
class Recipe:
    """Everything `reelmill curate` does, in the order it does it."""

    name: str
    """What the recipe is called, in logs and on the dataset card."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    fetch: FetchConfig = free_table(FetchConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    sound: SoundConfig = field(default_factory=SoundConfig)
    transcripts: TranscriptConfig = field(default_factory=TranscriptConfig)
    licences: list[str] = field(default_factory=list)
    """Licences that are allowed; an item under another one, or under none, is rejected. Empty: all are allowed."""
    rules: dict[str, Rule] = field(default_factory=dict)
    """What is kept: rules in the order in which they judge; the first that fails is the reason."""
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    quotas: dict[str, Quota] = field(default_factory=dict)
    """How many of a kind, host or language are kept at most: quotas in the order in which they count."""
    selections: dict[str, list[str]] = field(default_factory=dict)
    """Named selections that each run decides beside `default`: assignments as of `reelmill select --set`."""
    judging: JudgingConfig = field(default_factory=JudgingConfig)
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    annotations: AnnotationConfig = field(default_factory=AnnotationConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    engine: EngineConfig = free_table(EngineConfig)


def load_recipe(out: Path) -> Recipe:
    """The recipe of a run folder. DataError where `out` is none, ConfigError where this version cannot read it."""
    return from_dict(Recipe, read_toml(RunFolder(out).require().recipe_path))
