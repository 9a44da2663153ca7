"""What models are asked about a narrated video, by language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reelmill.config import from_dict, read_toml
from reelmill.errors import ConfigError

PROMPTS = Path(__file__).with_name("prompts.toml")
_BLANK = re.compile(r"\{(\w+)\}")
_BLANKS = {"segments": {"sentences"}, "scene": {"said"}, "summary": {"transcript", "segments", "scenes"}}


@dataclass
class Prompts:
    """The prompts of one language, with blanks such as `{transcript}`."""

    segments: str
    scene: str
    summary: str

    def question(self, kind: str, filling: Mapping[str, str]) -> str:
        """A prompt with its blanks filled in; braces of what is filled in stay as they are."""
        return _BLANK.sub(lambda blank: filling[blank[1]], self._prompt(kind))

    def own_words(self, kind: str) -> list[str]:
        """What the prompt says beside what is filled in: an answer that repeats it is a leak."""
        return _BLANK.split(self._prompt(kind))[::2]

    def _prompt(self, kind: str) -> str:
        return {"segment": self.segments, "scene": self.scene, "summary": self.summary}[kind].strip()


def load_prompts(file: str = "") -> dict[str, Prompts]:
    """Prompts by language, `en` and `zh`, from a TOML file or the shipped one. Raises ConfigError."""
    place = Path(file) if file else PROMPTS
    loaded = {language: from_dict(Prompts, table, language) for language, table in read_toml(place).items()}
    if missing := {"en", "zh"} - loaded.keys():
        raise ConfigError(f"{place} has no prompts for {', '.join(sorted(missing))}; it has a table for en and for zh")
    for language, prompts in loaded.items():
        for name, blanks in _BLANKS.items():
            if {blank[1] for blank in _BLANK.finditer(getattr(prompts, name))} != blanks:
                wanted = ", ".join(f"{{{blank}}}" for blank in sorted(blanks))
                raise ConfigError(f"{place}: {language}.{name} has other blanks than {wanted}")
    return loaded
