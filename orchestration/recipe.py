"""A curation recipe: everything that a run does, as one config."""

from __future__ import annotations

from dataclasses import dataclass, field

from reelmill.config import free_table
from reelmill.curation.captions.config import CaptionConfig
from reelmill.curation.rules import Rule
from reelmill.curation.scoring import ScoreConfig
from reelmill.orchestration.engine import EngineConfig
from reelmill.orchestration.plan import PlanConfig
from reelmill.orchestration.tokens_config import TokensConfig


@dataclass
class Recipe:
    """Everything `reelmill curate` does, in the order it does it."""

    name: str
    plan: PlanConfig = field(default_factory=PlanConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    licences: list[str] = field(default_factory=list)
    """Licences that are allowed; an item under another one, or under none, is rejected. Empty: all are allowed."""
    rules: dict[str, Rule] = field(default_factory=dict)
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    engine: EngineConfig = free_table(EngineConfig)
