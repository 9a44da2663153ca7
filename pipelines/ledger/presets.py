"""Selections that have a name: what `reelmill select OUT NAME --preset PRESET` changes in the run's recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.pipelines.curate.recipes import STAGE2
from reelmill.pipelines.ledger.ranking import Ranking

QFT_AREA = 720 * 720


@dataclass(frozen=True)
class Preset:
    """Assignments as of `--set`, and how to rank what then passes."""

    assignments: tuple[str, ...]
    ranking: Ranking | None


def qft() -> Preset:
    """Emu3's quality fine-tuning (section 2.5.1): the best by preference and aesthetics, larger, in clear motion, 720².

    Disclosed: the three scores and their mean, stricter resolution and motion for video, 720 x 720. Chosen here: the
    best fifth; at least as many pixels as are tokenized, so that nothing is enlarged; motion from twice the lower bound
    of pretraining to 0.35 of the shorter side (pretraining: 0.5).
    """
    resolution = f'expr = "width * height", min = {QFT_AREA}, stage = "decode"'
    return Preset(
        (
            f'rules.resolution={{{resolution}, kinds = ["video"]}}',
            f'rules.image_resolution={{{resolution}, kinds = ["image"]}}',
            'rules.motion={expr = "motion_score", min = 0.08, max = 0.35, stage = "motion", kinds = ["video"]}',
            f"tokens.area={QFT_AREA}",
        ),
        Ranking(share=0.2),
    )


def emu3_5_stage2() -> Preset:
    """Emu3.5's advanced filter of its second stage (section 3.1.1), over a run of recipe `emu3_5`, which is the first.

    Recipe `emu3_5` decides it as selection `stage2`, too; `STAGE2` says what is disclosed and what is ours.
    """
    return Preset(STAGE2, None)


PRESETS: dict[str, Callable[[], Preset]] = {"qft": qft, "emu3_5_stage2": emu3_5_stage2}


def preset(name: str) -> Preset:
    """The preset of that name; ConfigError names the nearest one."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name]()
