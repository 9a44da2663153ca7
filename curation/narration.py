"""Narrated videos: spoken sentences and key frames in order of time, cut into documents. Pure functions.

Emu3.5 merges transcripts, which spaCy segments by pauses and syntax, with key frames by their timestamps (its report,
section 3.1.1), and discloses no more. Here a sentence ends with its punctuation, or with a pause, in any language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reelmill.curation.syntax import sentence_starts

_ENDS = ".!?…。！？｡؟।"
_CLOSING = "\"'”’»)]」』）】"
_WIDE_FROM = "\u3000"
_ABBREVIATIONS = ("mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "e.g.", "i.e.", "no.", "fig.", "approx.", "inc.")


CARRY = ("captions", "summaries")


@dataclass
class NarrationConfig:
    """How a narrated video becomes documents."""

    max_tokens: int = 32_768
    """Tokens of a document, at most (Emu3.5 section 3.2: its context is 32,768)."""
    pause_s: float = 0.8
    """A longer pause ends a sentence; ours."""
    sentence_s: float = 30.0
    """A longer sentence ends with the next word; ours, for recognisers that set no punctuation."""
    spacy: str = ""
    """A spaCy pipeline by name or folder, such as `xx_sent_ud_sm`, which divides sentences by syntax too; where it is
    empty they end with punctuation and pauses alone."""
    timestamps: bool = False
    """Whether each sentence begins with its second, as text: `[12.5s] Now fold it.`"""
    distinct: bool = False
    """Whether key frames are left out that look like an earlier one of the video (the table `alike`, by the hashes of
    scorer `phash`)."""
    carry: list[str] = field(default_factory=list)
    """Annotations that documents carry beside the transcript, by the models of `[annotations]`. `captions`: a scene's
    caption before its first key frame, as a thought (BOC, EOC). `summaries`: the summary of the whole and those of the
    segments that the document covers, before all else as the global thought (BOG, EOG)."""


@dataclass(frozen=True)
class Block:
    """A spoken sentence (`text`), or the key frame of this index (`frame`), seconds of the item. `scene_s`: where the
    scene of a key frame begins."""

    start_s: float
    end_s: float
    text: str = ""
    frame: int | None = None
    scene_s: float | None = None

    @property
    def middle_s(self) -> float:
        """The second by which it is put in order, and into a sample."""
        return (self.start_s + self.end_s) / 2

    @property
    def order(self) -> tuple[float, bool]:
        """A key frame stands before a sentence whose middle it precedes: no sentence is divided."""
        return (self.middle_s, self.frame is None)


def sentences(segments: Iterable[Mapping[str, Any]], config: NarrationConfig) -> list[Block]:
    """Sentences of an item's segments (rows of `chosen_transcripts`), by the times of their words."""
    words = [word for segment in segments for word in segment["words"] or ()]
    stretches = _stretches(sorted(words, key=lambda word: float(word["start_s"])), config.pause_s)
    return [_sentence(part) for stretch in stretches for part in _divided(stretch, config)]


def keyframe_blocks(keyframes: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Key frames without a problem, of a sample's column `keyframes`, as blocks."""
    return [
        Block(k["time_s"], k["time_s"], frame=index, scene_s=k["scene_start_s"])
        for index, k in enumerate(keyframes)
        if k["problem"] is None
    ]


def split(blocks: Sequence[Block], cost: Callable[[Block], int], most: int) -> Iterator[list[Block]]:
    """Blocks in order of time, in documents whose blocks cost at most `most` tokens together.

    A document ends at the last border of scenes in its second half, else between any two blocks, never inside one. A
    block that costs more than `most` is left out.
    """
    held: list[Block] = []
    costs: list[int] = []
    for block in sorted(blocks, key=lambda block: block.order):
        tokens = cost(block)
        if tokens > most:
            continue
        while held and sum(costs) + tokens > most:
            at = _border(held, costs, block)
            yield held[:at]
            held, costs = held[at:], costs[at:]
        held.append(block)
        costs.append(tokens)
    if held:
        yield held


def joined(words: Iterable[str]) -> str:
    """Words as a text: with blanks between them, but none beside Chinese characters, kana and their punctuation."""
    text = ""
    for word in words:
        blank = text and not (text[-1] >= _WIDE_FROM and word[:1] >= _WIDE_FROM)
        text += f" {word}" if blank else word
    return text


def _border(held: Sequence[Block], costs: Sequence[int], following: Block) -> int:
    """How many blocks the document keeps: up to the last change of scene in its second half, else all."""
    scenes, scene = [], None
    for block in [*held, following]:
        scene = block.scene_s if block.frame is not None else scene
        scenes.append(scene if block.frame is not None else None)
    half = sum(costs) / 2
    for at in range(len(held), 0, -1):
        if sum(costs[:at]) < half:
            break
        before = next((s for s in reversed(scenes[:at]) if s is not None), None)
        if scenes[at] is not None and scenes[at] != before:
            return at
    return len(held)


def _stretches(words: Iterable[Mapping[str, Any]], pause_s: float) -> Iterator[list[Mapping[str, Any]]]:
    """Words between pauses."""
    open_: list[Mapping[str, Any]] = []
    for word in words:
        if open_ and word["start_s"] - open_[-1]["end_s"] > pause_s:
            yield open_
            open_ = []
        open_.append(word)
    if open_:
        yield open_


def _divided(words: Sequence[Mapping[str, Any]], config: NarrationConfig) -> Iterator[list[Mapping[str, Any]]]:
    """The words of each sentence of a stretch without a pause."""
    said = [word["text"] for word in words]
    starts = sentence_starts(config.spacy, said, joined(said)) if config.spacy else ()
    open_: list[Mapping[str, Any]] = []
    for place, word in enumerate(words):
        if open_ and place in starts:
            yield open_
            open_ = []
        open_.append(word)
        if _ends(word["text"]) or word["end_s"] - open_[0]["start_s"] > config.sentence_s:
            yield open_
            open_ = []
    if open_:
        yield open_


def _sentence(words: Sequence[Mapping[str, Any]]) -> Block:
    return Block(words[0]["start_s"], words[-1]["end_s"], joined(word["text"] for word in words))


def _ends(word: str) -> bool:
    return word.rstrip(_CLOSING)[-1:] in tuple(_ENDS) and word.lower() not in _ABBREVIATIONS
