"""Changes of a recipe's values, as a person writes them in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Settings = Mapping[str, Any] | Iterable[str]
"""`{"rules.motion.min": 0.02}`, or lines as of `--set`: `["rules.motion.min=0.02"]`."""


def assignments(settings: Settings) -> list[str]:
    """Lines as of `--set`."""
    if isinstance(settings, Mapping):
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    return list(settings)
