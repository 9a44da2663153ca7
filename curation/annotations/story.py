"""A narrated sample as models are asked about it: its sentences, its scenes, and what has been answered already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from reelmill.curation.annotations.prompts import Prompts
from reelmill.curation.narration import Block

Row = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A scene with key frames that are kept, and when it ends, in seconds."""

    start_s: float
    end_s: float
    frames: list[Block]


@dataclass
class Story:
    """A sample with its sentences and scenes. `answered`: its rows of annotations so far, `fresh`: new ones."""

    sample: Mapping[str, Any]
    sentences: list[Block]
    scenes: list[Scene]
    language: str
    prompts: Prompts
    answered: list[Row]
    fresh: list[Row] = field(default_factory=list)

    def lacks(self, kind: str, part: int = 0) -> bool:
        """Whether this part was not answered yet, neither well nor badly."""
        whole = kind != "scene"
        return not any(row["kind"] == kind and (whole or row["part"] == part) for row in self._rows())

    @property
    def is_told(self) -> bool:
        """Whether all but the summary of the whole is answered."""
        return not (self.sentences and self.lacks("segment")) and not any(
            self.lacks("scene", part) for part in range(len(self.scenes))
        )

    def question(self, kind: str, part: int = 0) -> str:
        """What a model is asked."""
        return self.prompts.question(kind, self._filling(kind, part))

    @property
    def transcript(self) -> str:
        """All sentences, one a line."""
        return "\n".join(_line(sentence.text) for sentence in self.sentences)

    def _filling(self, kind: str, part: int) -> dict[str, str]:
        if kind == "segment":
            numbered = enumerate(self.sentences, 1)
            return {"sentences": "\n".join(f"{n}. [{s.start_s:.1f}s] {_line(s.text)}" for n, s in numbered)}
        if kind == "scene":
            scene = self.scenes[part]
            said = (s for s in self.sentences if s.end_s > scene.start_s and s.start_s < scene.end_s)
            return {"said": "\n".join(_line(s.text) for s in said) or "-"}
        good = {kind: self._good(kind) or "-" for kind in ("segment", "scene")}
        return {"transcript": self.transcript or "-", "segments": good["segment"], "scenes": good["scene"]}

    def _good(self, kind: str) -> str:
        rows = sorted(
            (row for row in self._rows() if row["kind"] == kind and row["problem"] is None),
            key=lambda row: (row["start_s"], row["part"]),
        )
        return "\n".join(f"[{row['start_s']:.1f}s] {row['text']}" for row in rows)

    def _rows(self) -> list[Row]:
        return [*self.answered, *self.fresh]


def scenes(keyframes: Sequence[Mapping[str, Any]], frames: Sequence[Block], most: int) -> list[Scene]:
    """Scenes with kept key frames (`frames`, blocks of the sample's column `keyframes`), at most `most` frames each."""
    found = []
    for start_s, group in groupby(frames, key=lambda block: block.scene_s):
        blocks = list(group)
        step = max(len(blocks) / most, 1.0)
        shown = [blocks[int((n + 0.5) * step)] for n in range(min(len(blocks), most))]
        assert start_s is not None and blocks[0].frame is not None
        found.append(Scene(start_s, keyframes[blocks[0].frame]["scene_end_s"], shown))
    return found


def _line(text: str) -> str:
    return " ".join(text.split())
