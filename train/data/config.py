"""How documents become batches: the table `[data]` of a training recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from reelmill.config import free
from reelmill.errors import ConfigError
from reelmill.tokenize.documents import TokenKind

Kind = Literal["text", "image", "video", "interleaved"]
LOSS_KINDS = (TokenKind.TEXT, TokenKind.STRUCTURE, TokenKind.VISION)


@dataclass(kw_only=True)
class DataConfig:
    """How documents become batches, and the loss weights of their tokens."""

    context: int = 5120
    """Predictions per row."""
    batch_rows: int = 1024
    """Rows per step over all ranks; gradients of several forward passes are accumulated."""
    micro_rows: int = free(1)
    """Rows per forward pass on one rank."""
    kinds: tuple[Kind, ...] = ("text", "image", "video", "interleaved")
    """Kinds of documents used for training and validation; Emu3's first stage leaves out video."""
    heldout: float = 0.01
    """Share of the items, chosen by a hash of item_id, that are held out for validation."""
    shares: list[float] = field(default_factory=list)
    """The share of each run folder in an epoch's tokens, in the order of the folders; if empty, each gives all that it
    has. Only their ratio counts (`epochs.py`)."""
    caption_drop: float = 0.0
    """Share of the images and videos whose caption before the codes is dropped, redrawn each epoch: guidance needs a
    model that also draws without a prompt (0.05 in Emu3's released script)."""
    caption_after: float = 0.0
    """Share of the images and videos whose caption is moved from before the codes behind them, drawn anew each epoch: a
    model that is to say what it sees. Those that are stored so (`tokens.caption_after`) stay so."""
    question_drop: float = 0.0
    """Share of the documents of Emu3.5's tasks whose task and question are left out, drawn anew each epoch: the answer
    then follows the prompt that guidance goes away from, with the pictures that were given."""
    text_weight: float = 1.0
    """Loss weight of text."""
    structure_weight: float = 1.0
    """Loss weight of tokens that are neither text nor codes."""
    ends_weight: float | None = None
    """Loss weight of EOL, EOF and EOI alone, whose place follows from the header; `structure_weight` where not set."""
    vision_weight: float = 0.5
    """Loss weight of codes (Emu3, section 2.4)."""
    lessons: int = 0
    """Synthetic documents of random codes that an epoch adds for each image and video (`synthetic.py`)."""
    shuffle_mb: float = 1024.0
    """MB of decoded row groups among which documents are shuffled (`epochs.py`); a rank holds those, and at most two
    row groups more of each run folder."""
    fingerprint: str = ""
    """First digits of the tokens' fingerprint, where a run folder has several tokenizations."""

    def for_validation(self) -> DataConfig:
        """The same for validation: each document once, whole and with its caption, and no synthetic ones."""
        return replace(self, shares=[], caption_drop=0.0, question_drop=0.0, lessons=0)


class Mixture(NamedTuple):
    """Run folders; of all or none of them a share (`DataConfig.shares`); of each a condition in SQL, empty for none."""

    folders: list[Path]
    shares: list[float]
    conditions: list[str]


def mixture(values: Sequence[str]) -> Mixture:
    """What `--data` says: run folders, each with its share of the tokens behind it (`out/web=0.7`) or all without, and
    with what has to hold of its samples (`out/web=0.7 WHERE width >= 512`).

    A folder of that very name is the folder itself. Raises ConfigError where only some have a share.
    """
    folders: list[Path] = []
    shares: list[float] = []
    conditions: list[str] = []
    for whole in values:
        value, *condition = [whole] if Path(whole).exists() else re.split(r"\s+where\s+", whole, maxsplit=1, flags=re.I)
        conditions.append("".join(condition).strip())
        folder, equals, share = value.rpartition("=")
        if equals and not Path(value).exists():
            try:
                shares.append(float(share))
            except ValueError:
                raise ConfigError(f"--data {value}: {share!r} is no share; write it as FOLDER=0.7") from None
            folders.append(Path(folder))
        else:
            folders.append(Path(value))
    if shares and len(shares) < len(folders):
        raise ConfigError(f"--data: {len(shares)} of {len(folders)} run folders have a share; give it to all or none.")
    return Mixture(folders, shares, conditions)
