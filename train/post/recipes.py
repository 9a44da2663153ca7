"""Post-training recipes: each a function that returns a `TrainConfig`."""

from __future__ import annotations

from collections.abc import Callable

from reelmill.train.trainer import TrainConfig

RECIPES: dict[str, Callable[[], TrainConfig]] = {}
