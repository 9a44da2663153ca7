"""What models are asked: a text for images, and for videos one about content and one about motion, by language."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reelmill.config import from_dict, read_toml

PROMPTS = Path(__file__).with_name("prompts.toml")


@dataclass
class Prompts:
    """The prompts of one language."""

    image: str
    content: str
    motion: str

    def prompt(self, kind: str) -> str:
        """What a model is asked about a sample of this kind."""
        return self.image if kind == "image" else f"{self.content} {self.motion}"


def load_prompts(file: str = "") -> dict[str, Prompts]:
    """Prompts by language, from a TOML file or the shipped one. Raises ConfigError."""
    tables = read_toml(Path(file) if file else PROMPTS)
    loaded = {language: from_dict(Prompts, table, language) for language, table in tables.items()}
    return {language: Prompts(p.image.strip(), p.content.strip(), p.motion.strip()) for language, p in loaded.items()}


def prompt_language(sample_id: str, languages: Sequence[str]) -> str:
    """The language to ask in, drawn by a hash of the sample's id."""
    digest = hashlib.sha256(f"prompt|{sample_id}".encode()).digest()
    return languages[int.from_bytes(digest[:8], "big") % len(languages)]
