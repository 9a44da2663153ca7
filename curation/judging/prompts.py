"""What models are asked to judge about a narrated video, by language."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reelmill.config import from_dict, read_toml
from reelmill.errors import ConfigError

PROMPTS = Path(__file__).with_name("prompts.toml")
_TRANSCRIPT = "{transcript}"


@dataclass
class JudgePrompts:
    """The prompts of one language; `speech` has the blank `{transcript}`."""

    speech: str
    talking_head: str
    frames: str

    def question(self, judge: str, transcript: str) -> str:
        """A prompt with its blank filled in."""
        prompt: str = getattr(self, judge)
        return prompt.strip().replace(_TRANSCRIPT, transcript)


def load_prompts(file: str = "") -> dict[str, JudgePrompts]:
    """Prompts by language, `en` and `zh`, from a TOML file or the shipped one. Raises ConfigError."""
    place = Path(file) if file else PROMPTS
    loaded = {language: from_dict(JudgePrompts, table, language) for language, table in read_toml(place).items()}
    if missing := {"en", "zh"} - loaded.keys():
        raise ConfigError(f"{place} has no prompts for {', '.join(sorted(missing))}; it has a table for en and for zh")
    for language, prompts in loaded.items():
        if _TRANSCRIPT not in prompts.speech:
            raise ConfigError(f"{place}: {language}.speech has no {_TRANSCRIPT}, where the transcript is filled in")
    return loaded
